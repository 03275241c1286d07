package history

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/timeline"
	"stoa/internal/token"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/eventfilter"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// View is an event as one viewer may see it.
type View struct {
	Num        store.EventNum
	Slot       store.Slot
	Off        int64
	PDU        *event.PDU
	ReceivedTS int64 // ms
	// RedactedBy is the redaction of the event, nil for none.
	RedactedBy *event.PDU
	// Replaces is the state event that this one replaced, nil for none. SeesReplaced says
	// whether the viewer may see it too.
	Replaces     *event.PDU
	SeesReplaced bool
	// TxnDevice and TxnID are the transaction in which a device of the sender sent the
	// event through this server; empty for none.
	TxnDevice, TxnID string
	// Membership is the viewer's membership at the event, including the event's own
	// effect.
	Membership string
	// Bundle are the aggregations of the event's children, nil for none.
	Bundle *timeline.Bundle
}

// At is a token just after the event; backwards pagination from it begins with the event.
func (v *View) At() token.Timeline { return token.Timeline{Slot: int64(v.Slot), Offset: v.Off} }

// Direction of a walk through history.
type Direction bool

const (
	Backwards Direction = false
	Forwards  Direction = true
)

// HistoryQuery asks for a page of a room's history.
type HistoryQuery struct {
	// From and To bound the page; nil = an end of the history.
	From, To *token.Token
	Dir      Direction
	// Limit is the greatest number of events; at least 1.
	Limit int
	// Filter selects events; nil = all.
	Filter *eventfilter.RoomEventFilter
}

// HistoryPage is a page of a room's history.
type HistoryPage struct {
	// Start is where the page begins, End where the next one does. HasEnd is false if the
	// viewer can see nothing more in this direction.
	Start, End token.Timeline
	HasEnd     bool
	Events     []View
	// State are the member events of the senders of Events, if the filter asks for lazy
	// loading of members.
	State []View
}

// Bounds of one page: of the events in it, and of the events that are read to find them.
const (
	pageLimit = 1000
	lookLimit = 5000
	lookBatch = 100
	// pageBytes ends a page whatever its limit, with the event that reaches so many
	// bytes. A thousand ordinary messages have about half as much; of the largest
	// possible events a page holds 16.
	pageBytes = 1 << 20
)

// Bytes estimates the size of a view in an answer.
func (v *View) Bytes() int {
	n := len(v.PDU.Bytes())
	if v.Replaces != nil {
		n += len(v.Replaces.Bytes())
	}
	return n
}

// Messages returns a page of the part of a room's history that the viewer may see. Paging
// returns each event once, at every page size.
//
// Errors: M_FORBIDDEN, M_NOT_FOUND.
//
// Spec: client-server-api#getting-events-for-a-room
func (rd *Reader) Messages(ctx context.Context, viewer id.UserID, roomID id.RoomID, q HistoryQuery) (page HistoryPage, err error) {
	err = rd.look(ctx, roomID, viewer, func(v *Viewer) error {
		w, err := v.walk(q)
		if err != nil {
			return err
		}
		page.Start = w.token()
		if page.Events, err = w.take(min(max(q.Limit, 1), pageLimit)); err != nil {
			return err
		}
		// Clients take a page of a search without an end for one that was refused, so a search ends with an empty page.
		searches := q.Filter != nil && !q.Filter.AllowsAll() && q.Dir == Backwards
		page.End, page.HasEnd = w.token(), !w.done || searches && len(page.Events) > 0
		if len(page.Events) > 0 && q.Filter != nil && q.Filter.LazyLoadMembers {
			if page.State, err = v.sendersAt(page.Events, page.Events[0].Slot); err != nil {
				return err
			}
		}
		return bundler{v}.bundleAll(page.Events)
	})
	return page, err
}

// look calls f with the view of a user who may look at the room.
func (rd *Reader) look(ctx context.Context, roomID id.RoomID, viewer id.UserID, f func(*Viewer) error) error {
	return rd.store.Read(ctx, func(read *store.Read) error {
		v, err := rd.Viewer(read, roomID, viewer)
		if err != nil {
			return err
		}
		if err := v.MayLook(); err != nil {
			return err
		}
		return f(v)
	})
}

// walk is an iteration over the history of a room.
type walk struct {
	v      *Viewer
	dir    Direction
	filter *eventfilter.RoomEventFilter
	// at is the current place, which follows all events at or before it. They come next
	// backwards; those after it come next forwards.
	at roomdb.Place
	// stop is the place where the walk ends.
	stop roomdb.Place
	done bool
}

