package room

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
	"stoa/matrix/signing"
)

// Bounds of the requests to other servers that one incoming event may cause.
const (
	// fetchLimit bounds the events that are fetched one by one.
	fetchLimit = 2000
	// gapLimit is the number of missing events that one request asks for.
	gapLimit = 50
	// gapDepth bounds the recursion into missing events of missing events.
	gapDepth = 3
)

// receiver processes one event of another server, and fetches the events that it needs.
// It works outside the room's turn until accept.
type receiver struct {
	rs     *Rooms
	ctx    context.Context // of the request: a receiver lives as long as one call
	origin id.ServerName
	roomID id.RoomID
	room   store.RoomNum
	rules  *roomversion.Rules
	budget int // events that may still be fetched
}

// parse makes checks 1 to 3.
func (rc *receiver) parse(raw []byte) (incoming, error) {
	pdu, err := event.Parse(rc.rules, raw)
	if err != nil {
		return incoming{}, fmt.Errorf("%w: %w", ErrDropped, err)
	}
	in := incoming{pdu: pdu}
	keys, err := rc.keys(pdu)
	if err != nil {
		return incoming{}, err
	}
	err = event.Verify(pdu, keys)
	var bad *event.SignatureError
	switch {
	case errors.As(err, &bad) && bad.Authoriser:
		in.unsigned = err
	case err != nil:
		return incoming{}, fmt.Errorf("%w: %w", ErrDropped, err)
	}
	return in, nil
}

// keys gets the keys of the servers that must have signed an event.
func (rc *receiver) keys(pdu *event.PDU) (signing.KeySource, error) {
	wanted := map[id.ServerName][]id.KeyID{}
	for _, s := range pdu.RequiredSigners() {
		if s.Server != rc.rs.server {
			wanted[s.Server] = s.KeyIDs
		}
	}
	keys := ownKeys{signer: rc.rs.opt.Signer}
	if len(wanted) == 0 || rc.rs.opt.Remote == nil {
		return keys, nil
	}
	var err error
	if keys.remoteKeys, err = rc.rs.opt.Remote.Keys(rc.ctx, wanted); err != nil {
		return nil, fmt.Errorf("%w: keys of the signers of %s: %w", ErrMissing, pdu.EventID(), err)
	}
	return keys, nil
}

// ownKeys has this server's key, and the fetched keys of other servers.
type ownKeys struct {
	signer     *signing.Signer
	remoteKeys signing.KeySource
}

// VerifyKey implements signing.KeySource.
func (k ownKeys) VerifyKey(server id.ServerName, keyID id.KeyID) (signing.VerifyKey, bool) {
	if server == k.signer.ServerName() {
		key := k.signer.Key()
		return signing.VerifyKey{Key: key.Public(), ValidUntilTS: maxDepth}, keyID == key.ID()
	}
	if k.remoteKeys == nil {
		return signing.VerifyKey{}, false
	}
	return k.remoteKeys.VerifyKey(server, keyID)
}

// receive fetches the events that the checks of an event need, then makes the checks.
func (rc *receiver) receive(in incoming, depth int) (Received, error) {
	known, err := rc.known([]id.EventID{in.pdu.EventID()})
	if err != nil {
		return Received{}, err
	}
	if e, ok := known[in.pdu.EventID()]; ok && e.Standing&roomdb.Outlier == 0 {
		return Received{EventID: in.pdu.EventID(), Standing: e.Standing, Known: true}, nil
	}
	if err := rc.needAuth(in.pdu); err != nil {
		return Received{}, err
	}
	missing, err := rc.unplaced(in.pdu.PrevEvents())
	if err != nil {
		return Received{}, err
	}
	if len(missing) > 0 {
		if missing, err = rc.fillGap(in.pdu, depth); err != nil {
			return Received{}, err
		}
	}
	if len(missing) > 0 {
		if err := rc.fetchStateBefore(&in); err != nil {
			return Received{}, err
		}
	}
	return rc.accept(in)
}

