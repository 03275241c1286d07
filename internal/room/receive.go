package room

import (
	"context"
	"errors"
	"fmt"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
)

// Received is the outcome of Receive for one event.
type Received struct {
	EventID id.EventID
	// Standing is 0 for an accepted event.
	Standing roomdb.Standing
	// Known says that the store had the event already.
	Known bool
	// Reason is why the event was rejected or soft-failed; nil if it was accepted.
	Reason error
}

var (
	// ErrDropped says that an event is invalid or lacks a required signature. Nothing of
	// it is stored.
	ErrDropped = errors.New("event dropped")
	// ErrMissing says that an event can't be checked, because events that it refers to
	// could not be fetched. It may be received again later.
	ErrMissing = errors.New("events are missing")
)

// Receive takes an event of another server, in the room that it names, and checks
// it as the specification numbers it:
//
//  1. Is a valid event, otherwise it is dropped (ErrDropped).
//  2. Passes signature checks, otherwise it is dropped. A join that lacks the
//     signature of the server which vouches for it is rejected.
//  3. Passes hash checks, otherwise it is redacted before being processed further.
//  4. Passes authorisation rules based on the event's auth events, otherwise it is
//     rejected.
//  5. Passes authorisation rules based on the state before the event, otherwise it
//     is rejected.
//  6. Passes authorisation rules based on the current state of the room, otherwise
//     it is soft-failed.
//  7. Is validated by the policy server, if the room uses one, otherwise it is
//     soft-failed.
//
// Before check 4 it fetches missing auth events, as outliers. Before check 5 it fetches
// missing prev events, or the state before the event if there are too many. It makes
// requests to other servers outside the room's turn.
//
// Errors: ErrDropped, ErrMissing, M_NOT_FOUND (this server does not know the room).
// Rejected and soft-failed events are no errors.
//
// Spec: server-server-api#checks-performed-on-receipt-of-a-pdu
func (rs *Rooms) Receive(ctx context.Context, origin id.ServerName, raw []byte) (Received, error) {
	roomID, err := roomIDOf(raw)
	if err != nil {
		return Received{}, err
	}
	row, err := rs.row(ctx, roomID)
	if err != nil {
		return Received{}, err
	}
	rules, ok := roomversion.Of(row.Version)
	if !ok {
		return Received{}, fmt.Errorf("load %s: unknown room version %q", roomID, row.Version)
	}
	rc := &receiver{rs: rs, ctx: ctx, origin: origin, roomID: roomID, room: row.Num, rules: rules, budget: fetchLimit}
	in, err := rc.parse(raw)
	if err != nil {
		return Received{}, err
	}
	if in.pdu.RoomID() != roomID {
		return Received{}, fmt.Errorf("%w: it is of another room", ErrDropped)
	}
	return rc.receive(in, gapDepth)
}

// roomIDOf reads the room ID of an event whose room version is not known yet.
func roomIDOf(raw []byte) (id.RoomID, error) {
	if err := canonicaljson.Check(raw); err != nil {
		return id.RoomID{}, fmt.Errorf("%w: %w", ErrDropped, err)
	}
	text, _ := canonicaljson.String(canonicaljson.Get(raw, "room_id"))
	roomID, err := id.ParseRoomID(text)
	if err != nil {
		return id.RoomID{}, fmt.Errorf("%w: %w", ErrDropped, err)
	}
	return roomID, nil
}

