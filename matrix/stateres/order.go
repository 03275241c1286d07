package stateres

import (
	"cmp"
	"slices"
	"strings"

	"stoa/matrix/event"
	"stoa/matrix/eventauth"
)

// byPower is what the reverse topological power ordering compares of an event.
type byPower struct {
	level          eventauth.Level
	originServerTS int64 // ms
	eventID        string
	i              at
}

// comesFirst compares events of which none rests on the other: greater power of the sender first, then the older, then the
// lesser event ID.
//
// Spec: rooms/v2#definitions
func comesFirst(x, y byPower) bool {
	if x.level != y.level {
		return x.level > y.level
	}
	if x.originServerTS != y.originServerTS {
		return x.originServerTS < y.originServerTS
	}
	return x.eventID < y.eventID
}

// reverseTopologicalPowerOrdering sorts a set of events by Kahn's algorithm: an event comes after those of its auth events
// that are in the set.
//
// Spec: rooms/v2#definitions
func (r *resolver) reverseTopologicalPowerOrdering(set []at) ([]at, error) {
	missing := make(map[at]int, len(set)) // auth events of the set that did not come yet
	above := make(map[at][]at, len(set))  // who waits for an event
	for _, i := range set {
		missing[i] = 0
	}
	for _, i := range set {
		auth, err := r.auth(i)
		if err != nil {
			return nil, err
		}
		for _, a := range auth {
			if _, ok := missing[a]; ok {
				missing[i]++
				above[a] = append(above[a], i)
			}
		}
	}
	ready := heap[byPower]{less: comesFirst}
	push := func(i at) error {
		x, err := r.powerOf(i)
		if err == nil {
			ready.push(x)
		}
		return err
	}
	for _, i := range set {
		if missing[i] == 0 {
			if err := push(i); err != nil {
				return nil, err
			}
		}
	}
	// Events that rest on each other in a circle, which only room versions with assigned event IDs could express, never
	// become ready and are left out: nothing in a circle can be authorised.
	sorted := make([]at, 0, len(set))
	for len(ready.items) > 0 {
		i := ready.pop().i
		sorted = append(sorted, i)
		for _, waiting := range above[i] {
			if missing[waiting]--; missing[waiting] == 0 {
				if err := push(waiting); err != nil {
					return nil, err
				}
			}
		}
	}
	return sorted, nil
}

// powerOf reads the power of an event's sender off the event's own auth events.
func (r *resolver) powerOf(i at) (byPower, error) {
	pdu, err := r.pdu(i)
	if err != nil {
		return byPower{}, err
	}
	powerLevels, err := r.authEvent(i, event.TypePowerLevels)
	if err != nil {
		return byPower{}, err
	}
	create, err := r.createOf(i)
	if err != nil {
		return byPower{}, err
	}
	return byPower{
		level:          eventauth.UserLevel(create, powerLevels, pdu.Sender()),
		originServerTS: pdu.OriginServerTS(),
		eventID:        pdu.EventID().String(),
		i:              i,
	}, nil
}

// createOf returns the create event that an event names among its auth events, or that its room ID implies; nil if none.
func (r *resolver) createOf(i at) (*event.PDU, error) {
	if r.in.Rules.RoomIDFromCreate {
		ref, err := r.unconflicted(Key{Type: event.TypeCreate})
		if err != nil || ref == 0 {
			return nil, err
		}
		return r.pdu(r.at(ref))
	}
	return r.authEvent(i, event.TypeCreate)
}

// authEvent returns the auth event of a type with an empty state key, nil if there is none.
func (r *resolver) authEvent(i at, eventType string) (*event.PDU, error) {
	a, err := r.authAt(i, eventType)
	if err != nil || a < 0 {
		return nil, err
	}
	return r.pdu(a)
}

// authAt is authEvent for the place; -1 if there is none.
func (r *resolver) authAt(i at, eventType string) (at, error) {
	auth, err := r.auth(i)
	if err != nil {
		return -1, err
	}
	for _, a := range auth {
		pdu, err := r.pdu(a)
		if err != nil {
			return -1, err
		}
		if pdu.Type() == eventType && keyOf(pdu).StateKey == "" {
			return a, nil
		}
	}
	return -1, nil
}

