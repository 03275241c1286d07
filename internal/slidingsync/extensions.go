package slidingsync

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/streamcache"
	"stoa/internal/token"
	"stoa/matrix/canonicaljson"
)

// ToDeviceToken prints the place of a device in its messages, ParseToDeviceToken parses it.
func ToDeviceToken(slot store.Slot) string { return "d1." + strconv.FormatInt(int64(slot), 10) }

// ParseToDeviceToken parses a ToDeviceToken.
func ParseToDeviceToken(text string) (store.Slot, bool) {
	if len(text) < 4 {
		return 0, false
	}
	n, err := strconv.ParseInt(text[3:], 10, 64)
	return store.Slot(n), err == nil && n >= 0 && ToDeviceToken(store.Slot(n)) == text
}

// extensionWriter appends the extensions of an answer.
type extensionWriter struct{ *builder }

// appendExtensions appends `extensions` without its end, and what does not need the device lists.
func (b extensionWriter) appendExtensions(c *streamcache.Cursor) error {
	b.out = append(streamcache.AppendKey(b.out, "extensions"), '{')
	on := b.cfg.Extensions
	if on.ToDevice {
		if err := b.appendToDevice(c); err != nil {
			return fmt.Errorf("messages to %s %s: %w", b.req.UserID, b.req.DeviceID, err)
		}
	}
	if on.AccountData {
		if err := b.appendAccountData(); err != nil {
			return fmt.Errorf("account data of %s: %w", b.req.UserID, err)
		}
	}
	if on.Receipts {
		if err := b.appendReceipts(); err != nil {
			return fmt.Errorf("receipts: %w", err)
		}
	}
	if on.Typing {
		b.appendTyping()
	}
	if on.Presence && (b.first || b.sharedChanged(store.KindPresence) || b.delta.Members) {
		if err := b.appendPresence(); err != nil {
			return fmt.Errorf("presence: %w", err)
		}
	}
	if on.E2EE {
		return b.appendKeyCounts()
	}
	return nil
}

// sharedChanged reports whether something that members show one another has changed.
func (b extensionWriter) sharedChanged(kind store.Kind) bool {
	return b.delta.Own[kind] || b.delta.Shared[streamcache.SharedIndex(kind)]
}

// toDevicePage bounds the messages to a device in one answer.
const toDevicePage = 100

func (b extensionWriter) appendToDevice(c *streamcache.Cursor) error {
	b.out = append(streamcache.AppendKey(b.out, "to_device"), '{')
	if b.first || b.delta.ToDevice || b.c.MoreToDevice {
		s, err := b.open(b.ctx)
		if err != nil {
			return err
		}
		after := b.c.ToDevice
		if b.first {
			after = b.req.ToDeviceSince
		}
		limit := toDevicePage
		if n := b.cfg.Extensions.ToDeviceLimit; n > 0 {
			limit = min(n, toDevicePage)
		}
		b.out = append(streamcache.AppendKey(b.out, "events"), '[')
		begin := len(b.out)
		b.out, c.ToDevice, c.MoreToDevice, err = b.r.opt.ToDevice.Append(b.out, s, b.req.Device, after, limit)
		if err != nil {
			return err
		}
		b.hasNews = b.hasNews || len(b.out) > begin
		b.out = append(b.out, ']')
	}
	b.text("next_batch", ToDeviceToken(c.ToDevice))
	b.out = append(b.out, '}')
	return nil
}

// inScope says whether an extension tells of a room: the client has it, or is sent it now.
func (b extensionWriter) inScope(s *Scope, num store.RoomNum, roomID string) bool {
	a := b.asked[num]
	if a == nil {
		a = &nothingAsked
	}
	if _, known := b.conn.find(num); !known && !a.matches() {
		return false
	}
	return s.includes(b.cfg, a, roomID)
}

// begun are the rooms that the answer begins anew, or whose timelines it expands.
func (b extensionWriter) begun(expanded bool) (parts []*part) {
	for _, p := range b.parts {
		if p.joined && (p.initial || expanded && p.expanded) {
			parts = append(parts, p)
		}
	}
	return parts
}

