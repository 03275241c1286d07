// Package unread counts the unread events of members, by room and thread, without a row
// per member: from the running totals in live events, the member's receipts, and the few
// events with a higher verdict than their class.
//
// It owns no table and writes nothing. Package room writes totals and highlights, package
// ephemeral receipts; package pushrule defines their meaning.
//
// The invariant: the counts are those of a naive evaluation of all the member's push
// rules for all events since the member's last receipt. The package makes that evaluation
// only for members with rules that reduce counts (muted or ignored senders, own
// overrides), and only for the newest events.
//
// Spec: client-server-api#receiving-notifications
package unread

import (
	"cmp"
	"fmt"
	"slices"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/pushrule"
)

const (
	// evaluated bounds the newest events that are evaluated one by one for a member with
	// rules that reduce counts. Older ones count by their class.
	evaluated = 500
	// rulesWork bounds the steps of the member's rules for these events (pushrule.Work).
	rulesWork = 4 * pushrule.EventWork
	// threadLimit bounds the counted threads of a room, most recent first.
	threadLimit = 1000
	// highlightLimit bounds the highlights of one read, over all rooms.
	highlightLimit = 10_000
	// mainThread is the thread of receipts for events without a thread.
	//
	// Spec: client-server-api#threaded-read-receipts
	mainThread = "main"
)

// Rules has the push rules of users.
type Rules interface {
	// Compiled returns a local user's compiled rules, including ignored users.
	Compiled(r *store.Read, user who.User) (*pushrule.Rules, error)
}

// Counter counts for all users.
type Counter struct {
	store *store.Store
	rules Rules
}

// New returns a Counter. nil rules mean that all users have the default rules.
func New(s *store.Store, rules Rules) *Counter { return &Counter{store: s, rules: rules} }

// Place is a member's room.
type Place struct {
	Room   store.RoomNum
	RoomID id.RoomID
	// Joined is the slot at which the member joined.
	Joined store.Slot
	// Slot and Totals are the room's last slot and its totals.
	Slot   store.Slot
	Totals []byte
	// Members is the number of joined members.
	Members int64
}

// RoomCounter is the unread events of one member in one room. Apply keeps it up to date,
// as long as the member reads and sends nothing and keeps the same rules.
type RoomCounter struct {
	member  *member
	counter *pushrule.Counter
	// slot is the last counted slot.
	slot store.Slot
	// seen is the read marker of all threads, read that of the main timeline, both as
	// slots.
	seen, read store.Slot
	main       part
	threads    map[string]*part
	// fixed says that events were evaluated one by one, so that Apply can't update the
	// counter.
	fixed bool
}

// member is the member whose counters are read.
type member struct {
	num store.UserNum
	id  id.UserID
}

// part has the unread events of the main timeline, or of a thread.
type part struct {
	base, now pushrule.Totals
	// from is the read marker of a thread; last is a slot at or after the newest event.
	from, last store.Slot
	special    *special // nil for none, since there are many counters in memory
}

// special has the events with another effect than their class.
type special struct {
	raised []raised
	plus   pushrule.Unread // the effect of events that were evaluated one by one
}

func (p *part) specially() *special {
	if p.special == nil {
		p.special = &special{}
	}
	return p.special
}

func (p *part) raise(r raised) {
	x := p.specially()
	x.raised = append(x.raised, r)
}

// raised is an event with a higher verdict than its class.
type raised struct {
	slot    store.Slot
	class   pushrule.Class
	verdict pushrule.Verdict
}

// read subtracts everything at or before a slot; base are the totals at the slot.
func (p *part) read(slot store.Slot, base pushrule.Totals) {
	p.base = base
	if x := p.special; x != nil {
		x.raised = slices.DeleteFunc(x.raised, func(r raised) bool { return r.slot <= slot })
		if len(x.raised) == 0 && x.plus == (pushrule.Unread{}) {
			p.special = nil
		}
	}
}

func (p *part) count(c *pushrule.Counter) pushrule.Unread {
	u := c.Count(p.now.Minus(p.base))
	if p.special == nil {
		return u
	}
	for _, r := range p.special.raised {
		c.CountRaised(&u, r.class, r.verdict)
	}
	u.Notifications += p.special.plus.Notifications
	u.Highlights += p.special.plus.Highlights
	return u
}

// Thread is the unread events of a thread.
type Thread struct {
	Root string
	pushrule.Unread
}

// Counts returns the numbers of unread events: of the whole room, or if threads are
// wanted, of the main timeline and of each thread with unread events, by root.
//
// Spec: client-server-api#threaded-read-receipts
func (t *RoomCounter) Counts(threads bool) (pushrule.Unread, []Thread) {
	main := t.main.count(t.counter)
	var list []Thread
	for root, p := range t.threads {
		u := p.count(t.counter)
		switch {
		case u == pushrule.Unread{}:
		case threads:
			list = append(list, Thread{root, u})
		default:
			main.Notifications += u.Notifications
			main.Highlights += u.Highlights
		}
	}
	slices.SortFunc(list, func(a, b Thread) int { return cmp.Compare(a.Root, b.Root) })
	return main, list
}

