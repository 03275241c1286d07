package room

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"stoa/internal/store"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
	"stoa/matrix/stateres"
)

// Received is what became of an event of another server.
type Received struct {
	EventID id.EventID
	// Standing is 0 for an accepted event.
	Standing store.Standing
	// Known says that the event was here before.
	Known bool
	// Reason says why the event was rejected or soft-failed; nil if it was not.
	Reason error
}

var (
	// ErrDropped says that an event is not valid, or not signed by whom it must
	// be, and leaves no trace.
	ErrDropped = errors.New("event dropped")
	// ErrMissing says that an event can't be judged, since events that it refers
	// to could not be fetched. It may be received again later.
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
// Before 4, auth events that are missing are fetched, as outliers; before 5, prev
// events that are missing, or the state where that leads too far. What the network
// must answer is asked outside the room's turn.
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

// row is a room's row as the store has it.
func (rs *Rooms) row(ctx context.Context, roomID id.RoomID) (row store.Room, err error) {
	err = rs.store.Read(ctx, func(read *store.Read) error {
		row, err = read.Room(roomID.String())
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		err = errUnknownRoom
	}
	return row, err
}

// incoming is an event that passed checks 1 to 3.
type incoming struct {
	pdu *event.PDU
	// unsigned is why the event is to be rejected whatever the rules say; nil if
	// it is not.
	unsigned error
	// state is the state before the event, if it can't be had of its prev events;
	// nil otherwise.
	state []store.EventNum
	// gap says that the prev events are missing for good.
	gap bool
	// target is what a redaction redacts, the zero value for other events.
	target store.Event
}

// accept puts an event into the graph, in the room's turn.
func (rc *receiver) accept(in incoming) (got Received, err error) {
	got.EventID = in.pdu.EventID()
	subject := eventauth.SubjectOf(in.pdu)
	need := func(rules *roomversion.Rules) []eventauth.Key { return eventauth.AuthTypes(rules, subject) }
	if err := rc.intern(in.pdu); err != nil {
		return Received{}, err
	}
	err = rc.rs.write(rc.ctx, rc.roomID, need, func(t *turn) (err error) {
		return t.settled(func() error {
			got, err = t.receive(in)
			return err
		})
	})
	if errors.Is(err, store.ErrDuplicate) {
		got.Known, err = true, nil // the same event came twice at once
	}
	if err == nil && !got.Known {
		rc.rs.metrics.refusedEvent(got.Standing)
	}
	return got, err
}

// settled lets f read the graph in one snapshot, once nothing of the room is under
// way. What has to be read by others is read before, as a request never holds two
// snapshots.
func (t *turn) settled(f func() error) error {
	if !t.r.flight.settle() {
		return store.ErrConflict
	}
	if t.rs.opt.PushRules != nil {
		if _, err := t.watch(); err != nil {
			return err
		}
	}
	return t.rs.store.Read(t.ctx, func(read *store.Read) error {
		t.read = read
		defer func() { t.read = nil }()
		return f()
	})
}

// intern gives numbers to what an event is stored with.
func (rc *receiver) intern(pdu *event.PDU) error {
	stateKey, ok := pdu.StateKey()
	if !ok {
		return nil
	}
	return rc.rs.intern(rc.ctx, Draft{Type: pdu.Type(), StateKey: &stateKey})
}

// receive judges an event and writes what becomes of it.
func (t *turn) receive(in incoming) (Received, error) {
	got := Received{EventID: in.pdu.EventID()}
	a := arrival{pdu: in.pdu}
	old, err := t.read.EventByID(got.EventID.String())
	switch {
	case err == nil && old.Standing&store.Outlier == 0:
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
	g := newGraph(t, t.read)
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
		got.Standing = store.Rejected
		return got, t.setAside(g, a, before, store.Rejected)
	}
	if got.Reason, err = t.judgeNow(in.pdu); err != nil {
		return got, err
	}
	if got.Reason != nil {
		got.Standing = store.SoftFailed
		return got, t.setAside(g, a, before, store.SoftFailed)
	}
	if in.pdu.Type() == event.TypeRedaction && !in.pdu.IsState() {
		var applies bool
		if in.target, applies, err = t.redactionOf(in.pdu); err != nil {
			return got, err
		}
		if !applies {
			got.Standing, got.Reason = store.SoftFailed, errWithheld
			return got, t.withhold(g, a, before)
		}
	}
	return got, t.admit(g, in, a, before, prev)
}

var errWithheld = errors.New("what it redacts is not here, or may not be redacted by its sender")

// authEvents loads the auth events of an event.
func (t *turn) authEvents(g *graph, a *arrival) ([]eventauth.AuthEvent, error) {
	rows, err := g.stored(a.pdu.AuthEvents())
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: auth events of %s", ErrMissing, a.pdu.EventID())
	}
	if err != nil {
		return nil, err
	}
	auth := make([]eventauth.AuthEvent, len(rows))
	for i, row := range rows {
		pdu, err := t.rs.parse(t.r.rules, row)
		if err != nil {
			return nil, err
		}
		auth[i] = eventauth.AuthEvent{PDU: pdu, Rejected: row.Standing&store.Rejected != 0}
		a.edges.Auth = append(a.edges.Auth, row.Num)
	}
	return auth, nil
}

// stateBefore is the state before an event: that which came with it, or the
// resolved states after its prev events, whose rows are returned too.
//
// Spec: server-server-api#room-state-resolution
func (t *turn) stateBefore(g *graph, in incoming, a *arrival) (snapshot, []store.Event, error) {
	if in.gap {
		before, err := g.given(in.state)
		return before, nil, err
	}
	prev, err := g.stored(in.pdu.PrevEvents())
	if errors.Is(err, store.ErrNotFound) {
		return snapshot{}, nil, fmt.Errorf("%w: prev events of %s", ErrMissing, in.pdu.EventID())
	}
	if err != nil {
		return snapshot{}, nil, err
	}
	states := make([]snapshot, 0, len(prev))
	for _, e := range prev {
		a.edges.Prev = append(a.edges.Prev, e.Num)
		after, err := g.after(e)
		if err != nil {
			return snapshot{}, nil, fmt.Errorf("%w: %w", ErrMissing, err)
		}
		states = append(states, after)
	}
	if t.covers(in.pdu) {
		// The current state is what these states resolve to.
		return snapshot{slot: t.row.Slot}, prev, nil
	}
	before, err := g.resolve(states)
	return before, prev, err
}

// covers says whether an event is built on exactly the forward extremities.
func (t *turn) covers(pdu *event.PDU) bool {
	prev := pdu.PrevEvents()
	return len(prev) == len(t.tips) && len(without(t.tips, prev)) == 0
}

// given is the state that another server gave.
func (g *graph) given(events []store.EventNum) (snapshot, error) {
	base := snapshot{slot: g.t.row.Slot}
	rows, err := g.read.EventsByNum(events)
	if err != nil {
		return snapshot{}, err
	}
	wanted := make(map[store.KeyNum]store.EventNum, len(rows))
	for _, row := range rows {
		if row.Key != 0 && row.Standing&store.Rejected == 0 {
			wanted[row.Key] = row.Num
		}
	}
	current, err := g.whole(base)
	if err != nil {
		return snapshot{}, err
	}
	var delta []store.StateEntry
	for _, e := range current {
		if num := wanted[e.Key]; num != e.Event {
			delta = append(delta, store.StateEntry{Key: e.Key, Event: num})
		}
		delete(wanted, e.Key)
	}
	for key, num := range wanted {
		delta = append(delta, store.StateEntry{Key: key, Event: num})
	}
	return g.derive(base, delta)
}

// judge makes checks 4 and 5. The first error is the reason of a rejection.
func (t *turn) judge(g *graph, pdu *event.PDU, auth []eventauth.AuthEvent, before snapshot) (reason, fault error) {
	if reason, fault := t.judgeAuth(pdu, auth); reason != nil || fault != nil {
		return reason, fault
	}
	verdict, fault := eventauth.Check(pdu, view{g, before})
	return verdict.Err(), fault
}

// judgeAuth makes check 4.
func (t *turn) judgeAuth(pdu *event.PDU, auth []eventauth.AuthEvent) (reason, fault error) {
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
func (t *turn) judgeNow(pdu *event.PDU) (reason, fault error) {
	verdict, fault := eventauth.Check(pdu, t)
	if fault != nil || !verdict.Allowed {
		return verdict.Err(), fault
	}
	return t.judgePolicy(pdu)
}

// setAside stores an event without a place: it was rejected or soft-failed.
func (t *turn) setAside(g *graph, a arrival, before snapshot, standing store.Standing) error {
	return t.storeUnplaced(a, g.keep(before), standing)
}

func (t *turn) storeUnplaced(a arrival, before store.StateRef, standing store.Standing) error {
	e, err := t.storedForm(a, before, standing)
	if err != nil {
		return err
	}
	if a.known {
		t.change.PlaceEvent(e)
	} else {
		t.change.AddEvent(e)
	}
	return nil
}

// storedForm is the row of an event without a place.
func (t *turn) storedForm(a arrival, before store.StateRef, standing store.Standing) (store.Event, error) {
	e := store.Event{
		Room: t.row.Num, Num: a.num, EventID: a.pdu.EventID().String(), Type: a.pdu.Type(),
		Sender: a.pdu.Sender().String(), Depth: a.pdu.Depth(), OriginServerTS: a.pdu.OriginServerTS(), ReceivedTS: t.now,
		Standing: standing, StateBefore: before, Edges: a.edges, Bytes: a.pdu.Bytes(),
	}
	if stateKey, ok := a.pdu.StateKey(); ok {
		var err error
		if e.Key, err = t.keyNum(eventauth.Key{Type: a.pdu.Type(), StateKey: stateKey}); err != nil {
			return store.Event{}, err
		}
	}
	return e, nil
}

// admit puts an accepted event into the timeline, and brings the current state up
// to date.
func (t *turn) admit(g *graph, in incoming, a arrival, before snapshot, prev []store.Event) error {
	linear := t.covers(in.pdu) && !in.gap
	ended, err := g.ended(prev)
	if err != nil {
		return err
	}
	tips := append(without(t.tips, ended), tip{num: a.num, pdu: a.pdu})
	now := snapshot{slot: t.row.Slot}
	after := now
	stateKey, isState := a.pdu.StateKey()
	key := eventauth.Key{Type: a.pdu.Type(), StateKey: stateKey}
	if !linear {
		if after, err = g.current(a, before, tips); err != nil {
			return err
		}
	}
	a.slot = t.row.Slot + 1
	a.before = g.keep(before)
	a.current = isState && linear
	own := store.KeyNum(0)
	if isState {
		if own, err = t.keyNum(key); err != nil {
			return err
		}
		if !linear {
			num, err := g.at(after, own)
			if err != nil {
				return err
			}
			a.current = num == a.num
		}
	}
	if err := t.place(a, tips); err != nil {
		return err
	}
	if err := t.noteGap(in, a); err != nil {
		return err
	}
	if !linear {
		if !a.current {
			own = 0
		}
		if err := t.moveState(g, now, after, own); err != nil {
			return err
		}
	}
	if in.target.Num != 0 {
		if err := t.redact(in.target, t.out.Events[len(t.out.Events)-1]); err != nil {
			return err
		}
	}
	return t.applyWaiting(g, a)
}

// noteGap writes the backward extremities of an event whose history is not here,
// and strikes the event off those of others.
func (t *turn) noteGap(in incoming, a arrival) error {
	t.change.DropMissing(t.row.Num, a.pdu.EventID().String())
	if !in.gap {
		return nil
	}
	for _, prev := range in.pdu.PrevEvents() {
		e, err := t.read.EventByID(prev.String())
		switch {
		case errors.Is(err, store.ErrNotFound) || err == nil && e.Standing&store.Outlier != 0:
			t.change.AddMissing(t.row.Num, store.MissingEvent{EventID: prev.String(), Before: store.Place{Slot: a.slot}})
		case err != nil:
			return err
		}
	}
	return nil
}

// ended are the events that are no forward extremities once an event is built on
// some: these, and what lies below those of them that are rejected or soft-failed.
func (g *graph) ended(prev []store.Event) ([]id.EventID, error) {
	const limit = 1000
	var ended []id.EventID
	queue := slices.Clone(prev)
	for len(queue) > 0 && len(ended) < limit {
		e := queue[0]
		queue = queue[1:]
		eventID, err := id.ParseEventID(e.EventID)
		if err != nil {
			return nil, fmt.Errorf("stored event %s: %w", e.EventID, err)
		}
		if slices.Contains(ended, eventID) {
			continue
		}
		ended = append(ended, eventID)
		if e.Standing&(store.Rejected|store.SoftFailed) == 0 {
			continue
		}
		below, err := g.read.EventsByNum(e.Edges.Prev)
		if err != nil {
			return nil, err
		}
		queue = append(queue, below...)
	}
	return ended, nil
}

// current is the current state once an event has come: the states after all
// forward extremities, resolved.
func (g *graph) current(a arrival, before snapshot, tips []tip) (snapshot, error) {
	g.coming[a.num] = coming{pdu: a.pdu, edges: a.edges}
	var states []snapshot
	for _, tip := range tips {
		if tip.num == a.num {
			after := before
			if stateKey, ok := a.pdu.StateKey(); ok {
				key, err := g.t.keyNum(eventauth.Key{Type: a.pdu.Type(), StateKey: stateKey})
				if err != nil {
					return snapshot{}, err
				}
				if after, err = g.derive(before, []store.StateEntry{{Key: key, Event: a.num}}); err != nil {
					return snapshot{}, err
				}
			}
			states = append(states, after)
			continue
		}
		e, err := g.read.EventByNum(tip.num)
		if err != nil {
			return snapshot{}, fmt.Errorf("forward extremity number %d: %w", tip.num, err)
		}
		after, err := g.after(e)
		if err != nil {
			return snapshot{}, err
		}
		states = append(states, after)
	}
	return g.resolve(states)
}

// moveState brings the current state from one state to another, at a slot of its
// own, but for an entry that has been moved already.
func (t *turn) moveState(g *graph, from, to snapshot, moved store.KeyNum) error {
	diff, err := t.read.DiffStates(t.row.Num, from.version, from.slot, to.version, to.slot)
	if err != nil {
		return err
	}
	diff = slices.DeleteFunc(diff, func(d store.StateDelta) bool { return d.Key == moved })
	if len(diff) == 0 {
		return nil
	}
	keys := make([]store.KeyNum, len(diff))
	for i, d := range diff {
		keys[i] = d.Key
	}
	pairs, err := t.rs.store.Pairs(t.read, keys)
	if err != nil {
		return err
	}
	t.row.Slot++
	for i, d := range diff {
		key := eventauth.Key{Type: pairs[i].Type, StateKey: pairs[i].StateKey}
		before, err := t.entry(key)
		if err != nil {
			return err
		}
		after := &entry{key: d.Key, num: d.Event, slot: t.row.Slot}
		if d.Event != 0 {
			if after.pdu, err = g.Event(stateres.Ref(d.Event)); err != nil {
				return err
			}
		}
		if err := t.setState(t.row.Slot, key, before, after, false); err != nil {
			return err
		}
	}
	return nil
}

// redactionOf returns the event that a redaction of another server redacts, if it
// is here and the redaction is to be applied.
//
// Spec: rooms/v3#handling-redactions
func (t *turn) redactionOf(pdu *event.PDU) (target store.Event, applies bool, err error) {
	if pdu.Redacts().IsZero() {
		return store.Event{}, false, nil
	}
	target, err = t.stored(pdu.Redacts())
	if errors.Is(err, store.ErrNotFound) {
		return store.Event{}, false, nil
	}
	if err != nil || target.Room != t.row.Num {
		return store.Event{}, false, err
	}
	applies, err = t.mayRedact(pdu.Sender(), target)
	return target, applies, err
}

// withhold stores a redaction that can't be applied (yet): clients don't see it.
//
// Spec: rooms/v3#handling-redactions
func (t *turn) withhold(g *graph, a arrival, before snapshot) error {
	if redacts := a.pdu.Redacts(); !redacts.IsZero() {
		t.change.AddWaitingRedaction(t.row.Num, redacts.String(), a.num)
	}
	return t.setAside(g, a, before, store.SoftFailed)
}

// waitingLimit bounds the redactions that are tried on an event that has come.
const waitingLimit = 100

// applyWaiting applies a redaction that came before its target, and shows it.
func (t *turn) applyWaiting(g *graph, a arrival) error {
	waiting, err := t.read.WaitingRedactions(t.row.Num, a.pdu.EventID().String(), waitingLimit)
	if err != nil || len(waiting) == 0 {
		return err
	}
	shown := &t.out.Events[len(t.out.Events)-1]
	target := store.Event{
		Num: a.num, EventID: a.pdu.EventID().String(), Sender: a.pdu.Sender().String(), Key: shown.Key,
		Place: store.Place{Slot: a.slot}, Bytes: a.pdu.Bytes(),
	}
	for _, num := range waiting {
		e, err := t.read.EventByNum(num)
		if err != nil {
			return fmt.Errorf("waiting redaction number %d: %w", num, err)
		}
		pdu, err := t.rs.parse(t.r.rules, e)
		if err != nil {
			return err
		}
		applies, err := t.mayRedact(pdu.Sender(), target)
		if err != nil {
			return err
		}
		if !applies {
			continue
		}
		t.change.DropWaitingRedactions(t.row.Num, target.EventID)
		t.out.Events[len(t.out.Events)-1].RedactedBy = pdu
		late := arrival{pdu: pdu, num: num, slot: t.row.Slot + 1, before: e.StateBefore, edges: e.Edges, known: true}
		if err := t.place(late, t.tips); err != nil {
			return err
		}
		return t.redact(target, t.out.Events[len(t.out.Events)-1])
	}
	return nil
}
