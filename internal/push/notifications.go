package push

import (
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"stoa/internal/history"
	"stoa/internal/store"
	"stoa/internal/store/pushdb"
	"stoa/internal/store/roomdb"
	"stoa/internal/token"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/pushrule"
)

// Bounds of one page: the rooms that are looked at, and the events that are evaluated. A page that ends because of them has a
// token for the next one.
const (
	pageRooms  = 5000
	pageEvents = 1000
)

// NotificationsQuery asks for a page of a user's notifications.
type NotificationsQuery struct {
	// From is where the page begins, going back; nil = the newest event.
	From           *token.Notifications
	Limit          int
	OnlyHighlights bool
}

// Notification is an event that has notified a user, or would have.
type Notification struct {
	Actions json.RawMessage // JSON array
	Event   history.View
	Room    id.RoomID
	Read    bool
}

// NotificationsPage is a page of notifications, newest first.
type NotificationsPage struct {
	List []Notification
	Next *token.Notifications // nil: there are no more
}

// Notifications returns a page of the events in a user's rooms that notify. Nothing is stored for it: the user's rules are
// evaluated now, for events as far back as the stream goes.
//
// Spec: client-server-api#get_matrixclientv3notifications
func (p *Push) Notifications(ctx context.Context, user who.User, q NotificationsQuery) (page NotificationsPage, err error) {
	err = p.store.Read(ctx, func(read *store.Read) error {
		l := &listing{p: p, read: read, user: user, query: q, rooms: map[store.RoomNum]*listedRoom{}}
		page, err = l.page()
		return err
	})
	if err != nil {
		return page, fmt.Errorf("notifications of %s: %w", user.UserID, err)
	}
	return page, nil
}

// listing is one walk back through the events of a user's rooms.
type listing struct {
	p     *Push
	read  *store.Read
	user  who.User
	query NotificationsQuery
	rules *pushrule.Rules
	rows  rowHeap
	rooms map[store.RoomNum]*listedRoom

	evaluated int
	nums      []store.EventNum // of what was found
	actions   []json.RawMessage
	wasRead   []bool
}

// listedRoom is a room in which events were found.
type listedRoom struct {
	*roomView
	counter *pushrule.Counter
	member  pushrule.Member
	marks   readMarks
}

// rowHeap has the next row of each room, the newest first.
type rowHeap []pushdb.NewestRow

func (h rowHeap) Len() int           { return len(h) }
func (h rowHeap) Less(i, j int) bool { return h[i].Pos > h[j].Pos }
func (h rowHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *rowHeap) Push(x any) { *h = append(*h, x.(pushdb.NewestRow)) }