// Slot is the last counted slot.
func (t *RoomCounter) Slot() store.Slot { return t.slot }

// Apply counts the events of a segment of the room, which must follow the last counted
// slot. It returns false if the counter must be read anew.
func (t *RoomCounter) Apply(first, last store.Slot, events []room.Counted) bool {
	if last <= t.slot {
		return true
	}
	if t.fixed || first > t.slot+1 {
		return false
	}
	for i := range events {
		e := &events[i]
		if e.Slot <= t.slot {
			continue
		}
		sender := e.Sender
		if sender != t.member.id && t.counter.TakesAway(func(taker string) bool { return taker == sender.String() }) {
			return false
		}
		t.apply(e)
		if sender == t.member.id {
			t.Read(Receipt{Slot: e.Slot, Thread: threadOf(e), Totals: &e.Totals})
		}
	}
	t.slot = last
	return true
}

func (t *RoomCounter) apply(e *room.Counted) {
	p := &t.main
	if e.Thread.IsZero() {
		p.now = e.Totals.Main()
	} else {
		root := e.Thread.String()
		p = t.threads[root]
		if p == nil {
			// nothing in the thread was unread before this event
			var one pushrule.Totals
			one.Add(e.Class)
			p = &part{base: e.Totals.Thread.Minus(one), from: e.Slot - 1}
			if t.threads == nil {
				t.threads = map[string]*part{}
			}
			t.threads[root] = p
		}
		p.now = e.Totals.Thread
	}
	p.last = e.Slot
	for _, h := range e.Highlights {
		if h.User == t.member.num {
			p.raise(raised{e.Slot, e.Class, h.Verdict})
		}
	}
}

func threadOf(e *room.Counted) string {
	if e.Thread.IsZero() {
		return mainThread
	}
	return e.Thread.String()
}

// Receipt is a receipt of the member.
type Receipt struct {
	Slot store.Slot
	// Thread is "" for all threads, "main", or the root of a thread.
	Thread string
	// Totals are those at the event; nil if they are unknown, or if the event is not in
	// the thread of the receipt.
	Totals *room.Totals
}

// Read subtracts the events that a receipt of the member covers. It returns false if the
// counter must be read anew. The counter must have counted the event of the receipt.
//
// Spec: client-server-api#marking-notifications-as-read
func (t *RoomCounter) Read(x Receipt) bool {
	if t.fixed || x.Slot > t.slot && x.Totals == nil {
		return false
	}
	if x.Thread == "" || x.Thread == mainThread {
		switch {
		case x.Slot <= t.read:
		case x.Slot >= t.main.last:
			t.main.read(x.Slot, t.main.now)
		case x.Totals != nil:
			t.main.read(x.Slot, x.Totals.Main())
		default:
			return false
		}
		t.read = max(t.read, x.Slot)
	}
	if x.Thread == "" {
		t.seen = max(t.seen, x.Slot)
	}
	for root, p := range t.threads {
		if x.Thread != "" && x.Thread != root {
			continue
		}
		switch {
		case x.Slot >= p.last:
			delete(t.threads, root)
		case x.Thread == root && x.Totals != nil && !x.Totals.Thread.IsZero():
			if x.Slot > p.from {
				p.from = x.Slot
				p.read(x.Slot, x.Totals.Thread)
			}
		default:
			return false
		}
	}
	return true
}

// RoomCounters counts the unread events of a member in some rooms, in their order.
func (c *Counter) RoomCounters(r *store.Read, user who.User, places []Place) ([]*RoomCounter, error) {
	rules := pushrule.UsualRules()
	if c.rules != nil {
		var err error
		if rules, err = c.rules.Compiled(r, user); err != nil {
			return nil, fmt.Errorf("read the push rules of %s: %w", user.UserID, err)
		}
	}
	l := &load{c: c, r: r, member: &member{user.UserNum, user.UserID}, places: places, marks: map[store.RoomNum]*marks{}}
	if err := l.readMarks(); err != nil {
		return nil, err
	}
	counters := make([]*RoomCounter, len(places))
	for i := range places {
		counters[i] = l.begin(&places[i], rules)
	}
	if err := l.readTotals(counters); err != nil {
		return nil, err
	}
	if err := l.readHighlights(counters); err != nil {
		return nil, err
	}
	for i, t := range counters {
		if err := l.takeAway(t, &places[i]); err != nil {
			return nil, err
		}
	}
	return counters, nil
}
