package room

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
	"stoa/matrix/pushrule"
	"stoa/matrix/roomversion"
)

// turn is one change of a room being built: the room as it is after what the
// turn has done so far, and the change and the Committed that say so. Nothing of
// it is seen outside until it departs.
type turn struct {
	ctx context.Context // of the request: a turn is a transaction, which ends before the request does
	rs  *Rooms
	r   *room

	change *store.Change
	out    *Committed
	now    int64 // ms
	// read is the snapshot to read with, nil if none is open.
	read *store.Read

	row         store.Room
	totals      Totals
	extremities []extremity
	changed     map[eventauth.Key]*entry
	threads     map[id.EventID]pushrule.Totals
	isNew       bool
	old         store.RoomNum // that a new room replaces; 0 = none
	// watchedState is how many of the changes of state the room's watch has seen.
	watchedState int
}

// begin starts a turn of a room whose turn the caller holds. Several rooms may
// share a change.
func (r *room) begin(ctx context.Context, change *store.Change) *turn {
	return &turn{
		ctx: ctx, rs: r.rooms, r: r, change: change, now: r.rooms.now(),
		row: r.row, totals: r.totals, extremities: r.extremities,
		out: &Committed{Room: r.row.Num, RoomID: r.id, Rules: r.rules, First: r.row.Slot + 1},
	}
}

// Event is an entry of the current state; nil, nil if there is none.
// It makes a turn an eventauth.State.
func (t *turn) Event(evType, stateKey string) (*event.PDU, error) {
	e, err := t.entry(eventauth.Key{Type: evType, StateKey: stateKey})
	if err != nil {
		return nil, err
	}
	return e.pdu, nil
}

// reading reads the store, with the snapshot that is open or one of its own.
func (t *turn) reading(f func(*store.Read) error) error {
	if t.read != nil {
		return f(t.read)
	}
	return t.rs.store.Read(t.ctx, f)
}

