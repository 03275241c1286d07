package push

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"stoa/internal/reader"
	"stoa/internal/store"
	"stoa/internal/store/pushdb"
	"stoa/internal/store/roomdb"
	"stoa/internal/who"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/pushrule"
)

// readerName is the name of the reader's cursors.
const readerName = "push"

const (
	// memberPage is how many members with pushers are read at a time.
	memberPage = 1000
	// batchMessages bounds the messages of one batch: further rows of the stream come with the next one.
	batchMessages = 5000
)

// Reader is the reader of the stream that notifies.
func (p *Push) Reader() reader.Reader {
	return reader.Reader{Name: readerName, Shards: reader.Shards, Wants: wants, Handle: p.handle}
}

func wants(row store.StreamRow) bool {
	return row.Room() != 0 && (row.Kind == store.KindTimeline || row.Kind == store.KindReceipts)
}

// batch is what is owed because of some rows of the stream.
type batch struct {
	p     *Push
	read  *store.Read
	users map[store.UserNum]*recipient
	order []*recipient
	bytes int
	count int // messages
}

// recipient is a user with pushers, and what they are to be told, in order.
type recipient struct {
	who.User
	messages []message
	// counts says that the user's number of unread events may have fallen.
	counts bool
}

// member is a user with pushers in a room.
type member struct {
	pushdb.Member
	id      id.UserID
	counter *pushrule.Counter
	usual   bool // the rules are the default ones
}

// handle finds out what is owed, in the snapshot of the rows. It reads nothing of members without pushers.
func (p *Push) handle(_ context.Context, read *store.Read, b *reader.Batch) (func(context.Context) error, error) {
	if used, err := pushdb.Any(read); err != nil || !used {
		return nil, err
	}
	x := &batch{p: p, read: read, users: map[store.UserNum]*recipient{}}
	var receipts []roomdb.RoomSlot
	for i, row := range b.Rows {
		if i > 0 && (x.bytes >= reader.BatchBytes || x.count >= batchMessages) {
			b.Take(i)
			break
		}
		if row.Kind == store.KindReceipts {
			for slot := row.First; slot <= row.Last; slot++ {
				receipts = append(receipts, roomdb.RoomSlot{Room: row.Room(), Slot: slot})
			}
			continue
		}
		if err := x.timeline(row); err != nil && !errors.Is(err, errSkip) {
			return nil, err
		}
	}
	readers, err := pushdb.Readers(read, receipts)
	if err != nil {
		return nil, fmt.Errorf("read receipts: %w", err)
	}
	for _, r := range readers {
		if err := x.recount(r.User, r.UserID); err != nil {
			return nil, err
		}
	}
	if len(x.order) == 0 {
		return nil, nil
	}
	return func(ctx context.Context) error { return p.deliver(ctx, x.order, b.Change) }, nil
}

// recipient returns what a user is owed.
func (x *batch) recipient(user store.UserNum, userID id.UserID) *recipient {
	r := x.users[user]
	if r == nil {
		r = &recipient{User: who.User{UserID: userID, UserNum: user}}
		x.users[user] = r
		x.order = append(x.order, r)
	}
	return r
}

func (x *batch) recount(user store.UserNum, userID string) error {
	parsed, err := id.ParseUserID(userID)
	if err != nil {
		return fmt.Errorf("user number %d: %w", user, err)
	}
	x.recipient(user, parsed).counts = true
	return nil
}

// timeline evaluates the events of a row. Each is looked at once, however many members have pushers.
func (x *batch) timeline(row store.StreamRow) error {
	members, err := x.members(row.Room())
	if err != nil || len(members) == 0 {
		return err
	}
	events, err := roomdb.SyncEventRange(x.read, row.Room(), row.First-1, row.Last, int(row.Last-row.First+1), nil)
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	view, err := openRoom(x.p.store, x.read, row.Room())
	if err != nil {
		return err
	}
	for i := range slices.Backward(events) { // oldest first
		e := &events[i]
		if e.RedactedBy != 0 {
			continue
		}
		x.bytes += len(e.Bytes)
		pdu, err := view.parse(e.EventID, e.Bytes)
		if err != nil {
			return err
		}
		if err := x.event(view, members, &notice{pos: row.Pos, room: row.Room(), slot: e.Place.Slot, event: e.Num, pdu: pdu}); err != nil {
			return err
		}
	}
	return nil
}