// walk starts a walk at the place that a query names.
func (v *Viewer) walk(q HistoryQuery) (*walk, error) {
	w := &walk{v: v, dir: q.Dir, filter: q.Filter}
	first, last := v.slotRange()
	oldest, newest := roomdb.Place{Slot: max(first, roomdb.Start.Slot), Off: roomdb.Start.Off}, roomdb.Place{Slot: last}
	place := func(t *token.Token, otherwise roomdb.Place) (roomdb.Place, error) {
		if t == nil {
			return otherwise, nil
		}
		return v.place(*t)
	}
	var err error
	if q.Dir == Backwards {
		if w.at, err = place(q.From, newest); err == nil && q.To != nil {
			w.stop, err = v.place(*q.To)
			w.stop.Off++ // so that the event at the token is included or excluded as the direction wants
		}
		if newest.Compare(w.at) < 0 {
			w.at = newest
		}
		if oldest.Compare(w.stop) > 0 {
			w.stop = oldest
		}
		return w, err
	}
	if w.at, err = place(q.From, oldest); err == nil {
		w.stop, err = place(q.To, newest)
	}
	if oldest.Compare(w.at) > 0 {
		w.at = oldest
	}
	if newest.Compare(w.stop) < 0 {
		w.stop = newest
	}
	return w, err
}

// place returns the place in the room's timeline that a token stands for.
func (v *Viewer) place(t token.Token) (roomdb.Place, error) {
	if t.IsTimeline {
		return roomdb.Place{Slot: store.Slot(t.Timeline.Slot), Off: t.Timeline.Offset}, nil
	}
	slot, err := v.slotAt(store.Position(t.Stream.Position))
	return roomdb.Place{Slot: slot}, err
}

// slotAt returns the last slot of the room at a position of the stream.
func (v *Viewer) slotAt(pos store.Position) (store.Slot, error) {
	starts, err := v.read.RoomStarts([]store.RoomNum{v.Room.Num}, pos)
	if err != nil {
		return 0, err
	}
	for _, s := range starts {
		if s.Timeline != 0 {
			return s.Timeline - 1, nil
		}
	}
	return v.Room.Slot, nil
}

// token returns a token for the current place.
func (w *walk) token() token.Timeline {
	if w.at.Off == roomdb.Start.Off {
		return token.Timeline{Slot: int64(w.at.Slot - 1)}
	}
	return token.Timeline{Slot: int64(w.at.Slot), Offset: w.at.Off}
}

// take continues the walk until it has enough events or bytes, reaches its end, or has
// read as many events as one page may.
func (w *walk) take(limit int) ([]View, error) {
	var found []View
	bytes := 0
	for looked := 0; looked < lookLimit; {
		batch, err := w.batch(min(max(limit-len(found), 10), lookBatch) + 1)
		if err != nil {
			return nil, err
		}
		looked += len(batch)
		for _, e := range batch {
			if len(found) == limit || bytes >= pageBytes {
				w.done = false
				return found, nil
			}
			view, sees, err := w.look(e)
			if err != nil {
				return nil, err
			}
			w.at = e.Place
			if w.dir == Backwards {
				w.at.Off--
			}
			if sees {
				found = append(found, view)
				bytes += view.Bytes()
			}
		}
		if w.done {
			return found, nil
		}
	}
	return found, nil
}

// batch reads the next events, at most limit. It sets done if no more follow.
func (w *walk) batch(limit int) (batch []roomdb.Event, err error) {
	if w.dir == Backwards {
		from := roomdb.Place{Slot: w.at.Slot, Off: w.at.Off + 1}
		batch, err = roomdb.TimelineBack(w.v.read, w.v.Room.Num, from, w.stop, limit)
	} else {
		batch, err = roomdb.Timeline(w.v.read, w.v.Room.Num, w.at, w.stop, limit)
	}
	w.done = len(batch) < limit
	return batch, err
}

// look returns a view of an event if the filter selects it and the viewer may see it.
func (w *walk) look(e roomdb.Event) (View, bool, error) {
	pdu, err := w.v.rd.events.Parse(w.v.Rules, e)
	if err != nil {
		return View{}, false, err
	}
	if w.filter != nil {
		wanted, err := w.v.wants(w.filter, e, pdu)
		if err != nil || !wanted {
			return View{}, false, err
		}
	}
	if hidden, err := w.v.hides(pdu); err != nil || hidden {
		return View{}, false, err
	}
	return w.v.view(e, pdu)
}

