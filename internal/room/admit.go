package room

import (
	"errors"
	"fmt"
	"slices"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/stateres"
)

// admit puts an accepted event into the timeline and updates the current state.
func (t admission) admit(g *graph, in incoming, a placement, before roomState, prev []roomdb.Event) error {
	linear := t.covers(in.pdu) && !in.gap
	ended, err := g.ended(prev)
	if err != nil {
		return err
	}
	extremities := append(without(t.extremities, ended), extremity{num: a.num, pdu: a.pdu})
	now := roomState{slot: t.row.Slot}
	after := now
	stateKey, isState := a.pdu.StateKey()
	key := eventauth.Key{Type: a.pdu.Type(), StateKey: stateKey}
	if !linear {
		if after, err = g.current(a, before, extremities); err != nil {
			return err
		}
	}
	a.slot = t.row.Slot + 1
	a.before = g.save(before)
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
	if err := t.place(a, extremities); err != nil {
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

// noteGap records which prev events of a placed event are missing (the backward
// extremities), and no longer lists the event as missing itself.
func (t admission) noteGap(in incoming, a placement) error {
	roomdb.DropMissing(t.change, t.row.Num, a.pdu.EventID().String())
	if !in.gap {
		return nil
	}
	for _, prev := range in.pdu.PrevEvents() {
		e, err := roomdb.EventByID(t.read, prev.String())
		switch {
		case errors.Is(err, store.ErrNotFound) || err == nil && e.Standing&roomdb.Outlier != 0:
			roomdb.AddMissing(t.change, t.row.Num, roomdb.MissingEvent{EventID: prev.String(), Before: roomdb.Place{Slot: a.slot}})
		case err != nil:
			return err
		}
	}
	return nil
}

// ended returns the events that stop being forward extremities when an event is built on
// prev: prev itself, and the ancestors that only rejected or soft-failed events of prev
// separate from it.
func (g *graph) ended(prev []roomdb.Event) ([]id.EventID, error) {
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
		if e.Standing&(roomdb.Rejected|roomdb.SoftFailed) == 0 {
			continue
		}
		below, err := roomdb.EventsByNum(g.read, e.Edges.Prev)
		if err != nil {
			return nil, err
		}
		queue = append(queue, below...)
	}
	return ended, nil
}

// current resolves the states after all forward extremities, which include the new event.
func (g *graph) current(a placement, before roomState, extremities []extremity) (roomState, error) {
	g.unstored[a.num] = unstoredEvent{pdu: a.pdu, edges: a.edges}
	var states []roomState
	for _, ext := range extremities {
		if ext.num == a.num {
			after := before
			if stateKey, ok := a.pdu.StateKey(); ok {
				key, err := g.t.keyNum(eventauth.Key{Type: a.pdu.Type(), StateKey: stateKey})
				if err != nil {
					return roomState{}, err
				}
				if after, err = g.derive(before, []roomdb.StateEntry{{Key: key, Event: a.num}}); err != nil {
					return roomState{}, err
				}
			}
			states = append(states, after)
			continue
		}
		e, err := roomdb.EventByNum(g.read, ext.num)
		if err != nil {
			return roomState{}, fmt.Errorf("forward extremity number %d: %w", ext.num, err)
		}
		after, err := g.after(e)
		if err != nil {
			return roomState{}, err
		}
		states = append(states, after)
	}
	return g.resolve(states)
}

// moveState changes the current state from one state to another, at a slot of its own. It
// skips the key moved, which is up to date already.
func (t admission) moveState(g *graph, from, to roomState, moved store.KeyNum) error {
	diff, err := roomdb.DiffStates(t.read, t.row.Num, from.version, from.slot, to.version, to.slot)
	if err != nil {
		return err
	}
	diff = slices.DeleteFunc(diff, func(d roomdb.StateDelta) bool { return d.Key == moved })
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

// redactionOf returns the event that a redaction of another server redacts, if the store
// has it and the redaction applies.
//
// Spec: rooms/v3#handling-redactions
func (t admission) redactionOf(pdu *event.PDU) (target roomdb.Event, applies bool, err error) {
	if pdu.Redacts().IsZero() {
		return roomdb.Event{}, false, nil
	}
	target, err = t.stored(pdu.Redacts())
	if errors.Is(err, store.ErrNotFound) {
		return roomdb.Event{}, false, nil
	}
	if err != nil || target.Room != t.row.Num {
		return roomdb.Event{}, false, err
	}
	applies, err = t.mayRedact(pdu.Sender(), target)
	return target, applies, err
}

// withhold stores a redaction that does not apply, or not yet. Clients don't see it.
//
// Spec: rooms/v3#handling-redactions
func (t admission) withhold(g *graph, a placement, before roomState) error {
	if redacts := a.pdu.Redacts(); !redacts.IsZero() {
		roomdb.AddWaitingRedaction(t.change, t.row.Num, redacts.String(), a.num)
	}
	return t.refuse(g, a, before, roomdb.SoftFailed, errWithheld)
}

// waitingLimit bounds the early redactions that are tried for one event.
const waitingLimit = 100

// applyWaiting applies a redaction that came before its target, and puts it into the
// timeline.
func (t admission) applyWaiting(g *graph, a placement) error {
	waiting, err := roomdb.WaitingRedactions(t.read, t.row.Num, a.pdu.EventID().String(), waitingLimit)
	if err != nil || len(waiting) == 0 {
		return err
	}
	shown := &t.out.Events[len(t.out.Events)-1]
	target := roomdb.Event{
		Num: a.num, EventID: a.pdu.EventID().String(), Sender: a.pdu.Sender().String(), Key: shown.Key,
		Place: roomdb.Place{Slot: a.slot}, Bytes: a.pdu.Bytes(),
	}
	for _, num := range waiting {
		e, err := roomdb.EventByNum(t.read, num)
		if err != nil {
			return fmt.Errorf("waiting redaction number %d: %w", num, err)
		}
		pdu, err := t.rs.events.Parse(t.r.rules, e)
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
		roomdb.DropWaitingRedactions(t.change, t.row.Num, target.EventID)
		t.out.Events[len(t.out.Events)-1].RedactedBy = pdu
		late := placement{pdu: pdu, num: num, slot: t.row.Slot + 1, before: e.StateBefore, edges: e.Edges, known: true}
		if err := t.place(late, t.extremities); err != nil {
			return err
		}
		return t.redact(target, t.out.Events[len(t.out.Events)-1])
	}
	return nil
}

// admission is a turn that checks and admits an event of another server.
type admission struct{ *turn }