// entry is an entry of the current state, from memory or from the store.
func (t *turn) entry(key eventauth.Key) (*entry, error) {
	if e := t.inMemory(key); e != nil {
		return e, nil
	}
	if t.isNew {
		return &entry{}, nil
	}
	var found []*entry
	err := t.reading(func(read *store.Read) (err error) {
		found, err = t.rs.events.entries(read, t.row.Num, t.r.rules, []eventauth.Key{key})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("load state of %s: %w", t.r.id, err)
	}
	t.r.cacheEntry(key, found[0])
	return found[0], nil
}

// inMemory is an entry of the current state that need not be read, or nil.
func (t *turn) inMemory(key eventauth.Key) *entry {
	if e := t.changed[key]; e != nil {
		return e
	}
	return t.r.state[key]
}

// replace puts an entry into the place of another.
func (t *turn) replace(key eventauth.Key, e *entry) {
	if t.changed == nil {
		t.changed = map[eventauth.Key]*entry{}
	}
	t.changed[key] = e
}

// membership is a user's membership in the current state; "" for none.
func (t *turn) membership(user id.UserID) (string, error) {
	pdu, err := t.Event(event.TypeMember, user.String())
	if err != nil || pdu == nil {
		return "", err
	}
	return pdu.Membership(), nil
}

// keyNum is the number of a (type, state key) pair, which gets one if it has none.
func (t *turn) keyNum(key eventauth.Key) (store.KeyNum, error) {
	nums, err := t.rs.store.Intern(t.ctx, []store.Pair{{Type: key.Type, StateKey: key.StateKey}})
	if err != nil {
		return 0, err
	}
	return nums[0], nil
}

// edges are the numbers of the prev and auth events that an event is built with.
type edges struct {
	prev, auth []id.EventID
	nums       roomdb.Edges
}

// edgesFor selects the edges of an event that is to be built on the tips.
//
// Spec: server-server-api#auth-events-selection
func (t *turn) edgesFor(s eventauth.Subject) (edges, error) {
	var e edges
	e.prev = make([]id.EventID, 0, len(t.extremities))
	e.nums.Prev = make([]store.EventNum, 0, len(t.extremities))
	for _, tip := range t.extremities {
		e.prev = append(e.prev, tip.pdu.EventID())
		e.nums.Prev = append(e.nums.Prev, tip.num)
	}
	for _, key := range eventauth.AuthTypes(t.r.rules, s) {
		at, err := t.entry(key)
		if err != nil {
			return edges{}, err
		}
		if at.pdu != nil {
			e.auth = append(e.auth, at.pdu.EventID())
			e.nums.Auth = append(e.nums.Auth, at.num)
		}
	}
	return e, nil
}

// build makes the event of a draft, on top of all that the room has, and checks
// it by the current state. A refusal gives M_FORBIDDEN, or M_BAD_JSON if nobody may
// send this content, with the rule as its cause.
func (t *turn) build(d Draft) (*event.PDU, roomdb.Edges, error) {
	e, err := t.edgesFor(eventauth.Subject{Type: d.Type, StateKey: d.StateKey, Sender: d.Sender, Content: d.Content})
	if err != nil {
		return nil, roomdb.Edges{}, err
	}
	pdu, err := t.sign(d, e)
	if err != nil {
		return nil, roomdb.Edges{}, err
	}
	verdict, err := eventauth.Check(pdu, t)
	if err != nil {
		return nil, roomdb.Edges{}, fmt.Errorf("check %s in %s: %w", d.Type, t.r.id, err)
	}
	if err := verdict.Err(); err != nil {
		if verdict.Malformed {
			return nil, roomdb.Edges{}, mxerr.BadJSON("No room can have this: %s", verdict.Reason).Because(err)
		}
		return nil, roomdb.Edges{}, mxerr.Forbidden("You can't do this here: %s", verdict.Reason).Because(err)
	}
	return pdu, e.nums, nil
}

func (t *turn) sign(d Draft, e edges) (*event.PDU, error) {
	ts := d.Timestamp
	if ts == 0 {
		ts = t.now
	}
	roomID := t.r.id
	if d.Type == event.TypeCreate && t.r.rules.RoomIDFromCreate {
		roomID = id.RoomID{}
	}
	draft := event.Draft{
		Type: d.Type, StateKey: d.StateKey, Sender: d.Sender, RoomID: roomID, Content: d.Content, Redacts: d.Redacts,
		PrevEvents: e.prev, AuthEvents: e.auth, Depth: t.nextDepth(), OriginServerTS: ts,
		ReferenceHash: t.referenceHash,
	}
	pdu, err := event.Build(t.r.rules, draft, t.rs.opt.Signer)
	var bad *event.Error
	switch {
	case err == nil:
		return pdu, nil
	case errors.As(err, &bad) && bad.Kind == event.TooLarge:
		return nil, mxerr.TooLarge("The event is too large").Because(err)
	case errors.As(err, &bad):
		return nil, mxerr.BadJSON("This can't be an event: %s", bad.Reason).Because(err)
	}
	return nil, fmt.Errorf("build %s in %s: %w", d.Type, t.r.id, err)
}

// maxDepth is the greatest depth that canonical JSON can say.
const maxDepth = 1<<53 - 1

func (t *turn) nextDepth() int64 { return min(t.row.Depth+1, maxDepth) }

// referenceHash serves events of room versions 1 and 2, whose edges have hashes.
// Those of entries that are not in memory are left out, as they may be.
func (t *turn) referenceHash(eventID id.EventID) (hash [32]byte, known bool) {
	for _, tip := range t.extremities {
		if tip.pdu.EventID() == eventID {
			h, err := tip.pdu.ReferenceHash()
			return h, err == nil
		}
	}
	return hash, false
}

// extend adds an event that was built on all tips, so that the state before it is
// the current one.
func (t *turn) extend(pdu *event.PDU, nums roomdb.Edges, txn Txn) error {
	num, err := t.rs.store.NextEvent(t.ctx)
	if err != nil {
		return err
	}
	slot := t.row.Slot + 1
	err = t.place(placement{
		pdu: pdu, num: num, slot: slot, before: roomdb.AfterSlot(slot - 1), edges: nums, txn: txn, current: true,
	}, []extremity{{num: num, pdu: pdu}})
	if err != nil {
		return err
	}
	t.out.Events[len(t.out.Events)-1].SenderMember = t.senderMember(pdu)
	return nil
}

// senderMember is the membership event of who sends a message now. It was needed
// to judge the message; clients that load members lazily are told it with that.
func (t *turn) senderMember(pdu *event.PDU) *MemberEvent {
	if _, isState := pdu.StateKey(); isState {
		return nil
	}
	e := t.inMemory(eventauth.Key{Type: event.TypeMember, StateKey: pdu.Sender().String()})
	if e == nil || e.pdu == nil || e.shown == 0 {
		return nil
	}
	return &MemberEvent{Num: e.num, Slot: e.shown, PDU: e.pdu}
}

// placement is an event about to get its place in the timeline.
type placement struct {
	pdu    *event.PDU
	num    store.EventNum
	slot   store.Slot
	before roomdb.StateRef
	edges  roomdb.Edges
	txn    Txn
	// known says that the store has the event already, without a place.
	known bool
	// current says that the event, if it is a state event, becomes current state.
	current bool
}

// place writes an event into the timeline: all rows that its change needs.
func (t *turn) place(a placement, tips []extremity) error {
	t.row.Slot = a.slot
	t.setExtremities(tips)
	out := TimelineEvent{Num: a.num, Slot: a.slot, PDU: a.pdu, ReceivedTS: t.now, Txn: a.txn}
	stateKey, isState := a.pdu.StateKey()
	if isState {
		key := eventauth.Key{Type: a.pdu.Type(), StateKey: stateKey}
		num, err := t.keyNum(key)
		if err != nil {
			return err
		}
		out.Key = num
		t.rs.events.pdus.Add(a.num, a.pdu)
		if a.current {
			before, err := t.entry(key)
			if err != nil {
				return err
			}
			out.Replaces = before.pdu
			after := &entry{pdu: a.pdu, num: a.num, key: num, slot: a.slot, shown: a.slot}
			if err := t.setState(a.slot, key, before, after, true); err != nil {
				return err
			}
		}
	}
	if err := (counting{t}).count(&out); err != nil {
		return err
	}
	if err := t.relate(&out); err != nil {
		return err
	}
	stored := roomdb.Event{
		Room: t.row.Num, Place: roomdb.Place{Slot: a.slot}, Num: a.num, EventID: a.pdu.EventID().String(),
		Type: a.pdu.Type(), Key: out.Key, Sender: a.pdu.Sender().String(), Depth: a.pdu.Depth(),
		OriginServerTS: a.pdu.OriginServerTS(), ReceivedTS: t.now, StateBefore: a.before,
		Totals: out.Totals.Append(nil), Edges: a.edges,
		TxnDevice: a.txn.DeviceID, TxnID: a.txn.ID, Bytes: a.pdu.Bytes(),
	}
	if a.known {
		roomdb.PlaceEvent(t.change, stored)
		roomdb.DropVerdict(t.change, t.row.Num, a.num)
	} else {
		roomdb.AddEvent(t.change, stored)
	}
	if err := t.addTxn(a.txn, a.pdu.EventID()); err != nil {
		return err
	}
	t.out.Events = append(t.out.Events, out)
	return nil
}

// setExtremities notes the forward extremities.
func (t *turn) setExtremities(tips []extremity) {
	t.extremities = tips
	t.row.Depth = 0
	for _, tip := range tips {
		t.row.Depth = max(t.row.Depth, tip.pdu.Depth())
	}
}

func (t *turn) addTxn(txn Txn, eventID id.EventID) error {
	if txn.IsZero() {
		return nil
	}
	user, err := t.rs.userNum(t.ctx, txn.UserID)
	if err != nil {
		return err
	}
	roomdb.AddTxn(t.change, roomdb.Txn{
		User: user, Device: txn.DeviceID, Path: txn.Path, ID: txn.ID,
		EventID: eventID.String(), Room: t.row.Num, At: t.now,
	})
	return nil
}

// setState changes one entry of the current state at a slot of this change, with
// all that follows from a membership.
func (t *turn) setState(slot store.Slot, key eventauth.Key, before, after *entry, inTimeline bool) error {
	membership := roomdb.Membership(0)
	if key.Type == event.TypeMember && after.pdu != nil {
		membership = storedMembership(after.pdu.Membership())
	}
	roomdb.SetState(t.change, t.row.Num, slot, roomdb.StateDelta{
		Key: after.key, Event: after.num, Prev: before.num, Membership: membership,
	})
	t.replace(key, after)
	t.out.State = append(t.out.State, StateChange{
		Slot: slot, Key: after.key, Type: key.Type, StateKey: key.StateKey, Event: after.pdu, Num: after.num,
		Previous: before.pdu, InTimeline: inTimeline,
	})
	if key.Type != event.TypeMember {
		return nil
	}
	return t.moveMember(key.StateKey, before, after, &t.out.State[len(t.out.State)-1])
}

// finish completes the change's part in the room.
func (t *turn) finish() error {
	head, err := t.rs.store.NextHead(t.ctx)
	if err != nil {
		return err
	}
	t.row.Resident = t.row.LocalJoined > 0 || t.row.Joined == 0
	t.row.Extremities = make([]store.EventNum, len(t.extremities))
	for i, tip := range t.extremities {
		t.row.Extremities[i] = tip.num
	}
	t.row.Totals = t.totals.Append(nil)
	var part *store.RoomPart
	if t.isNew {
		part = t.change.NewRoom(t.row)
		if t.old != 0 {
			roomdb.MovePublished(t.change, t.old, t.row.Num)
		}
	} else {
		part = t.change.Room(t.row.Num, t.r.row.Head)
	}
	part.NewHead = head
	if t.row.Slot >= t.out.First {
		part.First, part.Last = t.out.First, t.row.Slot
	}
	t.change.SetRoom(t.row)
	t.row.Head = head
	t.out.Last, t.out.Joined, t.out.Invited, t.out.Totals = t.row.Slot, t.row.Joined, t.row.Invited, t.totals
	if len(t.out.Events) == 0 && len(t.out.State) == 0 && len(t.out.Redacted) == 0 {
		return nil
	}
	if last, ok := t.change.Payload.(*Committed); ok {
		for last.Next != nil {
			last = last.Next
		}
		last.Next = t.out
	} else {
		t.change.Payload = t.out
	}
	return nil
}

// apply makes the room what the turn has made of it. The change is under way.
func (t *turn) apply() {
	r := t.r
	r.row, r.totals, r.extremities = t.row, t.totals, t.extremities
	for key, e := range t.changed {
		r.cacheEntry(key, e)
	}
	for root, totals := range t.threads {
		if len(r.threads) >= threadLimit {
			clear(r.threads) // rare, and they are loaded again
		}
		r.threads[root] = totals
	}
	r.count()
	if r.memberRules != nil {
		r.markStale(t.out.State[t.watchedState:])
	}
}

// errNothing is what a build returns if nothing is to be written.
var errNothing = errors.New("nothing to write")

// write takes the room's turn, lets build fill it, and commits. need names entries
// of the state which build will look at, so that they are loaded while others
// have the turn. build runs again if another writer was faster.
func (rs *Rooms) write(ctx context.Context, roomID id.RoomID, need func(*roomversion.Rules) []eventauth.Key, build func(*turn) error) error {
	r := rs.resident.acquire(roomID)
	defer rs.resident.release(r)
	return clientError(rs.retryConflicts(ctx, func() error {
		departed, err := r.take(ctx, need, build)
		if err != nil {
			return err
		}
		return departed.wait()
	}))
}

// submission is a change of some rooms on its way into the store.
type submission struct {
	pending *store.Pending // nil: nothing to wait for
	turns   []*turn
}

// take builds one change of the room and sends it off.
func (r *room) take(ctx context.Context, need func(*roomversion.Rules) []eventauth.Key, build func(*turn) error) (*submission, error) {
	if err := r.lock(ctx); err != nil {
		return nil, err
	}
	if err := r.prepare(ctx, need(r.rules)); err != nil {
		return nil, err
	}
	defer r.turn.Unlock()
	t := r.begin(ctx, store.NewChange())
	switch err := build(t); {
	case errors.Is(err, errNothing):
		// What made it unnecessary may still be under way.
		return &submission{pending: r.last}, nil
	case err != nil:
		counting{t}.recheckMembers()
		return nil, err
	}
	return submit(t)
}

// submit finishes a change that one or more turns have filled and hands it to the
// store. The turns of all rooms are held.
func submit(turns ...*turn) (*submission, error) {
	change := turns[0].change
	for _, t := range turns {
		if err := t.finish(); err != nil {
			for _, t := range turns {
				counting{t}.recheckMembers()
			}
			return nil, err
		}
	}
	for _, t := range turns {
		t.r.inFlight.begin()
		t.apply()
	}
	d := &submission{pending: turns[0].rs.store.CommitAsync(change), turns: turns}
	for _, t := range turns {
		t.r.last = d.pending
	}
	return d, nil
}

// wait returns when the change is durable, or is known not to be.
func (d *submission) wait() error {
	if d.pending == nil {
		return nil
	}
	// Whoever asked may go away: the next events of the room are built on this one.
	_, err := d.pending.Wait(context.Background())
	for _, t := range d.turns {
		t.r.inFlight.end(t.row.Slot, err)
		if err == nil {
			t.rs.metrics.placed.Add(uint64(len(t.out.Events)))
		}
	}
	return err
}

// clientError turns errors of the store into what clients are told.
func clientError(err error) error {
	if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrBusy) {
		return mxerr.New(503, mxerr.CodeUnknown, "The server is too busy, try again").Because(err)
	}
	return err
}