// mainline is the chain of power levels events from the resolved one back, as far as it was needed.
//
// Spec: rooms/v2#definitions
type mainline struct {
	r        *resolver
	position map[at]int // by power levels event: its place in the mainline, or where what it rests on meets it
	last     at         // the oldest event so far; -1 when the chain has ended
}

// offMainline is greater than any position.
const offMainline = int(^uint(0) >> 1)

// mainlineOrdering sorts a set of events by the mainline of the power levels in the partially resolved state.
//
// Spec: rooms/v2#definitions
func (r *resolver) mainlineOrdering(set []at) ([]at, error) {
	m := &mainline{r: r, position: make(map[at]int), last: -1}
	start, err := r.resolvedPowerLevels()
	if err != nil {
		return nil, err
	}
	if start >= 0 {
		m.last = start
		m.position[start] = 0
	}
	type placed struct {
		position       int
		originServerTS int64 // ms
		eventID        string
		i              at
	}
	events := make([]placed, 0, len(set))
	for _, i := range set {
		position, err := m.of(i)
		if err != nil {
			return nil, err
		}
		pdu, err := r.pdu(i)
		if err != nil {
			return nil, err
		}
		events = append(events, placed{position, pdu.OriginServerTS(), pdu.EventID().String(), i})
	}
	slices.SortFunc(events, func(x, y placed) int {
		return cmp.Or(
			cmp.Compare(y.position, x.position),
			cmp.Compare(x.originServerTS, y.originServerTS),
			strings.Compare(x.eventID, y.eventID),
		)
	})
	sorted := make([]at, len(events))
	for n, e := range events {
		sorted[n] = e.i
	}
	return sorted, nil
}

// resolvedPowerLevels returns the power levels event of the partially resolved state, -1 if it has none.
func (r *resolver) resolvedPowerLevels() (at, error) {
	key := Key{Type: event.TypePowerLevels}
	if i, ok := r.state.entries[key]; ok {
		return i, nil
	}
	if !r.state.fromUnconflicted {
		return -1, nil
	}
	ref, err := r.unconflicted(key)
	if err != nil || ref == 0 {
		return -1, err
	}
	return r.at(ref), nil
}

// of returns the mainline position of an event. It goes back from the event and along the mainline in turn, so that the
// mainline is read only as far back as events rest on it.
func (m *mainline) of(i at) (int, error) {
	var trail []at
	onTrail := make(map[at]struct{})
	for e := i; ; {
		next, err := m.r.authAt(e, event.TypePowerLevels)
		if err != nil {
			return 0, err
		}
		if _, circle := onTrail[next]; next < 0 || circle {
			break
		}
		if position, ok := m.position[next]; ok {
			return m.learn(trail, position), nil
		}
		trail = append(trail, next)
		onTrail[next] = struct{}{}
		e = next
		if position, ok, err := m.extend(onTrail); err != nil || ok {
			return m.learn(trail, position), err
		}
	}
	for len(trail) > 0 && m.last >= 0 {
		if position, ok, err := m.extend(onTrail); err != nil || ok {
			return m.learn(trail, position), err
		}
	}
	return m.learn(trail, offMainline), nil
}

// extend reads one more event of the mainline and says whether it is one of those looked for.
func (m *mainline) extend(wanted map[at]struct{}) (position int, ok bool, err error) {
	if m.last < 0 {
		return 0, false, nil
	}
	next, err := m.r.authAt(m.last, event.TypePowerLevels)
	if err != nil {
		return 0, false, err
	}
	if _, circle := m.position[next]; next < 0 || circle {
		m.last = -1
		return 0, false, nil
	}
	position = m.position[m.last] + 1
	m.position[next] = position
	m.last = next
	_, ok = wanted[next]
	return position, ok, nil
}

// learn keeps the position of the power levels events that were followed to the mainline, so that they are not followed
// twice. The trail may go on behind the place where it met the mainline.
func (m *mainline) learn(trail []at, position int) int {
	for _, i := range trail {
		if _, met := m.position[i]; met {
			break
		}
		m.position[i] = position
	}
	return position
}
