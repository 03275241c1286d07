package unread

import (
	"fmt"
	"slices"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/pushrule"
	"stoa/matrix/roomversion"
)

// past is the state that push rules depend on, at the time of each of a room's newest
// events: the number of members, and the member's name.
type past struct {
	l     *load
	room  store.RoomNum
	rules *roomversion.Rules
	// counts and names are valid from a slot on, newest first.
	counts []countFrom
	names  []nameFrom
	pdus   map[store.EventNum]*event.PDU
	// work is what the member's rules may still do.
	work *pushrule.Work
}

type countFrom struct {
	slot  store.Slot
	count int
}

type nameFrom struct {
	slot store.Slot
	name string
}

// past reconstructs the values from now back to a slot.
func (l *load) past(p *Place, rules *roomversion.Rules, oldest store.Slot) (*past, error) {
	x := &past{l: l, room: p.Room, rules: rules, pdus: map[store.EventNum]*event.PDU{}, work: pushrule.NewWork(rulesWork)}
	log, err := roomdb.SyncLog(l.r, p.Room, oldest, p.Slot)
	if err != nil {
		return nil, fmt.Errorf("read changes of state: %w", err)
	}
	keys := make([]store.KeyNum, len(log))
	for i, c := range log {
		keys[i] = c.Key
	}
	pairs, err := l.c.store.Pairs(l.r, keys)
	if err != nil {
		return nil, fmt.Errorf("read state keys: %w", err)
	}
	own, err := x.Event(event.TypeMember, l.member.id.String(), p.Slot)
	if err != nil {
		return nil, err
	}
	count, name := int(p.Members), nameOf(own)
	for i, c := range slices.Backward(log) {
		if pairs[i].Type != event.TypeMember {
			continue
		}
		is, err := x.pdu(c.Event)
		if err != nil {
			return nil, err
		}
		was, err := x.pdu(c.Prev)
		if err != nil {
			return nil, err
		}
		x.counts = append(x.counts, countFrom{c.Slot, count})
		count -= joined(is) - joined(was)
		if pairs[i].StateKey == l.member.id.String() {
			x.names = append(x.names, nameFrom{c.Slot, name})
			name = nameOf(was)
		}
	}
	x.counts = append(x.counts, countFrom{0, count})
	x.names = append(x.names, nameFrom{0, name})
	return x, nil
}

func joined(pdu *event.PDU) int {
	if pdu != nil && pdu.Membership() == event.MembershipJoin {
		return 1
	}
	return 0
}

func nameOf(member *event.PDU) string {
	if member == nil {
		return ""
	}
	name, _ := canonicaljson.String(canonicaljson.Get(member.Content(), "displayname"))
	return name
}

// members is the number of joined members after a slot.
func (x *past) members(slot store.Slot) int {
	i := slices.IndexFunc(x.counts, func(c countFrom) bool { return c.slot <= slot })
	return x.counts[i].count
}

// name is the member's display name after a slot, "" for none.
func (x *past) name(slot store.Slot) string {
	i := slices.IndexFunc(x.names, func(n nameFrom) bool { return n.slot <= slot })
	return x.names[i].name
}

// Event returns the state event of a type and key after a slot, nil for none.
func (x *past) Event(evType, stateKey string, slot store.Slot) (*event.PDU, error) {
	keys, err := x.l.c.store.KeyNums(x.l.r, []store.Pair{{Type: evType, StateKey: stateKey}})
	if err != nil || keys[0] == 0 {
		return nil, err
	}
	num, err := roomdb.StateKeyAt(x.l.r, x.room, slot, keys[0])
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	return x.pdu(num)
}

// pdu returns an event by its number, nil for none.
func (x *past) pdu(num store.EventNum) (*event.PDU, error) {
	if num == 0 || x.pdus[num] != nil {
		return x.pdus[num], nil
	}
	stored, err := roomdb.EventByNum(x.l.r, num)
	if err != nil {
		return nil, fmt.Errorf("read event number %d: %w", num, err)
	}
	pdu, err := x.parse(&stored)
	x.pdus[num] = pdu
	return pdu, err
}

func (x *past) parse(e *roomdb.Event) (*event.PDU, error) {
	eventID, err := id.ParseEventID(e.EventID)
	if err != nil {
		return nil, fmt.Errorf("stored event %q: %w", e.EventID, err)
	}
	return event.Load(x.rules, eventID, e.Bytes)
}

// stateAt gives the power level rules access to the state after a slot.
type stateAt struct {
	*past
	slot store.Slot
}

// Event implements eventauth.State.
func (s stateAt) Event(evType, stateKey string) (*event.PDU, error) {
	return s.past.Event(evType, stateKey, s.slot)
}