// known returns those of some events that the store has.
func (rc *receiver) known(eventIDs []id.EventID) (map[id.EventID]roomdb.Event, error) {
	known := make(map[id.EventID]roomdb.Event, len(eventIDs))
	texts := make([]string, len(eventIDs))
	byText := make(map[string]id.EventID, len(eventIDs))
	for i, eventID := range eventIDs {
		texts[i] = eventID.String()
		byText[texts[i]] = eventID
	}
	err := rc.rs.store.Read(rc.ctx, func(read *store.Read) error {
		events, err := roomdb.EventsByID(read, texts)
		for _, e := range events {
			known[byText[e.EventID]] = e
		}
		return err
	})
	return known, err
}

// unplaced returns those of some events whose state the store does not have.
func (rc *receiver) unplaced(eventIDs []id.EventID) ([]id.EventID, error) {
	known, err := rc.known(eventIDs)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(eventIDs), func(eventID id.EventID) bool {
		e, ok := known[eventID]
		return ok && e.Standing&roomdb.Outlier == 0
	}), nil
}

// fetch fetches one event from the origin.
func (rc *receiver) fetch(eventID id.EventID) (incoming, error) {
	if rc.rs.opt.Remote == nil || rc.budget == 0 {
		return incoming{}, fmt.Errorf("%w: %s", ErrMissing, eventID)
	}
	rc.budget--
	raw, err := rc.rs.opt.Remote.Event(rc.ctx, rc.origin, rc.rules, eventID)
	if err != nil {
		return incoming{}, fmt.Errorf("%w: %s: %w", ErrMissing, eventID, err)
	}
	in, err := rc.parse(raw)
	if err != nil {
		return incoming{}, err
	}
	if in.pdu.EventID() != eventID || in.pdu.RoomID() != rc.roomID {
		return incoming{}, fmt.Errorf("%w: asked for %s, got %s of %s", ErrDropped, eventID, in.pdu.EventID(), in.pdu.RoomID())
	}
	return in, nil
}

// needAuth stores all auth events of an event, and theirs before them, as outliers unless
// the store has them.
//
// Spec: server-server-api#retrieving-event-authorisation-information
func (rc *receiver) needAuth(pdu *event.PDU) error {
	var order []incoming // each after the events that it depends on
	seen := map[id.EventID]bool{}
	var visit func(*event.PDU) error
	visit = func(pdu *event.PDU) error {
		known, err := rc.known(pdu.AuthEvents())
		if err != nil {
			return err
		}
		for _, eventID := range pdu.AuthEvents() {
			if _, here := known[eventID]; here || seen[eventID] {
				continue
			}
			seen[eventID] = true
			in, err := rc.fetch(eventID)
			if err != nil {
				return err
			}
			if err := visit(in.pdu); err != nil {
				return err
			}
			order = append(order, in)
		}
		return nil
	}
	if err := visit(pdu); err != nil {
		return err
	}
	for _, in := range order {
		if err := rc.addOutlier(in); err != nil {
			return err
		}
	}
	return nil
}

// addOutlier checks an event by its auth events alone, and stores it without a place in
// the graph.
func (rc *receiver) addOutlier(in incoming) error {
	if err := rc.intern(in.pdu); err != nil {
		return err
	}
	err := rc.rs.write(rc.ctx, rc.roomID, func(*roomversion.Rules) []eventauth.Key { return nil }, func(t *turn) error {
		return t.settled(func() error { return admission{t}.receiveOutlier(in) })
	})
	if errors.Is(err, store.ErrDuplicate) {
		return nil
	}
	return err
}