// wants reports whether a filter selects an event.
func (v *Viewer) wants(filter *eventfilter.RoomEventFilter, e roomdb.Event, pdu *event.PDU) (bool, error) {
	if !filter.Allows(eventfilter.Event{Type: e.Type, Sender: e.Sender, RoomID: v.roomID.String(), Content: pdu.Content()}) {
		return false, nil
	}
	if !filter.AsksForRelations() {
		return true, nil
	}
	related, err := roomdb.Relations(v.read, v.Room.Num, e.EventID, "", "", roomdb.Start, roomdb.End, pageLimit)
	if err != nil {
		return false, err
	}
	list := make([]eventfilter.Relation, len(related))
	for i, r := range related {
		list[i] = eventfilter.Relation{RelType: r.RelType, Sender: r.Sender}
	}
	return filter.AllowsRelations(list), nil
}

// view returns the event as the viewer may see it; false if they may not.
func (v *Viewer) view(e roomdb.Event, pdu *event.PDU) (View, bool, error) {
	sees, membership, err := v.Sees(e.Place, e.StateBefore, pdu)
	if err != nil || !sees {
		return View{}, false, err
	}
	if membership != event.MembershipJoin {
		if pdu, err = v.withoutErased(pdu); err != nil {
			return View{}, false, err
		}
	}
	out := View{
		Num: e.Num, Slot: e.Place.Slot, Off: e.Place.Off, PDU: pdu, ReceivedTS: e.ReceivedTS,
		TxnDevice: e.TxnDevice, TxnID: e.TxnID, Membership: membership,
	}
	if e.RedactedBy != 0 {
		if out.RedactedBy, err = v.rd.events.Load(v.read, v.Rules, e.RedactedBy); err != nil {
			return View{}, false, err
		}
	}
	if e.Key != 0 {
		err = v.replaced(e, &out)
	}
	return out, true, err
}

// replaced adds to a view the state event that its event replaced.
func (v *Viewer) replaced(e roomdb.Event, out *View) error {
	before := e.StateBefore
	if before == 0 {
		return nil
	}
	num, err := roomdb.StateKeyOf(v.read, v.Room.Num, before, e.Key)
	if err != nil || num == 0 {
		return err
	}
	old, err := roomdb.EventByNum(v.read, num)
	if err != nil {
		return fmt.Errorf("event number %d: %w", num, err)
	}
	if out.Replaces, err = v.rd.events.Parse(v.Rules, old); err != nil {
		return err
	}
	if old.RedactedBy != 0 {
		out.Replaces = out.Replaces.Redacted()
	}
	if old.Place.Slot == 0 {
		return nil
	}
	out.SeesReplaced, _, err = v.Sees(old.Place, old.StateBefore, out.Replaces)
	return err
}

// sendersAt returns the member events of the senders of some events, as of a slot.
func (v *Viewer) sendersAt(events []View, slot store.Slot) ([]View, error) {
	var pairs []store.Pair
	for i := range events {
		pair := store.Pair{Type: event.TypeMember, StateKey: events[i].PDU.Sender().String()}
		if !slices.Contains(pairs, pair) {
			pairs = append(pairs, pair)
		}
	}
	keys, err := v.rd.store.KeyNums(v.read, pairs)
	if err != nil {
		return nil, err
	}
	var nums []store.EventNum
	for _, key := range keys {
		if key == 0 {
			continue
		}
		num, err := roomdb.StateKeyAt(v.read, v.Room.Num, slot, key)
		if err != nil {
			return nil, err
		}
		if num != 0 {
			nums = append(nums, num)
		}
	}
	return v.stateViews(nums)
}

// Event returns one event of a room; M_NOT_FOUND if the room does not have it or the
// viewer may not see it.
//
// Spec: client-server-api#getting-events-for-a-room
func (rd *Reader) Event(ctx context.Context, viewer id.UserID, roomID id.RoomID, eventID id.EventID) (view View, err error) {
	err = rd.store.Read(ctx, func(read *store.Read) error {
		v, err := rd.eventViewer(read, roomID, viewer)
		if err != nil {
			return err
		}
		if view, err = v.event(eventID); err != nil {
			return err
		}
		return bundler{v}.bundle(true, &view)
	})
	return view, err
}