// without returns the tips that are not among some events.
func without(tips []extremity, events []id.EventID) []extremity {
	return slices.DeleteFunc(slices.Clone(tips), func(t extremity) bool { return slices.Contains(events, t.pdu.EventID()) })
}

// While a room moves to another home, several instances write it, each for a
// moment. Somebody wins each round, but a writer may lose many in a row; it
// pauses for a random time in between, so that others get through and so does it.
const (
	// conflictRetryTime is how long a change is built again that loses against others.
	conflictRetryTime = 5 * time.Second
	// conflictRetryPause bounds a pause.
	conflictRetryPause = 50 * time.Millisecond
)

// maxTries is how often is tried what fails only if something else came in between
// each time.
const maxTries = 3

// retryConflicts calls f until it gives something else than store.ErrConflict, or
// conflictRetryTime has passed.
func (rs *Rooms) retryConflicts(ctx context.Context, f func() error) error {
	err := f()
	if !errors.Is(err, store.ErrConflict) {
		return err // nearly always: it pays for no timer
	}
	ctx, cancel := context.WithTimeout(ctx, conflictRetryTime)
	defer cancel()
	limit := time.Duration(0) // the first repetition comes at once
	for errors.Is(err, store.ErrConflict) {
		select {
		case <-ctx.Done():
			return err
		case <-time.After(rand.N(limit + 1)):
		}
		limit = min(2*limit+time.Millisecond, conflictRetryPause)
		rs.metrics.rebuilt.Add(1)
		err = f()
	}
	return err
}