// receiveOutlier checks an outlier and writes it.
func (t admission) receiveOutlier(in incoming) error {
	switch _, err := roomdb.EventByID(t.read, in.pdu.EventID().String()); {
	case err == nil:
		return errNothing
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	a := placement{pdu: in.pdu}
	auth, err := t.authEvents(newGraph(t.turn, t.read), &a)
	if err != nil {
		return err
	}
	standing := roomdb.Outlier
	reason := in.unsigned
	if reason == nil {
		if reason, err = t.judgeAuth(in.pdu, auth); err != nil {
			return err
		}
	}
	if reason != nil {
		standing |= roomdb.Rejected
	}
	if a.num, err = t.rs.store.NextEvent(t.ctx); err != nil {
		return err
	}
	return t.storeUnplaced(a, 0, standing, reason)
}

// fillGap fetches and receives the events between the forward extremities and an event.
// It returns the prev events that are still missing.
//
// Spec: server-server-api#backfilling-and-retrieving-missing-events
func (rc *receiver) fillGap(pdu *event.PDU, depth int) (missing []id.EventID, err error) {
	if rc.rs.opt.Remote == nil || depth == 0 {
		return rc.unplaced(pdu.PrevEvents())
	}
	extremities, err := rc.extremities()
	if err != nil {
		return nil, err
	}
	raws, err := rc.rs.opt.Remote.MissingEvents(rc.ctx, rc.origin, rc.roomID, extremities, []id.EventID{pdu.EventID()}, gapLimit)
	if err != nil {
		rc.rs.opt.Log.DebugContext(rc.ctx, "missing events can't be had", "room_id", rc.roomID.String(), "server", rc.origin.String(), "err", err)
		return rc.unplaced(pdu.PrevEvents())
	}
	var gap []incoming
	for _, raw := range raws[:min(len(raws), gapLimit)] {
		in, err := rc.parse(raw)
		if errors.Is(err, ErrDropped) || err == nil && in.pdu.RoomID() != rc.roomID {
			continue
		}
		if err != nil {
			return nil, err
		}
		gap = append(gap, in)
	}
	for _, in := range oldestFirst(gap) {
		if _, err := rc.receive(in, depth-1); err != nil && !errors.Is(err, ErrMissing) && !errors.Is(err, ErrDropped) {
			return nil, err
		}
	}
	return rc.unplaced(pdu.PrevEvents())
}

// extremities returns the forward extremities of the room.
func (rc *receiver) extremities() (extremities []id.EventID, err error) {
	err = rc.rs.store.Read(rc.ctx, func(read *store.Read) error {
		row, err := roomdb.RoomByNum(read, rc.room)
		if err != nil {
			return err
		}
		texts, err := roomdb.EventIDs(read, row.Extremities)
		if err != nil {
			return err
		}
		for _, text := range texts {
			eventID, err := id.ParseEventID(text)
			if err != nil {
				return fmt.Errorf("forward extremity of %s: %w", rc.roomID, err)
			}
			extremities = append(extremities, eventID)
		}
		return nil
	})
	return extremities, err
}

// oldestFirst sorts events so that each comes after the events that it is built on.
func oldestFirst(events []incoming) []incoming {
	byID := make(map[id.EventID]incoming, len(events))
	for _, in := range events {
		byID[in.pdu.EventID()] = in
	}
	sorted := make([]incoming, 0, len(events))
	done := make(map[id.EventID]bool, len(events))
	var visit func(incoming)
	visit = func(in incoming) {
		if done[in.pdu.EventID()] {
			return
		}
		done[in.pdu.EventID()] = true
		for _, prev := range in.pdu.PrevEvents() {
			if below, ok := byID[prev]; ok {
				visit(below)
			}
		}
		sorted = append(sorted, in)
	}
	for _, in := range events {
		visit(in)
	}
	return sorted
}

// fetchStateBefore fetches the state before an event whose prev events can't be fetched,
// and stores the events of that state, with the events that they depend on, as outliers.
//
// Spec: server-server-api#retrieving-events
func (rc *receiver) fetchStateBefore(in *incoming) error {
	if rc.rs.opt.Remote == nil {
		return fmt.Errorf("%w: prev events of %s", ErrMissing, in.pdu.EventID())
	}
	state, chain, err := rc.rs.opt.Remote.StateIDs(rc.ctx, rc.origin, rc.roomID, in.pdu.EventID())
	if err != nil {
		return fmt.Errorf("%w: state before %s: %w", ErrMissing, in.pdu.EventID(), err)
	}
	known, err := rc.known(slices.Concat(chain, state))
	if err != nil {
		return err
	}
	for _, eventID := range state {
		if _, here := known[eventID]; here {
			continue
		}
		of, err := rc.fetch(eventID)
		if err != nil {
			return err
		}
		if err := rc.needAuth(of.pdu); err != nil {
			return err
		}
		if err := rc.addOutlier(of); err != nil {
			return err
		}
	}
	if known, err = rc.known(state); err != nil {
		return err
	}
	in.gap = true
	for _, eventID := range state {
		if e, here := known[eventID]; here && e.Room == rc.room {
			in.state = append(in.state, e.Num)
		}
	}
	return nil
}