func (b extensionWriter) appendAccountData() error {
	all := b.first || b.conn.digest&bitAccountData == 0
	begun := b.begun(false)
	if !all && !b.delta.Own[store.KindAccountData] && len(begun) == 0 {
		return nil
	}
	s, err := b.open(b.ctx)
	if err != nil {
		return err
	}
	after := store.Slot(0)
	changed := map[string][]streamcache.Datum{} // by room
	if !all && b.delta.Own[store.KindAccountData] {
		own, err := s.OwnChanges(b.req.UserNum, b.c.Since)
		if err != nil {
			return err
		}
		for _, o := range own {
			if o.Kind == store.KindAccountData {
				after = o.First - 1
			}
		}
		data, err := b.r.opt.AccountData.Changed(s, b.req.User, max(after, 1))
		if err != nil {
			return err
		}
		for _, d := range data {
			changed[d.RoomID] = append(changed[d.RoomID], d)
		}
	}
	wanted := map[string]bool{}
	for _, p := range begun {
		if b.inScope(&b.cfg.Extensions.AccountDataScope, p.num, p.id) {
			wanted[p.id] = true
		}
	}
	if all || len(wanted) > 0 {
		data, err := b.r.opt.AccountData.Changed(s, b.req.User, 0)
		if err != nil {
			return err
		}
		for roomID := range wanted {
			delete(changed, roomID)
		}
		for _, d := range data {
			if all && d.RoomID == "" || wanted[d.RoomID] {
				changed[d.RoomID] = append(changed[d.RoomID], d)
			}
		}
	}
	return b.writeAccountData(s, changed, wanted)
}

func (b extensionWriter) writeAccountData(s *store.Read, data map[string][]streamcache.Datum, begun map[string]bool) error {
	mark := len(b.out)
	b.out = append(streamcache.AppendKey(b.out, "account_data"), '{')
	begin := len(b.out)
	if global := data[""]; len(global) > 0 {
		b.out = append(streamcache.AppendKey(b.out, "global"), '[')
		b.appendData(global)
		b.out = append(b.out, ']')
	}
	delete(data, "")
	rooms := make([]string, 0, len(data))
	for roomID := range data {
		if !begun[roomID] {
			num, err := roomdb.JoinedRoomNum(s, b.req.UserNum, roomID)
			if err != nil || !b.inScope(&b.cfg.Extensions.AccountDataScope, num, roomID) {
				continue // of a room that the client has not
			}
		}
		rooms = append(rooms, roomID)
	}
	if slices.Sort(rooms); len(rooms) > 0 {
		b.out = append(streamcache.AppendKey(b.out, "rooms"), '{')
		for _, roomID := range rooms {
			b.out = append(streamcache.AppendKey(b.out, roomID), '[')
			b.appendData(data[roomID])
			b.out = append(b.out, ']')
		}
		b.out = append(b.out, '}')
	}
	if len(b.out) == begin {
		b.out = b.out[:mark]
		return nil
	}
	b.out = append(b.out, '}')
	b.hasNews = true
	return nil
}

func (b extensionWriter) appendData(data []streamcache.Datum) {
	for _, d := range data {
		b.out = append(append(streamcache.Separate(b.out), `{"content":`...), d.Content...)
		b.text("type", d.Type)
		b.out = append(b.out, '}')
	}
}

const (
	// firstReceiptSlots is how far back in a room's receipts a room that begins anew goes, besides the viewer's own.
	firstReceiptSlots = 200
	// receiptLimit bounds the receipts of one room in one answer.
	receiptLimit = 1000
)

