package main

import (
	"slices"
	"testing"

	"stoa/test/chaos/history"
)

const second = 1_000_000

// good is a short history in which all promises are kept: client 0 sends two
// messages and a topic to room 1, client 1 sees them; a to-device message goes
// from 0 to 1, and a key of 1 is claimed by 0.
func good() []*history.Record {
	all := []history.Shown{{ID: "$create"}, {ID: "$1", Body: "m-0-1"}, {ID: "$2", Body: "m-0-2"}, {ID: "$3", Body: "t-0-3-1"}, {ID: "$4", Body: "end-1"}}
	timeline := func(limited bool, events ...history.Shown) []history.Timeline {
		return []history.Timeline{{Room: 1, Limited: limited, Events: slices.Clone(events)}}
	}
	at := int64(0)
	tick := func(r *history.Record) *history.Record {
		r.Begin, r.End = at, at+100
		at += 1000
		if r.Status == 0 {
			r.Status = 200
		}
		r.Instance = "a"
		return r
	}
	sync := func(client int, since, next string, t []history.Timeline, toDevice ...string) *history.Record {
		return tick(&history.Record{Op: history.Sync, Client: client, Since: since, Next: next, Timelines: t, ToDevice: toDevice})
	}
	final := func(target string) *history.Record {
		return &history.Record{Op: history.Final, Room: 1, Target: target, Status: 200, Events: slices.Clone(all)}
	}
	topic := func(target string) *history.Record {
		return &history.Record{Op: history.Topic, Room: 1, Target: target, Status: 200, Body: "t-0-3-1"}
	}
	failed := tick(&history.Record{Op: history.Send, Room: 1, Txn: "m-0-1", Body: "m-0-1", Attempt: 1, Status: 503})
	failed.Err = "M_UNKNOWN"
	return []*history.Record{
		{Op: history.Run, Seed: 1, Clients: 2, Rooms: [][]int{{1}, {1}}},
		sync(0, "", "s1.1.0.0", timeline(true, all[0])),
		sync(1, "", "s1.1.0.0", timeline(true, all[0])),
		failed,
		tick(&history.Record{Op: history.Send, Room: 1, Txn: "m-0-1", Body: "m-0-1", Attempt: 2, EventID: "$1"}),
		tick(&history.Record{Op: history.Event, Room: 1, EventID: "$1"}),
		sync(1, "s1.1.0.0", "s1.2.0.0", timeline(false, all[1])),
		tick(&history.Record{Op: history.Send, Room: 1, Txn: "m-0-2", Body: "m-0-2", Attempt: 1, EventID: "$2"}),
		tick(&history.Record{Op: history.State, Room: 1, Txn: "t-0-3", Body: "t-0-3-1", Attempt: 1, EventID: "$3"}),
		tick(&history.Record{Op: history.Messages, Client: 1, Room: 1, Events: []history.Shown{all[3], all[2], all[1]}}),
		tick(&history.Record{Op: history.Upload, Client: 1, Txn: "k-1-1", Attempt: 1, Keys: []string{"signed_curve25519:1 one", "signed_curve25519:2 two"}}),
		tick(&history.Record{Op: history.Claim, To: 1, Keys: []string{"signed_curve25519:1 one"}}),
		tick(&history.Record{Op: history.Claim, To: 1, Keys: []string{"signed_curve25519:2 two"}}),
		tick(&history.Record{Op: history.ToDevice, To: 1, Txn: "d-0-4", Body: "d-0-4", Attempt: 1}),
		tick(&history.Record{Op: history.ToDevice, To: 1, Txn: "d-0-5", Body: "d-0-5", Attempt: 1}),
		func() *history.Record { // thrown away, so it comes again
			r := sync(1, "s1.2.0.0", "s1.4.7.0", timeline(true, all[2], all[3]), "d-0-4", "d-0-5")
			r.Dropped = true
			return r
		}(),
		sync(1, "s1.2.0.0", "s1.4.7.0", timeline(true, all[3]), "d-0-4", "d-0-5"),
		tick(&history.Record{Op: history.Fill, Client: 1, Room: 1, EventID: "$3", Events: []history.Shown{all[2], all[1]}}),
		{Op: history.Fault, Fault: "drain", Target: "a", Begin: 20_000, End: 21_000},
		tick(&history.Record{Op: history.Send, Room: 1, Txn: "end-1", Body: "end-1", Attempt: 1, EventID: "$4"}),
		sync(0, "s1.1.0.0", "s1.5.0.0", timeline(false, all[1:]...)),
		sync(1, "s1.4.7.0", "s1.5.7.0", timeline(false, all[4])),
		tick(&history.Record{Op: history.Resync, Client: 1, Since: "s1.2.0.0", Next: "s1.5.7.0"}),
		final("a"), final("b"), topic("a"), topic("b"),
		{Op: history.Doctor, Status: 200},
		{Op: history.End, Begin: 40_000, End: 40_000},
	}
}

