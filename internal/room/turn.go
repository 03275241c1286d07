package room

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/mediadb"
	"stoa/internal/store/roomdb"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
	"stoa/matrix/pushrule"
	"stoa/matrix/roomversion"
)

// turn is one change of a room under construction. It holds the room as it will be, the
// change, and the Committed that describes it. Nothing of it is visible to other requests
// before it is submitted.
type turn struct {
	ctx context.Context // of the request: a turn ends before its request does
	rs  *Rooms
	r   *room

	change *store.Change
	out    *Committed
	now    int64 // ms
	// read is the snapshot to read from, nil if none is open.
	read *store.Read

	row         store.Room
	totals      Totals
	extremities []extremity
	changed     map[eventauth.Key]*entry
	threads     map[id.EventID]pushrule.Totals
	isNew       bool
	old         store.RoomNum // the room that a new room replaces; 0 = none
	// watchedState is how many of the state changes in out are known to memberRules.
	watchedState int
}

// begin starts a turn of a room. The caller holds the room's turn. Several rooms may
// share a change.
func (r *room) begin(ctx context.Context, change *store.Change) *turn {
	return &turn{
		ctx: ctx, rs: r.rooms, r: r, change: change, now: r.rooms.now(),
		row: r.row, totals: r.totals, extremities: r.extremities,
		out: &Committed{Room: r.row.Num, RoomID: r.id, Rules: r.rules, First: r.row.Slot + 1},
	}
}

// Event returns an entry of the current state; nil, nil if there is none. It makes a turn
// an eventauth.State.
func (t *turn) Event(evType, stateKey string) (*event.PDU, error) {
	e, err := t.entry(eventauth.Key{Type: evType, StateKey: stateKey})
	if err != nil {
		return nil, err
	}
	return e.pdu, nil
}

// reading calls f with the open snapshot, or with one of its own.
func (t *turn) reading(f func(*store.Read) error) error {
	if t.read != nil {
		return f(t.read)
	}
	return t.rs.store.Read(t.ctx, f)
}

// entry returns an entry of the current state, from memory or from the store.
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

// inMemory returns an entry of the current state if it is in memory, else nil.
func (t *turn) inMemory(key eventauth.Key) *entry {
	if e := t.changed[key]; e != nil {
		return e
	}
	return t.r.state[key]
}

// replace sets an entry of the current state.
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

// keyNum returns the number of a (type, state key) pair, and assigns one if necessary.
func (t *turn) keyNum(key eventauth.Key) (store.KeyNum, error) {
	nums, err := t.rs.store.Intern(t.ctx, []store.Pair{{Type: key.Type, StateKey: key.StateKey}})
	if err != nil {
		return 0, err
	}
	return nums[0], nil
}

// edges are the prev and auth events of an event, with their numbers.
type edges struct {
	prev, auth []id.EventID
	nums       roomdb.Edges
}