// appendReceipts appends the receipts of the rooms that the client has: those that are new, and of a room that begins anew those for the
// events of its timeline, and the viewer's own.
func (b extensionWriter) appendReceipts() error {
	lists := map[store.RoomNum][]roomdb.Receipt{}
	ids := map[store.RoomNum]string{}
	var begun, unread []store.RoomNum
	oldest := map[store.RoomNum]store.Slot{}
	for _, p := range b.begun(true) {
		if b.inScope(&b.cfg.Extensions.ReceiptsScope, p.num, p.id) {
			begun, ids[p.num] = append(begun, p.num), p.id
			if oldest[p.num] = p.upto; len(p.events) > 0 {
				oldest[p.num] = p.events[0].Slot
			}
		}
	}
	for i := range b.delta.Rooms {
		d := &b.delta.Rooms[i]
		if b.fromStore || len(d.Receipts) == 0 && !d.ReceiptsUnread || !b.inScope(&b.cfg.Extensions.ReceiptsScope, d.Num, d.ID.String()) {
			continue
		}
		ids[d.Num] = d.ID.String()
		lists[d.Num] = append(lists[d.Num], d.Receipts...)
		if d.ReceiptsUnread {
			unread = append(unread, d.Num)
		}
	}
	for num, start := range b.starts {
		room, ok := b.rooms[num]
		if ok && start.Receipts != 0 && room.membership == roomdb.Join && b.inScope(&b.cfg.Extensions.ReceiptsScope, num, room.id) {
			ids[num] = room.id
			unread = append(unread, num)
		}
	}
	if len(begun)+len(unread) > 0 {
		if err := b.readReceipts(lists, begun, unread, oldest); err != nil {
			return err
		}
	}
	return b.writeReceipts(lists, ids)
}

func (b extensionWriter) readReceipts(lists map[store.RoomNum][]roomdb.Receipt, begun, unread []store.RoomNum, oldest map[store.RoomNum]store.Slot) error {
	s, err := b.open(b.ctx)
	if err != nil {
		return err
	}
	list, err := roomdb.SyncReceipts(s, begun, b.req.UserNum, firstReceiptSlots)
	if err != nil {
		return err
	}
	own, err := roomdb.ReceiptsOf(s, b.req.UserNum, begun)
	if err != nil {
		return err
	}
	for _, x := range list {
		if x.Slot >= oldest[x.Room] {
			lists[x.Room] = append(lists[x.Room], x)
		}
	}
	for _, x := range own {
		lists[x.Room] = append(lists[x.Room], x)
	}
	starts := b.starts
	if starts == nil && len(unread) > 0 {
		rows, err := s.RoomStarts(unread, b.c.Since)
		if err != nil {
			return err
		}
		starts = map[store.RoomNum]store.RoomStart{}
		for _, row := range rows {
			starts[row.Room] = row
		}
	}
	for _, num := range unread {
		if starts[num].Receipts == 0 {
			continue
		}
		list, err := roomdb.ReceiptsSince(s, num, b.req.UserNum, starts[num].Receipts-1, 1<<62, receiptLimit)
		if err != nil {
			return err
		}
		lists[num] = append(lists[num], list...)
	}
	return nil
}

// receiptBy is a receipt in m.receipt.
type receiptBy struct {
	TS     int64  `json:"ts"`
	Thread string `json:"thread_id,omitempty"`
}

// writeReceipts appends `receipts`: one m.receipt for each room. Of several receipts of a user for one event, that without a thread
// is shown, or that of the last thread.
func (b extensionWriter) writeReceipts(lists map[store.RoomNum][]roomdb.Receipt, ids map[store.RoomNum]string) error {
	mark := len(b.out)
	b.out = append(append(streamcache.AppendKey(b.out, "receipts"), `{"rooms":`...), '{')
	begin := len(b.out)
	for num, list := range lists {
		content := map[string]map[string]map[string]receiptBy{}
		for _, x := range b.visibleReceipts(list) {
			kind := "m.read"
			if x.Kind == roomdb.ReceiptPrivate {
				kind = "m.read.private"
			}
			if content[x.EventID] == nil {
				content[x.EventID] = map[string]map[string]receiptBy{}
			}
			if content[x.EventID][kind] == nil {
				content[x.EventID][kind] = map[string]receiptBy{}
			}
			content[x.EventID][kind][x.UserID] = receiptBy{x.TS, x.Thread}
		}
		if len(content) == 0 {
			continue
		}
		text, err := json.Marshal(content)
		if err != nil {
			return err
		}
		b.out = append(append(streamcache.AppendKey(b.out, ids[num]), `{"type":"m.receipt","content":`...), text...)
		b.out = append(b.out, '}')
	}
	if len(b.out) == begin {
		b.out = b.out[:mark]
		return nil
	}
	b.out = append(b.out, "}}"...)
	b.hasNews = true
	return nil
}