func errHiddenEvent() *mxerr.Error {
	return mxerr.NotFound("There is no such event, or you may not see it")
}

// eventViewer is Viewer for requests for one event: an unknown room gives the same answer
// as a hidden event.
func (rd *Reader) eventViewer(read *store.Read, roomID id.RoomID, user id.UserID) (*Viewer, error) {
	v, err := rd.Viewer(read, roomID, user)
	if errors.Is(err, room.ErrUnknown) {
		return nil, errHiddenEvent().Because(err)
	}
	return v, err
}

// event returns an event that the viewer may see, or M_NOT_FOUND.
func (v *Viewer) event(eventID id.EventID) (View, error) {
	hidden := errHiddenEvent()
	if err := v.MayLook(); err != nil {
		return View{}, hidden.Because(err)
	}
	e, err := roomdb.EventByID(v.read, eventID.String())
	if errors.Is(err, store.ErrNotFound) || err == nil && (e.Room != v.Room.Num || e.Place.Slot == 0) {
		return View{}, hidden
	}
	if err != nil {
		return View{}, fmt.Errorf("load %s: %w", eventID, err)
	}
	pdu, err := v.rd.events.Parse(v.Rules, e)
	if err != nil {
		return View{}, err
	}
	view, sees, err := v.view(e, pdu)
	if err == nil && !sees {
		err = hidden
	}
	return view, err
}

// Context is an event with the events around it.
type Context struct {
	Event View
	// Before goes back from the event, After forward.
	Before, After []View
	// Start is a token for backwards pagination from the oldest of them, End for forward
	// pagination from the newest.
	Start, End token.Timeline
	// State is the state at the newest of them.
	State []View
}

// Bytes estimates the size of the events in an answer.
func (c *Context) Bytes() int {
	n := c.Event.Bytes()
	for _, list := range [][]View{c.Before, c.After} {
		for i := range list {
			n += list[i].Bytes()
		}
	}
	return n
}

// Context returns up to limit events around an event, and the state at the newest of
// them. The filter applies to all but the event itself.
//
// Errors: M_NOT_FOUND.
//
// Spec: client-server-api#getting-events-for-a-room (/context)
func (rd *Reader) Context(ctx context.Context, viewer id.UserID, roomID id.RoomID, eventID id.EventID, limit int, filter *eventfilter.RoomEventFilter) (c Context, err error) {
	err = rd.store.Read(ctx, func(read *store.Read) error {
		v, err := rd.eventViewer(read, roomID, viewer)
		if err != nil {
			return err
		}
		if c.Event, err = v.event(eventID); err != nil {
			return err
		}
		limit := min(max(limit, 0), pageLimit)
		if err := v.around(&c, (limit+1)/2, limit/2, filter); err != nil {
			return err
		}
		c.State, err = v.contextState(&c, filter)
		return err
	})
	return c, err
}

// around adds to a context the events around its event.
func (v *Viewer) around(c *Context, before, after int, filter *eventfilter.RoomEventFilter) error {
	at := c.Event.At()
	older := token.Token{Timeline: token.Timeline{Slot: at.Slot, Offset: at.Offset - 1}, IsTimeline: true}
	newer := token.Token{Timeline: at, IsTimeline: true}
	back, err := v.walk(HistoryQuery{From: &older, Filter: filter})
	if err != nil {
		return err
	}
	on, err := v.walk(HistoryQuery{From: &newer, Filter: filter, Dir: Forwards})
	if err != nil {
		return err
	}
	if before > 0 {
		if c.Before, err = back.take(before); err != nil {
			return err
		}
	}
	if after > 0 {
		if c.After, err = on.take(after); err != nil {
			return err
		}
	}
	c.Start, c.End = back.token(), on.token()
	if err := (bundler{v}).bundle(true, &c.Event); err != nil {
		return err
	}
	return bundler{v}.bundleAll(c.Before, c.After)
}