// row reads a room's row from the store.
func (rs *Rooms) row(ctx context.Context, roomID id.RoomID) (row store.Room, err error) {
	err = rs.store.Read(ctx, func(read *store.Read) error {
		row, err = roomdb.RoomByID(read, roomID.String())
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		err = ErrUnknown
	}
	return row, err
}

// incoming is an event that passed checks 1 to 3.
type incoming struct {
	pdu *event.PDU
	// unsigned is a reason to reject the event before the rules are applied; nil if there
	// is none.
	unsigned error
	// state is the state before the event, if its prev events can't be fetched; nil
	// otherwise.
	state []store.EventNum
	// gap says that the prev events can't be fetched.
	gap bool
	// target is the event that a redaction redacts; the zero value for other events.
	target roomdb.Event
}

// accept adds an event to the graph, in the room's turn.
func (rc *receiver) accept(in incoming) (got Received, err error) {
	got.EventID = in.pdu.EventID()
	subject := eventauth.SubjectOf(in.pdu)
	need := func(rules *roomversion.Rules) []eventauth.Key { return eventauth.AuthTypes(rules, subject) }
	if err := rc.intern(in.pdu); err != nil {
		return Received{}, err
	}
	err = rc.rs.write(rc.ctx, rc.roomID, need, func(t *turn) (err error) {
		return t.settled(func() error {
			got, err = admission{t}.receive(in)
			return err
		})
	})
	if errors.Is(err, store.ErrDuplicate) {
		got.Known, err = true, nil // another request has just stored the event
	}
	if err == nil && !got.Known {
		rc.rs.metrics.refusedEvent(got.Standing)
	}
	return got, err
}

// settled calls f with a snapshot of the graph while no change of the room is in flight.
// Anything that needs another snapshot must be read before, since a request never holds
// two.
func (t *turn) settled(f func() error) error {
	if !t.r.inFlight.drain() {
		return store.ErrConflict
	}
	if t.rs.opt.PushRules != nil {
		if _, err := (counting{t}).loadMemberRules(); err != nil {
			return err
		}
	}
	return t.rs.store.Read(t.ctx, func(read *store.Read) error {
		t.read = read
		defer func() { t.read = nil }()
		return f()
	})
}

// intern interns the keys and users that an event is stored with.
func (rc *receiver) intern(pdu *event.PDU) error {
	stateKey, ok := pdu.StateKey()
	if !ok {
		return nil
	}
	return rc.rs.intern(rc.ctx, Draft{Type: pdu.Type(), StateKey: &stateKey})
}

// receive checks an event and writes the outcome.
func (t admission) receive(in incoming) (Received, error) {
	got := Received{EventID: in.pdu.EventID()}
	a := placement{pdu: in.pdu}
	old, err := roomdb.EventByID(t.read, got.EventID.String())
	switch {
	case err == nil && old.Standing&roomdb.Outlier == 0:
		got.Standing, got.Known = old.Standing, true
		return got, errNothing
	case err == nil:
		a.num, a.known = old.Num, true
	case !errors.Is(err, store.ErrNotFound):
		return got, err
	default:
		if a.num, err = t.rs.store.NextEvent(t.ctx); err != nil {
			return got, err
		}
	}
	g := newGraph(t.turn, t.read)
	auth, err := t.authEvents(g, &a)
	if err != nil {
		return got, err
	}
	before, prev, err := t.stateBefore(g, in, &a)
	if err != nil {
		return got, err
	}
	got.Reason = in.unsigned
	if got.Reason == nil {
		if got.Reason, err = t.judge(g, in.pdu, auth, before); err != nil {
			return got, err
		}
	}
	if got.Reason != nil {
		got.Standing = roomdb.Rejected
		return got, t.refuse(g, a, before, roomdb.Rejected, got.Reason)
	}
	if got.Reason, err = t.judgeNow(in.pdu); err != nil {
		return got, err
	}
	if got.Reason != nil {
		got.Standing = roomdb.SoftFailed
		return got, t.refuse(g, a, before, roomdb.SoftFailed, got.Reason)
	}
	if in.pdu.Type() == event.TypeRedaction && !in.pdu.IsState() {
		var applies bool
		if in.target, applies, err = t.redactionOf(in.pdu); err != nil {
			return got, err
		}
		if !applies {
			got.Standing, got.Reason = roomdb.SoftFailed, errWithheld
			return got, t.withhold(g, a, before)
		}
	}
	return got, t.admit(g, in, a, before, prev)
}

var errWithheld = errors.New("what it redacts is not here, or may not be redacted by its sender")

// authEvents loads the auth events of an event.
func (t admission) authEvents(g *graph, a *placement) ([]eventauth.AuthEvent, error) {
	rows, err := g.stored(a.pdu.AuthEvents())
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: auth events of %s", ErrMissing, a.pdu.EventID())
	}
	if err != nil {
		return nil, err
	}
	auth := make([]eventauth.AuthEvent, len(rows))
	for i, row := range rows {
		pdu, err := t.rs.events.Parse(t.r.rules, row)
		if err != nil {
			return nil, err
		}
		auth[i] = eventauth.AuthEvent{PDU: pdu, Rejected: row.Standing&roomdb.Rejected != 0}
		a.edges.Auth = append(a.edges.Auth, row.Num)
	}
	return auth, nil
}

// stateBefore is the state before an event: the state that came with it, or the resolved
// states after its prev events. It also returns the rows of the prev events.
//
// Spec: server-server-api#room-state-resolution
func (t admission) stateBefore(g *graph, in incoming, a *placement) (roomState, []roomdb.Event, error) {
	if in.gap {
		before, err := g.givenState(in.state)
		return before, nil, err
	}
	prev, err := g.stored(in.pdu.PrevEvents())
	if errors.Is(err, store.ErrNotFound) {
		return roomState{}, nil, fmt.Errorf("%w: prev events of %s", ErrMissing, in.pdu.EventID())
	}
	if err != nil {
		return roomState{}, nil, err
	}
	states := make([]roomState, 0, len(prev))
	for _, e := range prev {
		a.edges.Prev = append(a.edges.Prev, e.Num)
		after, err := g.after(e)
		if err != nil {
			return roomState{}, nil, fmt.Errorf("%w: %w", ErrMissing, err)
		}
		states = append(states, after)
	}
	if t.covers(in.pdu) {
		// The current state is what these states resolve to.
		return roomState{slot: t.row.Slot}, prev, nil
	}
	before, err := g.resolve(states)
	return before, prev, err
}