// visibleReceipts are the receipts to show. Those without a thread come last.
func (b extensionWriter) visibleReceipts(list []roomdb.Receipt) []roomdb.Receipt {
	out := streamcache.NewestReceipts(list, b.req.UserNum)
	slices.SortFunc(out, func(a, b roomdb.Receipt) int {
		return cmp.Or(cmp.Compare(b2i(a.Thread == ""), b2i(b.Thread == "")), cmp.Compare(a.Thread, b.Thread), cmp.Compare(a.UserID, b.UserID))
	})
	return out
}

// appendTyping appends who types, of the rooms where that has changed, and of those that begin anew.
func (b extensionWriter) appendTyping() {
	mark := len(b.out)
	b.out = append(append(streamcache.AppendKey(b.out, "typing"), `{"rooms":`...), '{')
	begin := len(b.out)
	written := map[store.RoomNum]bool{}
	write := func(num store.RoomNum, roomID string, always bool) {
		users := b.r.opt.Typing.Users(num)
		if written[num] || len(users) == 0 && !always || !b.inScope(&b.cfg.Extensions.TypingScope, num, roomID) {
			return
		}
		written[num] = true
		b.out = append(streamcache.AppendKey(b.out, roomID), `{"type":"m.typing","content":{"user_ids":[`...)
		for _, u := range users {
			if !b.reader.Ignored[u] {
				b.out = appendString(streamcache.Separate(b.out), u.String())
			}
		}
		b.out = append(b.out, "]}}"...)
	}
	for _, p := range b.begun(false) {
		write(p.num, p.id, false)
	}
	if b.fromStore {
		for num, room := range b.rooms {
			if room.membership == roomdb.Join && b.delta.FindTyping(num) != nil {
				write(num, room.id, true)
			}
		}
	}
	for i := range b.delta.Rooms {
		if d := &b.delta.Rooms[i]; d.Typing != nil {
			write(d.Num, d.ID.String(), true)
		}
	}
	if len(b.out) == begin {
		b.out = b.out[:mark]
		return
	}
	b.out = append(b.out, "}}"...)
	b.hasNews = true
}

func (b extensionWriter) appendPresence() error {
	since := b.c.Since
	if b.first {
		since = 0
	}
	mark := len(b.out)
	b.out = streamcache.AppendKey(b.out, "presence")
	begin := len(b.out)
	out, err := b.r.opt.Sections.AppendSection(b.ctx, b.out, "presence", b.req.Device, since, b.upto, b.open)
	if err != nil {
		return err
	}
	if b.out = out; len(b.out) == begin {
		b.out = b.out[:mark]
		return nil
	}
	b.hasNews = true
	return nil
}

// appendKeyCounts appends `e2ee` without its end.
func (b extensionWriter) appendKeyCounts() error {
	b.out = append(streamcache.AppendKey(b.out, "e2ee"), '{')
	for _, key := range []string{"device_one_time_keys_count", "device_unused_fallback_key_types"} {
		out, err := b.r.opt.Sections.AppendSection(b.ctx, streamcache.AppendKey(b.out, key), key, b.req.Device, b.c.Since, b.upto, b.open)
		if err != nil {
			return err
		}
		b.out = out
	}
	b.hasNews = b.hasNews || b.delta.Own[store.KindKeys]
	return nil
}

// appendDeviceLists appends the device lists, and ends the extensions. No snapshot is open.
func (b extensionWriter) appendDeviceLists() error {
	if b.cfg.Extensions.E2EE {
		if !b.first && (b.sharedChanged(store.KindDeviceList) || b.delta.Members) {
			changed, left, err := b.r.opt.Sections.KeyChanges(b.ctx, b.req.Device, token.Stream{Position: int64(b.c.Since)})
			if err != nil {
				return fmt.Errorf("device lists: %w", err)
			}
			if len(changed)+len(left) > 0 {
				b.out = append(streamcache.AppendKey(b.out, "device_lists"), '{')
				b.appendNames("changed", changed)
				b.appendNames("left", left)
				b.out = append(b.out, '}')
				b.hasNews = true
			}
		}
		b.out = append(b.out, '}')
	}
	b.out = append(b.out, '}')
	return nil
}

func (b extensionWriter) appendNames(key string, names []string) {
	b.out = append(streamcache.AppendKey(b.out, key), '[')
	for _, name := range names {
		b.out = canonicaljson.AppendString(streamcache.Separate(b.out), name)
	}
	b.out = append(b.out, ']')
}