// Pop implements heap.Interface.
func (h *rowHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

func (l *listing) page() (page NotificationsPage, err error) {
	from := token.Notifications{Pos: int64(l.read.Head()), Slot: 1<<63 - 1}
	if l.query.From != nil {
		from = *l.query.From
	}
	if l.rules, err = l.p.opt.Rules.Compiled(l.read, l.user); err != nil {
		return page, err
	}
	rows, err := pushdb.NewestRows(l.read, l.user.UserNum, store.Position(from.Pos), pageRooms)
	if err != nil {
		return page, err
	}
	for _, r := range rows {
		if r.Pos != 0 {
			l.rows = append(l.rows, r)
		}
	}
	heap.Init(&l.rows)
	for l.rows.Len() > 0 {
		row := heap.Pop(&l.rows).(pushdb.NewestRow)
		before := store.Slot(1<<63 - 1)
		if row.Pos == store.Position(from.Pos) {
			before = store.Slot(from.Slot)
		}
		if page.Next, err = l.row(row, before); err != nil || page.Next != nil {
			break
		}
	}
	if err != nil {
		return page, err
	}
	return page, l.show(&page)
}

func (l *listing) isFull() bool { return len(l.nums) >= l.query.Limit || l.evaluated >= pageEvents }

// row evaluates the events of one row of the stream before a slot, newest first. It returns where to go on if the page is full.
func (l *listing) row(row pushdb.NewestRow, before store.Slot) (next *token.Notifications, err error) {
	if l.isFull() {
		return &token.Notifications{Pos: int64(row.Pos), Slot: int64(before)}, nil
	}
	l.evaluated++ // also a row without events takes time
	found, err := l.read.LastRoomRow(row.Room, store.KindTimeline, row.Pos)
	if err != nil {
		return nil, err
	}
	last := min(found.Last, before-1)
	if last < row.Joined {
		return nil, nil // and so is all that is older
	}
	if last >= found.First {
		events, err := roomdb.SyncEventRange(l.read, row.Room, found.First-1, last, pageEvents, nil)
		if err != nil {
			return nil, err
		}
		for i := range events {
			e := &events[i]
			if l.isFull() {
				return &token.Notifications{Pos: int64(row.Pos), Slot: int64(e.Place.Slot) + 1}, nil
			}
			l.evaluated++
			if err := l.event(row, e); err != nil && !errors.Is(err, errSkip) {
				return nil, err
			}
		}
	}
	older, err := l.read.LastRoomRow(row.Room, store.KindTimeline, row.Pos-1)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err == nil {
		heap.Push(&l.rows, pushdb.NewestRow{Room: row.Room, Joined: row.Joined, Pos: older.Pos})
	}
	return nil, err
}

// event evaluates one event.
func (l *listing) event(row pushdb.NewestRow, e *roomdb.SyncEvent) error {
	if e.RedactedBy != 0 || e.Place.Slot < row.Joined {
		return nil
	}
	r, err := l.room(row.Room)
	if err != nil {
		return err
	}
	pdu, err := r.parse(e.EventID, e.Bytes)
	if err != nil {
		return err
	}
	var fault error
	actions := r.counter.Evaluate(r.member, pushrule.NewEvent(pushrule.FieldsOf(pdu), r.facts(pdu.Sender(), &fault)))
	if fault != nil || !actions.Notify || l.query.OnlyHighlights && !actions.Highlight {
		return fault
	}
	read, err := r.marks.covers(l.read, row.Room, e.Place.Slot)
	if err != nil {
		return err
	}
	l.nums, l.actions, l.wasRead = append(l.nums, e.Num), append(l.actions, actions.List), append(l.wasRead, read)
	return nil
}

// room reads what the rules need of a room.
func (l *listing) room(num store.RoomNum) (*listedRoom, error) {
	if r := l.rooms[num]; r != nil {
		return r, nil
	}
	view, err := openRoom(l.p.store, l.read, num)
	if err != nil {
		return nil, err
	}
	r := &listedRoom{roomView: view, counter: l.rules.In(view.id), member: pushrule.Member{UserID: l.user.UserID.String()}}
	if r.member.DisplayName, err = view.displayName(l.user.UserID); err != nil {
		return nil, err
	}
	if r.marks, err = marksOf(l.read, l.user.UserNum, num); err != nil {
		return nil, err
	}
	l.rooms[num] = r
	return r, nil
}

// show loads the events that were found, without those that the user may not see.
func (l *listing) show(page *NotificationsPage) error {
	found, err := l.p.opt.History.Lookup(l.read, l.user.UserID).Events(l.nums, nil)
	if err != nil {
		return err
	}
	for _, f := range found {
		i := slices.Index(l.nums, f.View.Num)
		page.List = append(page.List, Notification{Actions: l.actions[i], Event: f.View, Room: f.Room, Read: l.wasRead[i]})
	}
	return nil
}

// readMarks are what a user has read of a room, as slots.
//
// Spec: client-server-api#marking-notifications-as-read
type readMarks struct {
	all, main store.Slot
	threads   map[string]store.Slot
}

// marksOf reads the receipts and own events of a user in a room.
func marksOf(read *store.Read, user store.UserNum, room store.RoomNum) (m readMarks, err error) {
	m.threads = map[string]store.Slot{}
	receipts, err := roomdb.ReceiptsOf(read, user, []store.RoomNum{room})
	if err != nil {
		return m, err
	}
	for _, x := range receipts {
		slot := x.Slot
		if x.Off < 0 {
			slot-- // before the live event of its slot
		}
		switch x.Thread {
		case "":
			m.all = max(m.all, slot)
		case "main":
			m.main = max(m.main, slot)
		default:
			m.threads[x.Thread] = max(m.threads[x.Thread], slot)
		}
	}
	own, err := roomdb.OwnEvents(read, user, []store.RoomNum{room})
	for _, e := range own {
		if e.Thread == "" {
			m.main = max(m.main, e.Slot)
		} else {
			m.threads[e.Thread] = max(m.threads[e.Thread], e.Slot)
		}
	}
	return m, err
}

// covers reports whether an event was read.
func (m *readMarks) covers(read *store.Read, room store.RoomNum, slot store.Slot) (bool, error) {
	if slot <= m.all {
		return true, nil
	}
	thread, err := roomdb.ThreadSlots(read, room, slot-1, 1)
	if err != nil {
		return false, err
	}
	if len(thread) > 0 && thread[0].Slot == slot {
		return slot <= m.threads[thread[0].Root], nil
	}
	return slot <= m.main, nil
}
