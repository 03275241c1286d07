package slidingsync

import (
	"fmt"
	"slices"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/streamcache"
	"stoa/internal/timeline"
	"stoa/matrix/event"
)

// wantedMember is a member whose membership event a part needs.
type wantedMember struct {
	p      *part
	userID string
	hero   bool
}

// memberReader finds the members that answers contain.
type memberReader struct{ *builder }

// addMembers adds the members that belong to parts: those whom the timelines of lazily loading clients mention, and heroes. Members whom
// the client was sent on this connection are left out, but not from a room that begins anew.
func (b memberReader) addMembers(parts []*part) error {
	var wanted []wantedMember
	for _, p := range parts {
		if p.dropped || !p.joined {
			continue
		}
		if p.asked.lazily() {
			wanted = append(wanted, b.mentioned(p)...)
		}
		heroes, err := b.findHeroes(p)
		if err != nil {
			return err
		}
		for _, userID := range heroes {
			wanted = append(wanted, wantedMember{p, userID, true})
		}
	}
	events, err := b.readMembers(wanted)
	if err != nil {
		return err
	}
	for i, w := range wanted {
		ev := events[i]
		switch {
		case ev == nil:
		case w.hero:
			w.p.heroes = append(w.p.heroes, ev)
		case w.p.initial || !b.r.sent.Has(b.sentKey(w.p, ev), 0, b.c.Since):
			w.p.state = append(w.p.state, ev)
		}
	}
	for _, p := range parts {
		if p.dropped || !p.asked.lazily() {
			continue
		}
		for _, ev := range p.state {
			if ev.Type == event.TypeMember {
				b.r.sent.Add(b.sentKey(p, ev), 0, b.upto)
			}
		}
	}
	return nil
}

func (b memberReader) sentKey(p *part, ev *timeline.Event) streamcache.SentKey {
	return streamcache.SentKey{User: b.req.UserNum, Device: b.req.DeviceID, Conn: b.conn.id, Room: p.num, Event: ev.Num}
}

// mentioned are the members whom a timeline mentions and the state does not have yet.
func (b memberReader) mentioned(p *part) (wanted []wantedMember) {
	listed := map[string]bool{}
	for _, ev := range p.state {
		if ev.Type == event.TypeMember {
			listed[ev.StateKey] = true
		}
	}
	want := func(userID string) {
		if !listed[userID] {
			listed[userID] = true
			wanted = append(wanted, wantedMember{p, userID, false})
		}
	}
	for _, ev := range p.events {
		want(ev.Sender.String())
		if ev.IsState && ev.Type == event.TypeMember {
			want(ev.StateKey)
		}
	}
	return wanted
}

// findHeroes returns the members who name a room without a name, if they may be news.
func (b memberReader) findHeroes(p *part) ([]string, error) {
	if !p.initial && !p.membersMoved && p.name == nil || p.quiet && !p.initial {
		return nil, nil
	}
	c, known := b.r.kept.HeroCandidates(p.num)
	if !known {
		if _, err := b.open(b.ctx); err != nil {
			return nil, err
		}
		var err error
		if c, err = b.l.HeroCandidates(p.num); err != nil {
			return nil, err
		}
	}
	if p.named = c.Named; c.Named {
		return nil, nil
	}
	p.withHeroes = true
	return c.Heroes(b.viewer), nil
}

// readMembers returns current membership events; nil for users who have none that belongs into this answer.
func (b memberReader) readMembers(wanted []wantedMember) ([]*timeline.Event, error) {
	if len(wanted) == 0 {
		return nil, nil
	}
	at := make([]streamcache.MemberAt, len(wanted))
	for i, w := range wanted {
		at[i] = streamcache.MemberAt{Room: w.p.num, UserID: w.userID, At: w.p.upto}
		if w.p.upto == 0 {
			at[i].At = 1 << 40 // nothing was read of the room
		}
	}
	events, missing, _ := b.r.kept.Members(at, b.upto)
	if len(missing) == 0 {
		return events, nil
	}
	s, err := b.open(b.ctx)
	if err != nil {
		return nil, err
	}
	pairs := make([]store.Pair, len(missing))
	for i, m := range missing {
		pairs[i] = store.Pair{Type: event.TypeMember, StateKey: wanted[m].userID}
	}
	keys, err := b.r.store.KeyNums(s, pairs)
	if err != nil {
		return nil, fmt.Errorf("look up members: %w", err)
	}
	var ask []roomdb.RoomKey
	for i, m := range missing {
		if k := (roomdb.RoomKey{Room: wanted[m].p.num, Key: keys[i]}); keys[i] != 0 && !slices.Contains(ask, k) {
			ask = append(ask, k)
		}
	}
	rows, err := roomdb.CurrentEntries(s, ask, b.l.Known)
	if err != nil {
		return nil, fmt.Errorf("read members: %w", err)
	}
	found := make(map[roomdb.RoomKey]roomdb.CurrentEntry, len(rows))
	for _, row := range rows {
		found[roomdb.RoomKey{Room: row.Event.Room, Key: row.Key}] = row
		b.l.WantEvents([]roomdb.SyncEvent{row.Event})
	}
	if err := b.l.Load(); err != nil {
		return nil, err
	}
	for i, m := range missing {
		row, ok := found[roomdb.RoomKey{Room: wanted[m].p.num, Key: keys[i]}]
		if !ok || row.Slot > at[m].At {
			continue // it has changed since: the next answer tells
		}
		if events[m] = b.l.Event(row.Event.Num); events[m] != nil {
			b.r.kept.KeepMember(wanted[m].p.num, wanted[m].userID, events[m], s.Head())
		}
	}
	return events, nil
}
