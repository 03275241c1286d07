package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"stoa/test/chaos/history"
)

// past is a history in the order in which it is asked for.
type past struct {
	seed    uint64
	clients int
	roomsOf [][]int
	all     []*history.Record
	ended   bool
	faults  []*history.Record
	excuses []*history.Record // times for which nobody can be blamed

	// final is the whole of each room, by room number, as the first instance
	// that was read showed it; place the index of each event there.
	final  map[int][]history.Shown
	place  map[int]map[string]int
	finals []*history.Record
	topics []*history.Record
	doctor *history.Record

	writes map[write][]*history.Record // attempts, in order
	syncs  [][]*history.Record         // by client, in order, resyncs left out
	resync []*history.Record
}

// write is what a client wants done once.
type write struct {
	op     string
	client int
	txn    string
}

func index(records []*history.Record) (*past, error) {
	if len(records) == 0 || records[0].Op != history.Run {
		return nil, errors.New("not the history of a run: it does not begin with one")
	}
	first := records[0]
	h := &past{seed: first.Seed, clients: first.Clients, roomsOf: first.Rooms, all: records,
		final: map[int][]history.Shown{}, place: map[int]map[string]int{}, writes: map[write][]*history.Record{},
		syncs: make([][]*history.Record, first.Clients)}
	for n, r := range records {
		if r.Client < 0 || r.Client >= h.clients {
			return nil, fmt.Errorf("line %d: there is no client %d", n+1, r.Client)
		}
		switch r.Op {
		case history.Send, history.State, history.ToDevice, history.Upload:
			key := write{r.Op, r.Client, r.Txn}
			h.writes[key] = append(h.writes[key], r)
		case history.Sync:
			h.syncs[r.Client] = append(h.syncs[r.Client], r)
		case history.Resync:
			h.resync = append(h.resync, r)
		case history.Fault:
			h.faults = append(h.faults, r)
			if r.Fault == "all" {
				h.excuses = append(h.excuses, r)
			}
		case history.Note:
			h.excuses = append(h.excuses, r)
		case history.Final:
			h.finals = append(h.finals, r)
			if h.final[r.Room] == nil {
				h.final[r.Room] = r.Events
				h.place[r.Room] = places(r.Events)
			}
		case history.Topic:
			h.topics = append(h.topics, r)
		case history.Doctor:
			h.doctor = r
		case history.End:
			h.ended = true
		}
	}
	byBegin := func(a, b *history.Record) int { return cmp.Compare(a.Begin, b.Begin) }
	for _, list := range h.syncs {
		slices.SortFunc(list, byBegin)
	}
	for _, list := range h.writes {
		slices.SortFunc(list, byBegin)
	}
	return h, nil
}

func places(events []history.Shown) map[string]int {
	place := make(map[string]int, len(events))
	for i, e := range events {
		place[e.ID] = i
	}
	return place
}

// accepted are the answers that a client went on from.
func (h *past) accepted(client int) []*history.Record {
	var list []*history.Record
	for _, r := range h.syncs[client] {
		if r.OK() && !r.Dropped {
			list = append(list, r)
		}
	}
	return list
}

// done is the attempt that was answered with a 200, nil if none was.
func done(attempts []*history.Record) *history.Record {
	for _, r := range attempts {
		if r.OK() {
			return r
		}
	}
	return nil
}

func (h *past) summary() string {
	var requests, failures, delivered, limited, toDevice, claimed, conflicts int
	count := map[string]int{}
	for _, r := range h.all {
		switch r.Op {
		case history.Run, history.End, history.Note, history.Final, history.Topic, history.Doctor:
			continue
		case history.Fault:
			count[r.Fault]++
			continue
		}
		requests++
		if !r.OK() {
			failures++
		}
		if r.Op == history.Claim {
			claimed += len(r.Keys)
		}
		if r.Dropped {
			conflicts++
			continue
		}
		toDevice += len(r.ToDevice)
		for _, t := range r.Timelines {
			delivered += len(t.Events)
			if t.Limited && r.Since != "" {
				limited++
			}
		}
	}
	return fmt.Sprintf("seed %d: %d requests of %d clients, %d failed; %d writes, %d events delivered, %d timelines limited, %d to-device messages, %d keys claimed, %d answers thrown away, faults %v",
		h.seed, requests, h.clients, failures, len(h.writes), delivered, limited, toDevice, claimed, conflicts, count)
}

func seconds(us int64) string { return fmt.Sprintf("%.3f s", float64(us)/1e6) }

// show names a record in a counterexample.
func show(r *history.Record) string {
	text := fmt.Sprintf("client %d %s at %s", r.Client, r.Op, seconds(r.Begin))
	if r.Body != "" {
		text += " " + r.Body
	}
	if r.Instance != "" {
		text += " on " + r.Instance
	}
	if r.Home != "" {
		text += " (home " + r.Home + ")"
	}
	return text
}