// contextState returns the state at the newest event of a context. If members are loaded
// lazily, it leaves out all members but the senders.
func (v *Viewer) contextState(c *Context, filter *eventfilter.RoomEventFilter) ([]View, error) {
	newest := c.Event.Slot
	if len(c.After) > 0 {
		newest = c.After[len(c.After)-1].Slot
	}
	lazy := filter != nil && filter.LazyLoadMembers
	state, err := v.stateAt(newest, lazy)
	if err != nil {
		return nil, err
	}
	if lazy {
		all := slices.Concat(c.Before, []View{c.Event}, c.After)
		members, err := v.sendersAt(all, newest)
		if err != nil {
			return nil, err
		}
		state = append(state, members...)
	}
	if filter == nil {
		return state, nil
	}
	return slices.DeleteFunc(state, func(s View) bool {
		return !filter.Allows(eventfilter.Event{
			Type: s.PDU.Type(), Sender: s.PDU.Sender().String(), RoomID: v.roomID.String(), Content: s.PDU.Content(),
		})
	}), nil
}

// TimestampToEvent returns the event closest to a time, at or after it (Forwards) or at
// or before it (Backwards). M_NOT_FOUND if the viewer may see none.
//
// The times at which this server received events rise along the timeline, so they lead to
// the neighbourhood; among the events there the senders' timestamps decide.
//
// Spec: client-server-api#getting-events-for-a-room (/timestamp_to_event)
func (rd *Reader) TimestampToEvent(ctx context.Context, viewer id.UserID, roomID id.RoomID, ts int64, dir Direction) (view View, err error) {
	err = rd.look(ctx, roomID, viewer, func(v *Viewer) error {
		near, err := v.slotReceivedAt(ts)
		if err != nil {
			return err
		}
		const around = lookLimit / 10
		from := token.Token{IsTimeline: true}
		from.Timeline.Slot = int64(max(near-around, 0))
		if dir == Backwards {
			from.Timeline.Slot = int64(near + around)
		}
		w, err := v.walk(HistoryQuery{From: &from, Dir: dir})
		if err != nil {
			return err
		}
		var best *View
		for looked := 0; looked < lookLimit/5 && !w.done; { // a batch at a time, of which one event is kept
			events, err := w.take(lookBatch)
			if err != nil {
				return err
			}
			if len(events) == 0 {
				break
			}
			looked += len(events)
			for i, e := range events {
				at := e.PDU.OriginServerTS()
				if dir == Forwards && at < ts || dir == Backwards && at > ts {
					continue
				}
				if best == nil || abs(at-ts) < abs(best.PDU.OriginServerTS()-ts) {
					best = &events[i]
				}
			}
		}
		if best == nil {
			return mxerr.NotFound("There is no event from %d in this direction", ts)
		}
		view = *best
		return nil
	})
	return view, err
}

// slotReceivedAt returns the last slot whose event was received at or before a time.
func (v *Viewer) slotReceivedAt(ts int64) (store.Slot, error) {
	low, high := store.Slot(0), v.Room.Slot+1 // low was received at or before ts, high after it
	for high-low > 1 {
		middle := low + (high-low)/2
		events, err := roomdb.Timeline(v.read, v.Room.Num, roomdb.Place{Slot: middle, Off: -1}, roomdb.Place{Slot: high}, 1)
		if err != nil {
			return 0, err
		}
		if len(events) == 0 || events[0].ReceivedTS > ts || events[0].Place.Slot >= high {
			high = middle
		} else {
			low = events[0].Place.Slot
		}
	}
	return low, nil
}

func abs(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}

// stringOf reads a string of an event's content; "" if there is none.
func stringOf(pdu *event.PDU, key string) string {
	text, _ := canonicaljson.String(canonicaljson.Get(pdu.Content(), key))
	return text
}

// Recent returns the newest events of a room that a viewer may see, after one slot up to another, oldest first, and whether there may be
// more before them. Former members see nothing of what came after they left.
func (rd *Reader) Recent(read *store.Read, viewer id.UserID, roomID id.RoomID, after, upTo store.Slot, limit int) (views []View, more bool, err error) {
	v, err := rd.Viewer(read, roomID, viewer)
	if err != nil {
		return nil, false, err
	}
	upTo = min(upTo, v.StateSlot())
	if upTo <= after {
		return nil, false, nil
	}
	from := token.Token{IsTimeline: true, Timeline: token.Timeline{Slot: int64(upTo)}}
	to := token.Token{IsTimeline: true, Timeline: token.Timeline{Slot: int64(after)}}
	w, err := v.walk(HistoryQuery{Dir: Backwards, From: &from, To: &to})
	if err != nil {
		return nil, false, err
	}
	if views, err = w.take(limit); err != nil {
		return nil, false, err
	}
	slices.Reverse(views)
	return views, !w.done, nil
}