// members returns the users with pushers in a room, with their rules.
func (x *batch) members(room store.RoomNum) (list []member, err error) {
	var after store.UserNum
	for {
		page, err := pushdb.Members(x.read, room, after, memberPage)
		if err != nil {
			return nil, fmt.Errorf("read members with pushers: %w", err)
		}
		for _, m := range page {
			userID, err := id.ParseUserID(m.UserID)
			if err != nil {
				return nil, fmt.Errorf("user number %d: %w", m.User, err)
			}
			list = append(list, member{Member: m, id: userID})
			after = m.User
		}
		if len(page) < memberPage {
			return list, nil
		}
	}
}

// event evaluates the rules of all members with pushers for one event.
//
// Spec: client-server-api#push-rules
func (x *batch) event(view *roomView, members []member, n *notice) error {
	var fault error
	fields := pushrule.NewEvent(pushrule.FieldsOf(n.pdu), view.facts(n.pdu.Sender(), &fault))
	stateKey, isState := n.pdu.StateKey()
	isMember := isState && n.pdu.Type() == event.TypeMember
	invited, isInvite := invitee(n.pdu)
	described := false
	for i := range members {
		m := &members[i]
		own := n.pdu.Sender() == m.id
		if own || isMember && stateKey == m.UserID && !isInvite {
			x.recipient(m.User, m.id).counts = true
		}
		is := m.Membership == roomdb.Join && m.Slot <= n.slot || m.Membership == roomdb.Invite && isInvite && invited == m.UserID
		if own || !is {
			continue
		}
		actions, err := x.evaluate(view, m, fields)
		if err != nil || fault != nil {
			return errors.Join(err, fault)
		}
		if !actions.Notify {
			continue
		}
		if !described {
			if err := view.describe(n); err != nil {
				return err
			}
			described = true
		}
		r := x.recipient(m.User, m.id)
		r.messages = append(r.messages, message{notice: n, tweaks: string(actions.Tweaks), target: isMember && stateKey == m.UserID})
		x.count++
	}
	return nil
}

func (x *batch) evaluate(view *roomView, m *member, e *pushrule.Event) (pushrule.Actions, error) {
	if m.counter == nil {
		rules, err := x.p.opt.Rules.Compiled(x.read, who.User{UserID: m.id, UserNum: m.User})
		if err != nil {
			return pushrule.Actions{}, fmt.Errorf("read the push rules of %s: %w", m.UserID, err)
		}
		m.counter, m.usual = rules.In(view.id), rules.IsUsual()
	}
	target := pushrule.Member{UserID: m.UserID}
	if !m.usual {
		var err error
		if target.DisplayName, err = view.displayName(m.id); err != nil {
			return pushrule.Actions{}, err
		}
	}
	return m.counter.Evaluate(target, e), nil
}

// messageOf loads what a row of a queue is about. errSkip says that there is nothing to tell any more: the event or the room is
// gone, or the user has left.
func (p *Push) messageOf(read *store.Read, user who.User, q pushdb.Queued) (message, error) {
	m := message{tweaks: q.Tweaks}
	if q.Slot == 0 {
		return m, nil
	}
	stored, err := roomdb.EventByNum(read, q.Event)
	if errors.Is(err, store.ErrNotFound) || err == nil && (stored.RedactedBy != 0 || stored.Place.Slot == 0) {
		return m, errSkip
	}
	if err != nil {
		return m, fmt.Errorf("read event number %d: %w", q.Event, err)
	}
	is, err := roomdb.MembershipOf(read, user.UserNum, stored.Room)
	if errors.Is(err, store.ErrNotFound) || err == nil && is.Membership != roomdb.Join && is.Membership != roomdb.Invite {
		return m, errSkip
	}
	if err != nil {
		return m, fmt.Errorf("read a membership: %w", err)
	}
	view, err := openRoom(p.store, read, stored.Room)
	if err != nil {
		return m, err
	}
	n := &notice{pos: q.Pos, room: stored.Room, slot: stored.Place.Slot, event: stored.Num}
	if n.pdu, err = view.parse(stored.EventID, stored.Bytes); err != nil {
		return m, err
	}
	stateKey, ok := n.pdu.StateKey()
	m.notice, m.target = n, ok && n.pdu.Type() == event.TypeMember && stateKey == user.UserID.String()
	return m, view.describe(n)
}
