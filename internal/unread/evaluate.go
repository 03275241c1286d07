package unread

import (
	"errors"
	"fmt"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/pushrule"
	"stoa/matrix/roomversion"
)

// takeAway evaluates the newest unread events one by one, if the member's rules can
// reduce the effect of some of them below that of their class.
func (l *load) takeAway(t *RoomCounter, p *Place) error {
	if t.seen >= t.slot || !t.main.any() && !t.anyThread() {
		return nil
	}
	var fault error
	takes := t.counter.TakesAway(func(sender string) bool {
		present, err := l.wasMember(p.Room, sender)
		fault = errors.Join(fault, err)
		return present
	})
	if fault != nil || !takes {
		return fault
	}
	t.fixed = true
	return l.evaluate(t, p)
}

func (p *part) any() bool {
	return !p.now.Minus(p.base).IsZero() || p.special != nil && len(p.special.raised) > 0
}

func (t *RoomCounter) anyThread() bool {
	for _, p := range t.threads {
		if p.any() {
			return true
		}
	}
	return false
}

// wasMember reports whether a user is or was a member of a room, so that their events may
// be unread.
func (l *load) wasMember(num store.RoomNum, userID string) (bool, error) {
	keys, err := l.c.store.KeyNums(l.r, []store.Pair{{Type: event.TypeMember, StateKey: userID}})
	if err != nil || keys[0] == 0 {
		return false, err
	}
	current, err := roomdb.CurrentKey(l.r, num, keys[0])
	return current != 0, err
}

// evaluate replaces the effect of the newest events' classes by that of the rules on each
// event.
func (l *load) evaluate(t *RoomCounter, p *Place) error {
	events, err := roomdb.TimelineBack(l.r, p.Room, roomdb.End, roomdb.Place{Slot: t.seen + 1}, evaluated+1)
	if err != nil {
		return fmt.Errorf("read unread events: %w", err)
	}
	row, err := roomdb.RoomByNum(l.r, p.Room)
	if err != nil {
		return fmt.Errorf("read room number %d: %w", p.Room, err)
	}
	rules, ok := roomversion.Of(row.Version)
	if !ok {
		return nil // of another release: its events can't be parsed, so only the classes count
	}
	oldest := t.seen
	if len(events) > evaluated {
		oldest = events[evaluated].Place.Slot
		events = events[:evaluated]
	}
	if err := l.dropNewest(t, p.Room, oldest); err != nil {
		return err
	}
	roots, err := l.roots(p.Room, oldest)
	if err != nil {
		return err
	}
	past, err := l.past(p, rules, oldest)
	if err != nil {
		return err
	}
	for i := range events {
		if err := l.judge(t, p, past, &events[i], roots[events[i].Place.Slot]); err != nil {
			return err
		}
	}
	return nil
}

// dropNewest removes from a counter everything after a slot.
func (l *load) dropNewest(t *RoomCounter, num store.RoomNum, slot store.Slot) error {
	found, err := roomdb.TotalsOf(l.r, []roomdb.RoomSlot{{Room: num, Slot: slot}})
	if err != nil {
		return fmt.Errorf("read totals: %w", err)
	}
	for _, f := range found {
		totals, err := room.ParseTotals(f.Totals)
		if err != nil {
			return fmt.Errorf("totals at slot %d of room number %d: %w", f.Slot, f.Room, err)
		}
		t.main.now = totals.Main()
	}
	if slot <= t.read {
		t.main.base = t.main.now
	}
	t.main.special = nil
	for root, p := range t.threads {
		p.special = nil
		if p.now, err = l.threadTotals(num, root, max(slot, l.marks[num].of(root))); err != nil {
			return err
		}
	}
	return nil
}

// roots returns the threads of the events after a slot.
func (l *load) roots(num store.RoomNum, after store.Slot) (map[store.Slot]string, error) {
	list, err := roomdb.ThreadSlots(l.r, num, after, evaluated)
	if err != nil {
		return nil, fmt.Errorf("read threads: %w", err)
	}
	roots := make(map[store.Slot]string, len(list))
	for _, x := range list {
		roots[x.Slot] = x.Root
	}
	return roots, nil
}

// judge counts one event.
func (l *load) judge(t *RoomCounter, p *Place, past *past, e *roomdb.Event, root string) error {
	part, read := &t.main, t.read
	if root != "" {
		if read = l.marks[p.Room].of(root); read < e.Place.Slot {
			part = t.threads[root]
		}
	}
	if e.Place.Off != 0 || e.Place.Slot <= read || part == nil {
		return nil
	}
	pdu, err := past.parse(e)
	if err != nil {
		return err
	}
	var fault error
	facts := pushrule.Facts{MemberCount: past.members(e.Place.Slot), MayNotify: func(key string) bool {
		powers, err := eventauth.PowersOf(stateAt{past, e.Place.Slot})
		if err != nil {
			fault = err
			return false
		}
		return powers.User(pdu.Sender()) >= powers.Notification(key)
	}}
	member := pushrule.Member{UserID: t.member.id.String(), DisplayName: past.name(e.Place.Slot)}
	view := pushrule.NewEvent(pushrule.FieldsOf(pdu), facts)
	view.LimitWork(past.work)
	part.specially().plus.Add(t.counter.Judge(member, view), 1)
	return fault
}