// find gives the n-th record of an operation.
func find(records []*history.Record, op string, n int) *history.Record {
	for _, r := range records {
		if r.Op == op {
			if n == 0 {
				return r
			}
			n--
		}
	}
	panic("no " + op)
}

// inTrouble lets instance a be the home of the room until it has the fault, and
// the next write, begun and ended so long after it, be served by another.
func inTrouble(records []*history.Record, fault, then string, after int64) []*history.Record {
	f, before, next := find(records, history.Fault, 0), find(records, history.Send, 2), find(records, history.Send, 3)
	f.Fault, f.End, f.Gone = fault, f.Begin+4*second, f.Begin+4*second
	before.Home, next.Home = "a", then
	next.Begin, next.End = f.Begin+1, f.Begin+after
	if fault == "drain" {
		next.Begin = next.End - 1
	}
	return records
}

func broken(t *testing.T, records []*history.Record) (names []string) {
	t.Helper()
	h, err := index(records)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range checks {
		for i, breach := range c.find(h) {
			if i == 0 {
				names = append(names, c.name)
			}
			t.Log(c.name+":", breach)
		}
	}
	return names
}

func TestChecksPassAGoodHistory(t *testing.T) {
	t.Parallel()
	if names := broken(t, good()); len(names) > 0 {
		t.Errorf("broken: %v", names)
	}
}

