package main

import (
	"fmt"
	"slices"

	"stoa/test/chaos/history"
)

// check is a rule: the breaches that it finds, each a sentence.
type check struct {
	name, promise string
	find          func(h *past) []string
	// progress says that the check is about coming on, not about what is
	// stored or shown: such a breach is no sign of a fork.
	progress bool
}

var checks = []check{
	{"complete", "the run came to its end and was about something", complete, true},
	{"acked-durable", "each acknowledged event is in its room under its ID", ackedDurable, false},
	{"once", "no event is there twice, and a transaction has one event", once, false},
	{"invented", "nothing is in a room that was not sent to it", invented, false},
	{"same-order", "all instances show the same rooms in the same order", sameOrder, false},
	{"same-state", "all instances show the last topic as the current one", sameState, false},
	{"sound-store", "the server's own check finds nothing wrong in the store", soundStore, false},
	{"no-faults", "no request meets a fault of the server, such as two changes with one slot", noFaults, false},
	{"sender-order", "the events of a sender are in the order of its sending", senderOrder, false},
	{"timeline", "timelines of /sync follow the room without a gap, a step back or a repetition", timeline, false},
	{"gap-filled", "prev_batch of a limited timeline leads to the event before it", gapFilled, false},
	{"delivered", "everyone is given everything to the end", delivered, false},
	{"token-forward", "sync tokens never go backwards", tokenForward, false},
	{"fresh-reads", "a read shows what was acknowledged or shown to anybody before it began", freshReads, false},
	{"own-writes", "a client's own event can be read as soon as it is acknowledged", ownWrites, false},
	{"key-once", "a one-time key is given out once", keyOnce, false},
	{"key-known", "keys that are given out were uploaded", keyKnown, false},
	{"todevice-once", "to-device messages come exactly once between acknowledged tokens", toDeviceOnce, false},
	{"todevice-order", "to-device messages of a sender come in order", toDeviceOrder, false},
	{"todevice-repeatable", "the same token gives the same to-device messages again", toDeviceRepeatable, false},
	{"todevice-deleted", "acknowledged to-device messages are gone", toDeviceDeleted, false},
	{"clear-refusals", "what fails, fails with a 5xx and an errcode, or a lost connection", clearRefusals, true},
	{"succeeds-at-last", "what failed succeeds when it is repeated", succeedsAtLast, true},
	{"resume", "whatever failed, writes are done and given to everyone within 10 s", resume, true},
	{"rooms-move", "rooms leave a drained instance within 2 s, and one that is killed, frozen or cut off within 10 s", roomsMove, true},
	{"everyone-back", "when all were out, everyone is answered within 10 s of the first return", everyoneBack, true},
	{"faults-healed", "drained instances end well and all come back", faultsHealed, true},
}

func complete(h *past) (breaches []string) {
	if !h.ended {
		breaches = append(breaches, "the history has no end: the run was cut off")
	}
	if len(h.finals) == 0 || len(h.writes) == 0 {
		breaches = append(breaches, "no rooms were read or nothing was written")
	}
	for client, rooms := range h.roomsOf {
		if len(h.accepted(client)) == 0 {
			breaches = append(breaches, fmt.Sprintf("client %d never had an answer to /sync", client))
		}
		for _, room := range rooms {
			if len(h.final[room]) == 0 {
				breaches = append(breaches, fmt.Sprintf("room %d was not read at the end", room))
			}
		}
	}
	return breaches
}

func ackedDurable(h *past) (breaches []string) {
	for _, r := range h.all {
		if (r.Op != history.Send && r.Op != history.State) || !r.OK() {
			continue
		}
		i, ok := h.place[r.Room][r.EventID]
		switch {
		case !ok:
			breaches = append(breaches, fmt.Sprintf("LOST: %s was acknowledged as %s and is not in room %d", show(r), r.EventID, r.Room))
		case h.final[r.Room][i].Body != r.Body:
			breaches = append(breaches, fmt.Sprintf("CHANGED: %s was acknowledged as %s, which says %q", show(r), r.EventID, h.final[r.Room][i].Body))
		}
	}
	return breaches
}

func once(h *past) (breaches []string) {
	for room, events := range h.final {
		byBody, byID := map[string]string{}, map[string]bool{}
		for _, e := range events {
			if byID[e.ID] {
				breaches = append(breaches, fmt.Sprintf("DOUBLED: %s is twice in room %d", e.ID, room))
			}
			byID[e.ID] = true
			if e.Body == "" {
				continue
			}
			if other := byBody[e.Body]; other != "" && other != e.ID {
				breaches = append(breaches, fmt.Sprintf("DOUBLED: %q is in room %d as %s and as %s", e.Body, room, other, e.ID))
			}
			byBody[e.Body] = e.ID
		}
	}
	for key, attempts := range h.writes {
		if key.op != history.Send {
			continue
		}
		id := ""
		for _, r := range attempts {
			if r.OK() && id != "" && r.EventID != id {
				breaches = append(breaches, fmt.Sprintf("the transaction of %s gave %s and %s", show(r), id, r.EventID))
			}
			if r.OK() {
				id = r.EventID
			}
		}
	}
	return breaches
}

func invented(h *past) (breaches []string) {
	type sent struct {
		room int
		body string
	}
	known := map[sent]bool{}
	for _, r := range h.all {
		if r.Op == history.Send || r.Op == history.State {
			known[sent{r.Room, r.Body}] = true
		}
	}
	for room, events := range h.final {
		for _, e := range events {
			if e.Body != "" && !known[sent{room, e.Body}] {
				breaches = append(breaches, fmt.Sprintf("INVENTED: %q (%s) was never sent to room %d", e.Body, e.ID, room))
			}
		}
	}
	return breaches
}