// covers reports whether an event is built on exactly the forward extremities.
func (t admission) covers(pdu *event.PDU) bool {
	prev := pdu.PrevEvents()
	return len(prev) == len(t.extremities) && len(without(t.extremities, prev)) == 0
}

// givenState is the state that another server sent.
func (g *graph) givenState(events []store.EventNum) (roomState, error) {
	base := roomState{slot: g.t.row.Slot}
	rows, err := roomdb.EventsByNum(g.read, events)
	if err != nil {
		return roomState{}, err
	}
	wanted := make(map[store.KeyNum]store.EventNum, len(rows))
	for _, row := range rows {
		if row.Key != 0 && row.Standing&roomdb.Rejected == 0 {
			wanted[row.Key] = row.Num
		}
	}
	current, err := g.whole(base)
	if err != nil {
		return roomState{}, err
	}
	var delta []roomdb.StateEntry
	for _, e := range current {
		if num := wanted[e.Key]; num != e.Event {
			delta = append(delta, roomdb.StateEntry{Key: e.Key, Event: num})
		}
		delete(wanted, e.Key)
	}
	for key, num := range wanted {
		delta = append(delta, roomdb.StateEntry{Key: key, Event: num})
	}
	return g.derive(base, delta)
}

// judge makes checks 4 and 5. The first error is the reason to reject the event.
func (t admission) judge(g *graph, pdu *event.PDU, auth []eventauth.AuthEvent, before roomState) (reason, fault error) {
	if reason, fault := t.judgeAuth(pdu, auth); reason != nil || fault != nil {
		return reason, fault
	}
	verdict, fault := eventauth.Check(pdu, stateView{g, before})
	return verdict.Err(), fault
}

// judgeAuth makes check 4.
func (t admission) judgeAuth(pdu *event.PDU, auth []eventauth.AuthEvent) (reason, fault error) {
	if reason := eventauth.CheckAuthEvents(pdu, auth).Err(); reason != nil {
		return reason, nil
	}
	var create *event.PDU
	if t.r.rules.RoomIDFromCreate {
		if create, fault = t.Event(event.TypeCreate, ""); fault != nil {
			return nil, fault
		}
	}
	verdict, fault := eventauth.Check(pdu, eventauth.StateOf(create, auth))
	return verdict.Err(), fault
}

// judgeNow makes checks 6 and 7.
func (t admission) judgeNow(pdu *event.PDU) (reason, fault error) {
	verdict, fault := eventauth.Check(pdu, t.turn)
	if fault != nil || !verdict.Allowed {
		return verdict.Err(), fault
	}
	return t.judgePolicy(pdu)
}

// refuse stores a rejected or soft-failed event.
func (t admission) refuse(g *graph, a placement, before roomState, standing roomdb.Standing, reason error) error {
	return t.storeUnplaced(a, g.save(before), standing, reason)
}

// storeUnplaced stores an event without a place in the timeline, and the reason if it was
// refused.
func (t admission) storeUnplaced(a placement, before roomdb.StateRef, standing roomdb.Standing, reason error) error {
	if reason != nil {
		roomdb.SetVerdict(t.change, t.row.Num, a.num, verdictOf(reason))
	}
	e, err := t.storedForm(a, before, standing)
	if err != nil {
		return err
	}
	if a.known {
		roomdb.PlaceEvent(t.change, e)
	} else {
		roomdb.AddEvent(t.change, e)
	}
	return nil
}

// verdictOf is the stored form of a refusal, with the number of the rule if an
// authorisation rule caused it.
func verdictOf(reason error) roomdb.Verdict {
	var refused *eventauth.Rejected
	if errors.As(reason, &refused) {
		return roomdb.Verdict{Rule: refused.Verdict.Rule, Reason: refused.Verdict.Reason}
	}
	return roomdb.Verdict{Reason: reason.Error()}
}

// storedForm is the row of an event without a place.
func (t admission) storedForm(a placement, before roomdb.StateRef, standing roomdb.Standing) (roomdb.Event, error) {
	e := roomdb.Event{
		Room: t.row.Num, Num: a.num, EventID: a.pdu.EventID().String(), Type: a.pdu.Type(),
		Sender: a.pdu.Sender().String(), Depth: a.pdu.Depth(), OriginServerTS: a.pdu.OriginServerTS(), ReceivedTS: t.now,
		Standing: standing, StateBefore: before, Edges: a.edges, Bytes: a.pdu.Bytes(),
	}
	if stateKey, ok := a.pdu.StateKey(); ok {
		var err error
		if e.Key, err = t.keyNum(eventauth.Key{Type: a.pdu.Type(), StateKey: stateKey}); err != nil {
			return roomdb.Event{}, err
		}
	}
	return e, nil
}
