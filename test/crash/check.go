package main

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"

	"stoa/test/kit"
)

// check looks at everything that was acknowledged in the round.
func (t *population) check(srv *kit.Server, rnd *rand.Rand, sum *totals) error {
	// What has no answer yet is sent again and must now have one: its event is
	// new, or the one that was committed before the kill.
	var news []*message
	for _, p := range t.people {
		if p.pending != nil {
			if err := t.put(p.pending); err != nil {
				return fmt.Errorf("send again what had no answer: %w", err)
			}
			p.pending = nil
			sum.unknown++
		}
		for _, m := range p.sent {
			t.byBody[m.body] = m
		}
		sum.acknowledged += len(p.sent)
		news = append(news, p.sent...)
		p.sent = nil
	}
	// Some of the transactions again: each must give the event that it gave.
	for range min(len(news), 5) {
		if err := t.put(news[rnd.IntN(len(news))]); err != nil {
			return fmt.Errorf("repeat a transaction: %w", err)
		}
		sum.repeated++
	}
	for _, room := range t.rooms {
		if err := t.checkRoom(room); err != nil {
			return fmt.Errorf("room %s: %w", room.id, err)
		}
	}
	for _, m := range news {
		if m.seen == "" {
			return fmt.Errorf("LOST: %s was acknowledged as %s and is not in the room", m.body, m.eventID)
		}
	}
	if err := t.checkBuilt(); err != nil {
		return err
	}
	_, err := srv.Run("doctor", "store")
	return err
}

// checkBuilt looks at the rooms that were made in the round: those that were
// acknowledged are there, and those that are there are complete.
func (t *population) checkBuilt() error {
	var joined struct {
		JoinedRooms []string `json:"joined_rooms"`
	}
	if err := t.call(t.builder, "GET", "/_matrix/client/v3/joined_rooms", nil, &joined); err != nil {
		return err
	}
	for _, room := range t.built {
		if !slices.Contains(joined.JoinedRooms, room) {
			return fmt.Errorf("LOST: the room %s was acknowledged and is not there", room)
		}
	}
	t.built = nil
	for _, room := range joined.JoinedRooms {
		if t.complete[room] {
			continue
		}
		t.complete[room] = true
		var state []shown
		if err := t.call(t.builder, "GET", "/_matrix/client/v3/rooms/"+url.PathEscape(room)+"/state", nil, &state); err != nil {
			return err
		}
		for _, want := range []string{"m.room.create", "m.room.member", "m.room.power_levels", "m.room.join_rules", "m.room.name", "m.room.topic"} {
			if !slices.ContainsFunc(state, func(e shown) bool { return e.Type == want }) {
				return fmt.Errorf("HALF STATE: the room %s is there without its %s", room, want)
			}
		}
	}
	return nil
}

// shown is an event as a client sees it.
type shown struct {
	EventID string `json:"event_id"`
	Type    string `json:"type"`
	Content struct {
		Body string `json:"body"`
	} `json:"content"`
}

// checkRoom reads what is new in a room, and compares it with the ledger: each
// message once, under the ID that was acknowledged, in its sender's order.
func (t *population) checkRoom(room *meeting) error {
	var events []shown // newest first
	seen := map[string]bool{}
	from := ""
	for reached := false; !reached; {
		var page struct {
			Chunk []shown `json:"chunk"`
			End   string  `json:"end"`
		}
		path := "/_matrix/client/v3/rooms/" + url.PathEscape(room.id) + "/messages?dir=b&limit=500"
		if from != "" {
			path += "&from=" + url.QueryEscape(from)
		}
		if err := t.call(t.people[0].token, "GET", path, nil, &page); err != nil {
			return err
		}
		for _, e := range page.Chunk {
			if e.EventID == room.lastSeen {
				reached = true
				break
			}
			if seen[e.EventID] {
				return fmt.Errorf("DOUBLED: the event %s is shown twice", e.EventID)
			}
			seen[e.EventID] = true
			events = append(events, e)
		}
		if page.End == "" {
			if !reached && room.lastSeen != "" {
				return fmt.Errorf("LOST: the event %s, seen in an earlier round, is gone", room.lastSeen)
			}
			break
		}
		from = page.End
	}
	slices.Reverse(events)
	last := map[int]int{} // person to number
	for _, e := range events {
		room.lastSeen = e.EventID
		if e.Type != "m.room.message" {
			continue
		}
		m := t.byBody[e.Content.Body]
		switch {
		case m == nil:
			return fmt.Errorf("INVENTED: %q (%s) was never sent", e.Content.Body, e.EventID)
		case m.seen != "":
			return fmt.Errorf("DOUBLED: %q is there as %s and as %s", m.body, m.seen, e.EventID)
		case m.eventID != e.EventID:
			return fmt.Errorf("CHANGED: %q was acknowledged as %s and is there as %s", m.body, m.eventID, e.EventID)
		}
		m.seen = e.EventID
		if before, ok := last[m.person]; ok && before > m.number {
			return fmt.Errorf("OUT OF ORDER: %q comes after number %d of the same sender", m.body, before)
		}
		last[m.person] = m.number
	}
	return nil
}