// edgesFor selects the edges of a new event on top of all forward extremities.
//
// Spec: server-server-api#auth-events-selection
func (t *turn) edgesFor(s eventauth.Subject) (edges, error) {
	var e edges
	e.prev = make([]id.EventID, 0, len(t.extremities))
	e.nums.Prev = make([]store.EventNum, 0, len(t.extremities))
	for _, ext := range t.extremities {
		e.prev = append(e.prev, ext.pdu.EventID())
		e.nums.Prev = append(e.nums.Prev, ext.num)
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

// build builds the event of a draft on top of all forward extremities, and checks it
// against the current state. A refusal is M_FORBIDDEN, or M_BAD_JSON if no user may send
// this content, with the rule as its cause.
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

// maxDepth is the largest depth that canonical JSON can represent.
const maxDepth = 1<<53 - 1

func (t *turn) nextDepth() int64 { return min(t.row.Depth+1, maxDepth) }

// referenceHash is for events of room versions 1 and 2, whose edges have hashes. The
// hashes of events that are not in memory are left out, which the spec allows.
func (t *turn) referenceHash(eventID id.EventID) (hash [32]byte, known bool) {
	for _, ext := range t.extremities {
		if ext.pdu.EventID() == eventID {
			h, err := ext.pdu.ReferenceHash()
			return h, err == nil
		}
	}
	return hash, false
}

// extend adds an event that was built on all forward extremities, so that the current
// state is the state before it.
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

// senderMember is the membership event of the sender of a message. The checks of the
// message have loaded it already, and clients that load members lazily get it with the
// message.
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

// placement is an event that is about to enter the timeline.
type placement struct {
	pdu    *event.PDU
	num    store.EventNum
	slot   store.Slot
	before roomdb.StateRef
	edges  roomdb.Edges
	txn    Txn
	// known says that the store already has the event, without a place.
	known bool
	// current says that the event, if it is a state event, becomes part of the current
	// state.
	current bool
}

// place adds an event to the timeline, and writes all rows that belong to it.
func (t *turn) place(a placement, extremities []extremity) error {
	t.row.Slot = a.slot
	t.setExtremities(extremities)
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
			out.Replaces, out.ReplacesSlot = before.clientForm(), before.shown
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
	mediadb.AddNames(t.change, t.rs.server.String(), mediadb.EventSource(t.row.Num, a.num), a.pdu.Content())
	if err := t.addTxn(a.txn, a.pdu.EventID()); err != nil {
		return err
	}
	t.out.Events = append(t.out.Events, out)
	return nil
}

// setExtremities sets the forward extremities and the depth.
func (t *turn) setExtremities(extremities []extremity) {
	t.extremities = extremities
	t.row.Depth = 0
	for _, ext := range extremities {
		t.row.Depth = max(t.row.Depth, ext.pdu.Depth())
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

// setState changes one entry of the current state at a slot of this change, with all
// effects of a change of membership.
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
		Previous: before.clientForm(), PreviousSlot: before.shown, InTimeline: inTimeline,
	})
	if key.Type != event.TypeMember {
		return nil
	}
	return t.moveMember(key.StateKey, before, after, &t.out.State[len(t.out.State)-1])
}

// finish completes the room's part of the change.
func (t *turn) finish() error {
	head, err := t.rs.store.NextHead(t.ctx)
	if err != nil {
		return err
	}
	t.row.Resident = t.row.LocalJoined > 0 || t.row.Joined == 0
	t.row.Extremities = make([]store.EventNum, len(t.extremities))
	for i, ext := range t.extremities {
		t.row.Extremities[i] = ext.num
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

// apply updates the room in memory to the result of the turn. The change is in flight.
func (t *turn) apply() {
	r := t.r
	r.row, r.totals, r.extremities = t.row, t.totals, t.extremities
	for key, e := range t.changed {
		r.cacheEntry(key, e)
	}
	for root, totals := range t.threads {
		if len(r.threads) >= threadLimit {
			clear(r.threads) // rare, and they are loaded again when needed
		}
		r.threads[root] = totals
	}
	r.count()
	if r.memberRules != nil {
		r.markStale(t.out.State[t.watchedState:])
	}
}

// errNothing is returned by a build that has nothing to write.
var errNothing = errors.New("nothing to write")

// write takes the room's turn, calls build to fill it, and commits. need names the
// entries of the state that build reads; they are loaded while other requests may have
// the turn. build runs again after a conflict with another instance.
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

// submission is a submitted change of one or more rooms.
type submission struct {
	pending *store.Pending // nil: nothing to wait for
	turns   []*turn
}

// take builds one change of the room and submits it.
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
		// The change that made it unnecessary may still be in flight.
		return &submission{pending: r.last}, nil
	case err != nil:
		counting{t}.recheckMembers()
		return nil, err
	}
	return submit(t)
}

// submit finishes the change of one or more turns and passes it to the commit queue. The
// caller holds the turns of all rooms.
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

// wait waits until the change is durable or has failed.
func (d *submission) wait() error {
	if d.pending == nil {
		return nil
	}
	// This ignores the request's context: later events of the room are built on this
	// change.
	_, err := d.pending.Wait(context.Background())
	for _, t := range d.turns {
		t.r.inFlight.end(t.row.Slot, err)
		if err == nil {
			t.rs.metrics.placed.Add(uint64(len(t.out.Events)))
		}
	}
	return err
}

// clientError translates errors of the store into errors for clients.
func clientError(err error) error {
	if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrBusy) {
		return mxerr.New(503, mxerr.CodeUnknown, "The server is too busy, try again").Because(err)
	}
	return err
}

// without returns the forward extremities that are not in events.
func without(extremities []extremity, events []id.EventID) []extremity {
	return slices.DeleteFunc(slices.Clone(extremities), func(t extremity) bool { return slices.Contains(events, t.pdu.EventID()) })
}

// While a room moves to another home, several instances write it for a moment. One of
// them wins each round, but a writer may lose many rounds in a row. It pauses for a
// random time between attempts, so that every writer gets through.
const (
	// conflictRetryTime bounds the time of all attempts.
	conflictRetryTime = 5 * time.Second
	// conflictRetryPause bounds a pause.
	conflictRetryPause = 50 * time.Millisecond
)

// maxTries bounds the attempts at operations that fail only if a concurrent change
// intervenes each time.
const maxTries = 3

// retryConflicts calls f until it returns something other than store.ErrConflict, or
// conflictRetryTime has passed.
func (rs *Rooms) retryConflicts(ctx context.Context, f func() error) error {
	err := f()
	if !errors.Is(err, store.ErrConflict) {
		return err // nearly always, and needs no timer
	}
	ctx, cancel := context.WithTimeout(ctx, conflictRetryTime)
	defer cancel()
	limit := time.Duration(0) // the first repetition is immediate
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