func sameOrder(h *past) (breaches []string) {
	for _, r := range h.finals {
		want := h.final[r.Room]
		for i := range max(len(want), len(r.Events)) {
			if i < len(want) && i < len(r.Events) && want[i] == r.Events[i] {
				continue
			}
			breaches = append(breaches, fmt.Sprintf("room %d differs from event %d on between %s (%d events) and %s (%d events)",
				r.Room, i+1, h.finals[0].Target, len(want), r.Target, len(r.Events)))
			break
		}
	}
	return breaches
}

func sameState(h *past) (breaches []string) {
	topics := map[string]bool{} // texts that were sent as topics
	for _, r := range h.all {
		if r.Op == history.State {
			topics[r.Body] = true
		}
	}
	for _, r := range h.topics {
		want := ""
		for _, e := range h.final[r.Room] {
			if topics[e.Body] {
				want = e.Body
			}
		}
		if r.Body != want {
			breaches = append(breaches, fmt.Sprintf("instance %s says that the topic of room %d is %q, the last one sent is %q", r.Target, r.Room, r.Body, want))
		}
	}
	return breaches
}

func soundStore(h *past) []string {
	switch {
	case h.doctor == nil:
		return []string{"the store was not looked at"}
	case !h.doctor.OK():
		return []string{h.doctor.Text}
	}
	return nil
}

// noFaults looks for 500: what a server can't do now, it refuses with a 503.
func noFaults(h *past) (breaches []string) {
	for _, r := range h.all {
		if r.Status == 500 {
			breaches = append(breaches, fmt.Sprintf("%s: 500 %s %s", show(r), r.Err, r.Text))
		}
	}
	return breaches
}

// senderOrder compares events with a 200 each: the next is sent after the answer.
func senderOrder(h *past) (breaches []string) {
	type lane struct{ client, room int }
	last := map[lane]*history.Record{}
	var list []*history.Record
	for key, attempts := range h.writes {
		if r := done(attempts); r != nil && (key.op == history.Send || key.op == history.State) {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b *history.Record) int { return int(a.End - b.End) })
	for _, r := range list {
		at, ok := h.place[r.Room][r.EventID]
		if !ok {
			continue // acked-durable says so
		}
		key := lane{r.Client, r.Room}
		if before := last[key]; before != nil && before.End <= r.Begin && h.place[r.Room][before.EventID] >= at {
			breaches = append(breaches, fmt.Sprintf("%s stands before %s in room %d", show(r), show(before), r.Room))
		}
		last[key] = r
	}
	return breaches
}

// timeline follows each client through each of its rooms.
func timeline(h *past) (breaches []string) {
	for client := range h.clients {
		at := map[int]int{} // room to the place of the last event given
		for _, r := range h.accepted(client) {
			for _, t := range r.Timelines {
				last, begun := at[t.Room]
				for i, e := range t.Events {
					place, ok := h.place[t.Room][e.ID]
					where := fmt.Sprintf("%s: room %d: %s %q", show(r), t.Room, e.ID, e.Body)
					switch {
					case !ok:
						breaches = append(breaches, where+" was shown and is not in the room")
						continue
					case begun && place == last:
						breaches = append(breaches, where+" was shown twice")
					case begun && place < last:
						breaches = append(breaches, fmt.Sprintf("%s has place %d and came after place %d", where, place, last))
					case begun && place > last+1 && !(i == 0 && t.Limited):
						breaches = append(breaches, fmt.Sprintf("%s has place %d and came after place %d: %d events were left out, and the timeline was not limited",
							where, place, last, place-last-1))
					}
					last, begun = place, true
				}
				if begun {
					at[t.Room] = last
				}
			}
		}
	}
	return breaches
}

func gapFilled(h *past) (breaches []string) {
	for _, r := range h.all {
		if r.Op != history.Fill || !r.OK() {
			continue
		}
		next, ok := h.place[r.Room][r.EventID]
		if !ok {
			continue // timeline says so
		}
		for _, e := range r.Events {
			next--
			if place, ok := h.place[r.Room][e.ID]; !ok || place != next {
				breaches = append(breaches, fmt.Sprintf("%s: before %s of room %d: %s should have place %d and has %d", show(r), r.EventID, r.Room, e.ID, next, place))
				break
			}
		}
		if len(r.Events) == 0 && next > 0 {
			breaches = append(breaches, fmt.Sprintf("%s: nothing before %s of room %d, which has place %d", show(r), r.EventID, r.Room, next))
		}
	}
	return breaches
}

func delivered(h *past) (breaches []string) {
	for client, rooms := range h.roomsOf {
		last := map[int]string{}
		for _, r := range h.accepted(client) {
			for _, t := range r.Timelines {
				if len(t.Events) > 0 {
					last[t.Room] = t.Events[len(t.Events)-1].ID
				}
			}
		}
		for _, room := range rooms {
			events := h.final[room]
			if len(events) > 0 && last[room] != events[len(events)-1].ID {
				breaches = append(breaches, fmt.Sprintf("client %d was given room %d up to %s (place %d of %d)",
					client, room, last[room], h.place[room][last[room]], len(events)-1))
			}
		}
	}
	return breaches
}