func TestChecksFindEachBreach(t *testing.T) {
	t.Parallel()
	without := func(records []*history.Record, r *history.Record) []*history.Record {
		return slices.DeleteFunc(records, func(other *history.Record) bool { return other == r })
	}
	finals := func(records []*history.Record, change func(events []history.Shown) []history.Shown) []*history.Record {
		for _, r := range records {
			if r.Op == history.Final {
				r.Events = change(r.Events)
			}
		}
		return records
	}
	for _, tc := range []struct {
		check, name string
		damage      func(records []*history.Record) []*history.Record
	}{
		{"complete", "no end", func(rs []*history.Record) []*history.Record { return rs[:len(rs)-1] }},
		{"complete", "a client without an answer", func(rs []*history.Record) []*history.Record {
			return slices.DeleteFunc(rs, func(r *history.Record) bool { return r.Op == history.Sync && r.Client == 0 })
		}},
		{"acked-durable", "an acknowledged event is gone", func(rs []*history.Record) []*history.Record {
			return finals(rs, func(events []history.Shown) []history.Shown { return slices.Delete(events, 2, 3) })
		}},
		{"acked-durable", "an event says something else", func(rs []*history.Record) []*history.Record {
			return finals(rs, func(events []history.Shown) []history.Shown { events[2].Body = "m-0-1"; return events })
		}},
		{"once", "a message under two IDs", func(rs []*history.Record) []*history.Record {
			return finals(rs, func(events []history.Shown) []history.Shown {
				return slices.Insert(events, 3, history.Shown{ID: "$9", Body: "m-0-2"})
			})
		}},
		{"once", "an event twice", func(rs []*history.Record) []*history.Record {
			return finals(rs, func(events []history.Shown) []history.Shown { return slices.Insert(events, 3, events[1]) })
		}},
		{"once", "two answers to one transaction", func(rs []*history.Record) []*history.Record {
			first := find(rs, history.Send, 0)
			first.Status, first.EventID = 200, "$9"
			return rs
		}},
		{"invented", "a message of nobody", func(rs []*history.Record) []*history.Record {
			return finals(rs, func(events []history.Shown) []history.Shown {
				return append(events, history.Shown{ID: "$9", Body: "m-7-7"})
			})
		}},
		{"same-order", "another order", func(rs []*history.Record) []*history.Record {
			events := find(rs, history.Final, 1).Events
			events[1], events[2] = events[2], events[1]
			return rs
		}},
		{"same-order", "an event less", func(rs []*history.Record) []*history.Record {
			r := find(rs, history.Final, 1)
			r.Events = r.Events[:4]
			return rs
		}},
		{"same-state", "an old topic", func(rs []*history.Record) []*history.Record {
			find(rs, history.Topic, 1).Body = ""
			return rs
		}},
		{"sound-store", "the doctor found something", func(rs []*history.Record) []*history.Record {
			find(rs, history.Doctor, 0).Status = 0
			return rs
		}},
		{"sound-store", "nobody looked", func(rs []*history.Record) []*history.Record {
			return without(rs, find(rs, history.Doctor, 0))
		}},
		{"no-faults", "a 500 with an errcode", func(rs []*history.Record) []*history.Record {
			find(rs, history.Send, 0).Status = 500
			return rs
		}},
		{"sender-order", "the second message before the first", func(rs []*history.Record) []*history.Record {
			return finals(rs, func(events []history.Shown) []history.Shown {
				events[1], events[2] = events[2], events[1]
				return events
			})
		}},
		{"timeline", "a gap", func(rs []*history.Record) []*history.Record {
			t := &find(rs, history.Sync, 5).Timelines[0]
			t.Events = slices.Delete(t.Events, 1, 2)
			return rs
		}},
		{"timeline", "a step back", func(rs []*history.Record) []*history.Record {
			r := find(rs, history.Sync, 5)
			r.Timelines[0].Events = []history.Shown{{ID: "$2", Body: "m-0-2"}, {ID: "$3", Body: "t-0-3-1"}, {ID: "$4", Body: "end-1"}}
			return rs
		}},
		{"timeline", "a repetition", func(rs []*history.Record) []*history.Record {
			t := &find(rs, history.Sync, 5).Timelines[0]
			t.Events = slices.Insert(t.Events, 1, t.Events[0])
			return rs
		}},
		{"timeline", "an event that is not in the room", func(rs []*history.Record) []*history.Record {
			find(rs, history.Sync, 2).Timelines[0].Events[0].ID = "$ghost"
			return rs
		}},
		{"gap-filled", "a page that leaves one out", func(rs []*history.Record) []*history.Record {
			r := find(rs, history.Fill, 0)
			r.Events = r.Events[1:]
			return rs
		}},
		{"gap-filled", "an empty page", func(rs []*history.Record) []*history.Record {
			find(rs, history.Fill, 0).Events = nil
			return rs
		}},
		{"delivered", "the last event is missing", func(rs []*history.Record) []*history.Record {
			return without(rs, find(rs, history.Sync, 5))
		}},
		{"token-forward", "a token back", func(rs []*history.Record) []*history.Record {
			find(rs, history.Sync, 6).Next = "s1.3.7.0"
			return rs
		}},
		{"token-forward", "a to-device position back", func(rs []*history.Record) []*history.Record {
			find(rs, history.Sync, 6).Next = "s1.5.6.0"
			return rs
		}},
		{"fresh-reads", "an acknowledged event is not shown", func(rs []*history.Record) []*history.Record {
			r := find(rs, history.Messages, 0)
			r.Events = r.Events[1:]
			return rs
		}},
		{"fresh-reads", "a page with a hole", func(rs []*history.Record) []*history.Record {
			r := find(rs, history.Messages, 0)
			r.Events = slices.Delete(r.Events, 1, 2)
			return rs
		}},
		{"own-writes", "the own event is not found", func(rs []*history.Record) []*history.Record {
			find(rs, history.Event, 0).Status = 404
			return rs
		}},
		{"key-once", "a key twice", func(rs []*history.Record) []*history.Record {
			find(rs, history.Claim, 1).Keys = []string{"signed_curve25519:1 one"}
			return rs
		}},
		{"key-known", "a key of nobody", func(rs []*history.Record) []*history.Record {
			find(rs, history.Claim, 1).Keys = []string{"signed_curve25519:3 three"}
			return rs
		}},
		{"todevice-once", "a message never comes", func(rs []*history.Record) []*history.Record {
			for _, n := range []int{3, 4} {
				r := find(rs, history.Sync, n)
				if r.Client == 1 {
					r.ToDevice = r.ToDevice[:1]
				}
			}
			find(rs, history.Sync, 3).ToDevice = []string{"d-0-4"}
			return rs
		}},
		{"todevice-once", "a message comes again", func(rs []*history.Record) []*history.Record {
			find(rs, history.Sync, 6).ToDevice = []string{"d-0-5"}
			return rs
		}},
		{"todevice-once", "a message goes astray", func(rs []*history.Record) []*history.Record {
			find(rs, history.ToDevice, 0).To = 0
			return rs
		}},
		{"todevice-order", "the second before the first", func(rs []*history.Record) []*history.Record {
			for _, n := range []int{3, 4} {
				if r := find(rs, history.Sync, n); len(r.ToDevice) == 2 {
					r.ToDevice = []string{"d-0-5", "d-0-4"}
				}
			}
			return rs
		}},
		{"todevice-repeatable", "the same token gives less", func(rs []*history.Record) []*history.Record {
			find(rs, history.Sync, 3).ToDevice = nil
			find(rs, history.Sync, 4).ToDevice = nil
			find(rs, history.Sync, 3).ToDevice = []string{"d-0-4"}
			return rs
		}},
		{"todevice-deleted", "an acknowledged one comes again", func(rs []*history.Record) []*history.Record {
			find(rs, history.Resync, 0).ToDevice = []string{"d-0-4"}
			return rs
		}},
		{"clear-refusals", "a 403", func(rs []*history.Record) []*history.Record {
			find(rs, history.Send, 0).Status = 403
			return rs
		}},
		{"clear-refusals", "a 500 of the server without an errcode", func(rs []*history.Record) []*history.Record {
			find(rs, history.Send, 0).Err = ""
			return rs
		}},
		{"succeeds-at-last", "a write that never succeeds", func(rs []*history.Record) []*history.Record {
			find(rs, history.ToDevice, 1).Status = 503
			return rs
		}},
		{"resume", "an event that comes after eleven seconds", func(rs []*history.Record) []*history.Record {
			find(rs, history.Sync, 5).End += 11 * second
			return rs
		}},
		{"resume", "a poll without an answer for forty-one seconds", func(rs []*history.Record) []*history.Record {
			r := find(rs, history.Sync, 5)
			r.End += 41 * second
			r.Timelines = nil
			return rs
		}},
		{"resume", "a write that takes eleven seconds", func(rs []*history.Record) []*history.Record {
			find(rs, history.Send, 1).End += 11 * second
			return rs
		}},
		{"rooms-move", "a drained instance that keeps its rooms", func(rs []*history.Record) []*history.Record {
			return inTrouble(rs, "drain", "a", 3*second)
		}},
		{"rooms-move", "rooms of a killed instance that nobody takes", func(rs []*history.Record) []*history.Record {
			return inTrouble(rs, "kill", "b", 11*second)
		}},
		{"everyone-back", "a client without an answer after all were out", func(rs []*history.Record) []*history.Record {
			f := find(rs, history.Fault, 0)
			f.Fault, f.End = "all", find(rs, history.Sync, 5).End
			return rs
		}},
		{"everyone-back", "a client that is answered after eleven seconds", func(rs []*history.Record) []*history.Record {
			f := find(rs, history.Fault, 0)
			f.Fault = "all"
			find(rs, history.Sync, 5).End += 11 * second
			return rs
		}},
		{"faults-healed", "a drained instance ends with an error", func(rs []*history.Record) []*history.Record {
			find(rs, history.Fault, 0).Exit = 1
			return rs
		}},
	} {
		t.Run(tc.check+" finds "+tc.name, func(t *testing.T) {
			t.Parallel()
			if names := broken(t, tc.damage(good())); !slices.Contains(names, tc.check) {
				t.Errorf("broken: %v, want %s among them", names, tc.check)
			}
		})
	}
}

func TestRoomsThatMoveInTime(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		fault, then string
		after       int64
	}{{"drain", "a", second}, {"drain", "b", 3 * second}, {"kill", "b", 9 * second}, {"freeze", "b", 9 * second}} {
		records := inTrouble(good(), tc.fault, tc.then, tc.after)
		if names := broken(t, records); slices.Contains(names, "rooms-move") {
			t.Errorf("%v: broken: %v", tc, names)
		}
	}
}

func TestResumeExcusesTheTimeWhenAllAreOut(t *testing.T) {
	t.Parallel()
	records := good()
	find(records, history.Sync, 5).End += 14 * second
	records = append(records, &history.Record{Op: history.Fault, Fault: "all", Begin: 0, End: 6 * second})
	if names := broken(t, records); slices.Contains(names, "resume") {
		t.Errorf("broken: %v", names)
	}
}
