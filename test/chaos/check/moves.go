package main

import (
	"fmt"
	"slices"

	"stoa/test/chaos/history"
)

// moveWithin is how soon the rooms of an instance in trouble must be served by
// another, in microseconds.
var moveWithin = map[string]int64{"drain": 2_000_000, "kill": 10_000_000, "freeze": 10_000_000, "cut-db": 10_000_000}

// move is what became of the rooms of one instance in trouble.
type move struct {
	fault *history.Record
	rooms int   // that it was the home of, and that were written to since
	worst int64 // how long the last of them took, in microseconds
	room  int   // which one that was
}

// moves looks at each fault that takes rooms away. Of an instance that drains it
// is told how long it still served writes that were begun after it was told to
// stop; of others, how long the first write to each of their rooms took.
func (h *past) moves() (list []move) {
	byRoom := map[int][]*history.Record{}
	for _, r := range h.all {
		if r.Op == history.Send || r.Op == history.State {
			byRoom[r.Room] = append(byRoom[r.Room], r)
		}
	}
	for _, f := range h.faults {
		if moveWithin[f.Fault] == 0 {
			continue
		}
		m := move{fault: f}
		for room, writes := range byRoom {
			if servedBy(writes, f.Begin) != f.Target {
				continue
			}
			took, ok := h.moved(f, writes)
			if !ok {
				continue
			}
			m.rooms++
			if took >= m.worst {
				m.worst, m.room = took, room
			}
		}
		list = append(list, m)
	}
	return list
}

// servedBy is the home that did the last write before a time.
func servedBy(writes []*history.Record, at int64) (home string) {
	var last int64
	for _, r := range writes {
		if r.OK() && r.Home != "" && r.End < at && r.End > last {
			home, last = r.Home, r.End
		}
	}
	return home
}

// moved is how long a room's move took; ok is false if nobody wrote to it.
func (h *past) moved(f *history.Record, writes []*history.Record) (took int64, ok bool) {
	if f.Fault == "drain" {
		for _, r := range writes {
			if r.OK() && r.Begin > f.Begin && r.Begin < f.Gone {
				ok = true
				if r.Home == f.Target {
					took = max(took, r.Begin-f.Begin)
				}
			}
		}
		return took, ok
	}
	var asked, done int64
	for _, r := range writes {
		if r.Begin <= f.Begin {
			continue // the answer may have been under way
		}
		if asked == 0 || r.Begin < asked {
			asked = r.Begin
		}
		if r.OK() && (done == 0 || r.End < done) {
			done = r.End
		}
	}
	if done == 0 || asked > f.End {
		return 0, false // succeeds-at-last tells the one, the other says nothing
	}
	return done - asked - h.excused(asked, done), true
}

func roomsMove(h *past) (breaches []string) {
	for _, m := range h.moves() {
		if within := moveWithin[m.fault.Fault]; m.worst > within {
			breaches = append(breaches, fmt.Sprintf("%s of %s at %s: room %d moved after %s",
				m.fault.Fault, m.fault.Target, seconds(m.fault.Begin), m.room, seconds(m.worst)))
		}
	}
	return breaches
}

// back is the time from the first return after all were out to the first answer
// that a client got to /sync; ok is false if it got none.
func (h *past) back(f *history.Record, client int) (us int64, ok bool) {
	for _, r := range h.syncs[client] {
		if r.OK() && r.End > f.End && (!ok || r.End-f.End < us) {
			us, ok = r.End-f.End, true
		}
	}
	return us, ok
}

func everyoneBack(h *past) (breaches []string) {
	for _, f := range h.faults {
		if f.Fault != "all" {
			continue
		}
		for client := range h.clients {
			us, ok := h.back(f, client)
			switch {
			case !ok:
				breaches = append(breaches, fmt.Sprintf("client %d had no answer to /sync after all were out", client))
			case us-h.excused(f.End, f.End+us) > resumeWithin:
				breaches = append(breaches, fmt.Sprintf("client %d had its first answer to /sync %s after the first instance came back", client, seconds(us)))
			}
		}
	}
	return breaches
}

// figures are lines about what was measured. Times for which nobody can be blamed
// are taken out of them.
func (h *past) figures() (lines []string) {
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, op := range []string{history.Send, history.State, history.ToDevice, history.Upload} {
		var done1, doneLater, attempts int
		var worst int64
		failed := map[int]int{}
		for key, list := range h.writes {
			if key.op != op {
				continue
			}
			for _, r := range list {
				attempts++
				if !r.OK() {
					failed[r.Status]++
				}
			}
			if r := done(list); r != nil {
				if r.Attempt > 1 {
					doneLater++
				} else {
					done1++
				}
				worst = max(worst, r.End-list[0].Begin-h.excused(list[0].Begin, r.End))
			}
		}
		say("%-9s %d done at once, %d when repeated; %d attempts, failed by status %v (0: no answer); the longest took %s",
			op, done1, doneLater, attempts, failed, seconds(worst))
	}
	if n := len(h.excuses); n > 0 {
		var us int64
		for _, r := range h.excuses {
			us += r.End - r.Begin
		}
		say("%d times, %s together, all instances were out or the clients themselves did not run", n, seconds(us))
	}
	events := 0
	for _, list := range h.final {
		events += len(list)
	}
	delays := h.delays()
	if len(delays) > 0 {
		at := func(p float64) string { return seconds(delays[int(p*float64(len(delays)-1))]) }
		say("%d events in %d rooms; from acknowledged to given, the oldest of each timeline: p50 %s, p99 %s, p99.9 %s, worst %s",
			events, len(h.final), at(.5), at(.99), at(.999), at(1))
	}
	worst, count, rooms := map[string]int64{}, map[string]int{}, map[string]int{}
	for _, m := range h.moves() {
		worst[m.fault.Fault] = max(worst[m.fault.Fault], m.worst)
		count[m.fault.Fault]++
		rooms[m.fault.Fault] += m.rooms
	}
	for _, kind := range []string{"drain", "kill", "freeze", "cut-db"} {
		if count[kind] > 0 {
			say("%-9s %d times, %d rooms moved, the slowest after %s", kind, count[kind], rooms[kind], seconds(worst[kind]))
		}
	}
	for _, f := range h.faults {
		if f.Fault == "all" {
			var last int64
			for client := range h.clients {
				us, _ := h.back(f, client)
				last = max(last, us)
			}
			say("all out   for %s; everyone had an answer to /sync %s after the first return", seconds(f.End-f.Begin), seconds(last))
		}
	}
	return lines
}

// delays are the times from an event's acknowledgement to its being given, of the
// oldest event of each timeline, in order.
func (h *past) delays() (list []int64) {
	acknowledged := map[string]int64{}
	for _, attempts := range h.writes {
		if r := done(attempts); r != nil && r.EventID != "" {
			acknowledged[r.EventID] = r.End
		}
	}
	for client := range h.clients {
		for _, r := range h.accepted(client) {
			for _, t := range r.Timelines {
				if r.Since == "" || len(t.Events) == 0 {
					continue
				}
				if at, ok := acknowledged[t.Events[0].ID]; ok {
					list = append(list, max(0, r.End-at-h.excused(at, r.End)))
				}
			}
		}
	}
	slices.Sort(list)
	return list
}
