package clientsync

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/streamcache"
	"stoa/matrix/canonicaljson"
)

const (
	// firstReceiptSlots is how far back in a room's receipts an initial sync goes, besides the viewer's own.
	firstReceiptSlots = 500
	// receiptLimit bounds the receipts of one room in one answer.
	receiptLimit = 2000
)

// takeReceipts reads receipts that memory does not hold, and leaves out what the viewer may not see.
//
// Spec: client-server-api#receipts
func (k *responseBuilder) takeReceipts() error {
	if k.initial {
		if err := k.firstReceipts(); err != nil {
			return err
		}
	}
	for _, e := range k.entries {
		if e.receiptsUnread || e.entered {
			if err := k.readReceipts(e); err != nil {
				return err
			}
		}
		for _, x := range e.receipts {
			e.ownReceipt = e.ownReceipt || x.User == k.req.UserNum
		}
	}
	return nil
}

// firstReceipts reads the receipts of an initial sync, of all rooms at once.
func (k *responseBuilder) firstReceipts() error {
	byRoom := map[store.RoomNum]*entry{}
	var nums []store.RoomNum
	for _, e := range k.entries {
		if e.joinedRoom && k.req.Filter.Room.Ephemeral.AllowsRoom(e.id) {
			byRoom[e.num] = e
			nums = append(nums, e.num)
		}
	}
	if !k.req.Filter.Room.Ephemeral.AllowsType("m.receipt") {
		return nil
	}
	own, err := roomdb.ReceiptsOf(k.read, k.req.UserNum, nums)
	if err != nil {
		return fmt.Errorf("read own receipts: %w", err)
	}
	list, err := roomdb.SyncReceipts(k.read, nums, k.req.UserNum, firstReceiptSlots)
	if err != nil {
		return fmt.Errorf("read receipts: %w", err)
	}
	for _, x := range append(list, own...) {
		e := byRoom[x.Room]
		e.receipts = append(e.receipts, x)
	}
	return nil
}

// readReceipts reads the receipts of one room after the token.
func (k *responseBuilder) readReceipts(e *entry) error {
	r, err := k.open(k.ctx)
	if err != nil {
		return err
	}
	if e.receiptsAfter == 0 && !e.entered {
		starts, err := r.RoomStarts([]store.RoomNum{e.num}, k.c.Since)
		if err != nil {
			return fmt.Errorf("read where a room stood: %w", err)
		}
		if len(starts) == 0 || starts[0].Receipts == 0 {
			return nil
		}
		e.receiptsAfter = starts[0].Receipts - 1
	}
	list, err := roomdb.ReceiptsSince(r, e.num, k.req.UserNum, e.receiptsAfter, 1<<62, receiptLimit)
	if err != nil {
		return fmt.Errorf("read receipts: %w", err)
	}
	e.receipts = append(e.receipts, list...)
	return nil
}

// appendEphemeral appends the events of `ephemeral`.
func (k writer) appendEphemeral(e *entry) bool {
	f := &k.req.Filter.Room.Ephemeral
	if !e.joinedRoom || !f.AllowsRoom(e.id) {
		return false
	}
	mark := len(k.out)
	k.out = append(streamcache.Separate(k.out), `"ephemeral":{"events":[`...)
	first := len(k.out)
	if e.typing != nil && f.AllowsType("m.typing") {
		k.appendTyping(e.typing)
	}
	if len(e.receipts) > 0 && f.AllowsType("m.receipt") {
		k.appendReceipts(e.receipts)
	}
	if len(k.out) == first {
		k.out = k.out[:mark]
		return false
	}
	k.out = append(k.out, "]}"...)
	return true
}

// appendTyping appends m.typing with those who type now.
//
// Spec: client-server-api#typing-notifications
func (k writer) appendTyping(t *streamcache.TypingRoom) {
	k.out = append(streamcache.Separate(k.out), `{"content":{"user_ids":[`...)
	for _, u := range k.r.opt.Typing.Users(t.Num) {
		if !k.reader.Ignored[u] {
			k.out = canonicaljson.AppendString(streamcache.Separate(k.out), u.String())
		}
	}
	k.out = append(k.out, `]},"type":"m.typing"}`...)
}

// appendReceipts appends m.receipt, one event for each thread, so that a user's receipts in several threads for one event
// do not stand in the place of one another.
//
// Spec: client-server-api#receipts
func (k writer) appendReceipts(list []roomdb.Receipt) {
	list = k.newestReceipts(list)
	for from := 0; from < len(list); {
		to := from
		for to < len(list) && list[to].Thread == list[from].Thread {
			to++
		}
		k.appendThread(list[from:to])
		from = to
	}
}

// newestReceipts are the receipts to show, sorted by thread, event and kind.
func (k writer) newestReceipts(list []roomdb.Receipt) []roomdb.Receipt {
	out := streamcache.NewestReceipts(list, k.req.UserNum)
	slices.SortFunc(out, func(a, b roomdb.Receipt) int {
		return cmp.Or(cmp.Compare(a.Thread, b.Thread), cmp.Compare(a.EventID, b.EventID), cmp.Compare(a.Kind, b.Kind),
			cmp.Compare(a.UserID, b.UserID))
	})
	return out
}

// appendThread appends one m.receipt of receipts that are sorted by event and kind.
func (k writer) appendThread(list []roomdb.Receipt) {
	k.out = append(streamcache.Separate(k.out), `{"content":{`...)
	for i, x := range list {
		newEvent := i == 0 || list[i-1].EventID != x.EventID
		if newEvent {
			if i > 0 {
				k.out = append(k.out, "}}"...)
			}
			k.out = append(streamcache.AppendKey(k.out, x.EventID), '{')
		}
		if newEvent || list[i-1].Kind != x.Kind {
			if !newEvent {
				k.out = append(k.out, '}')
			}
			k.out = append(streamcache.AppendKey(k.out, receiptType(x.Kind)), '{')
		}
		k.out = append(streamcache.AppendKey(k.out, x.UserID), `{"ts":`...)
		k.out = strconv.AppendInt(k.out, x.TS, 10)
		if x.Thread != "" {
			k.out = append(k.out, `,"thread_id":`...)
			k.out = canonicaljson.AppendString(k.out, x.Thread)
		}
		k.out = append(k.out, '}')
	}
	k.out = append(k.out, `}}},"type":"m.receipt"}`...)
}

func receiptType(kind roomdb.ReceiptKind) string {
	if kind == roomdb.ReceiptPrivate {
		return "m.read.private"
	}
	return "m.read"
}
