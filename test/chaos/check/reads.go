package main

import (
	"cmp"
	"fmt"
	"slices"

	"stoa/internal/token"
	"stoa/test/chaos/history"
)

func tokenForward(h *past) (breaches []string) {
	for client := range h.clients {
		for _, r := range h.accepted(client) {
			next, err := token.ParseStream(r.Next)
			if err != nil {
				breaches = append(breaches, fmt.Sprintf("%s: next_batch: %v", show(r), err))
				continue
			}
			if r.Since == "" {
				continue
			}
			since, err := token.ParseStream(r.Since)
			if err != nil {
				breaches = append(breaches, fmt.Sprintf("%s: since: %v", show(r), err))
				continue
			}
			if next.Position < since.Position || next.ToDevice < since.ToDevice {
				breaches = append(breaches, fmt.Sprintf("%s: since %s gave %s", show(r), r.Since, r.Next))
			}
		}
	}
	return breaches
}

// known is that an event was known to a client at a time.
type known struct {
	at    int64
	place int
	by    *history.Record
}

// freshReads compares each /messages from the end with all that anybody had
// been shown, or told, before it was asked for. Reads must be one piece of the
// room, too.
func freshReads(h *past) (breaches []string) {
	shown := map[int][]known{}
	note := func(room int, id string, r *history.Record) {
		if place, ok := h.place[room][id]; ok {
			shown[room] = append(shown[room], known{r.End, place, r})
		}
	}
	for _, r := range h.all {
		if !r.OK() {
			continue
		}
		switch r.Op {
		case history.Send, history.State:
			note(r.Room, r.EventID, r)
		case history.Sync:
			for _, t := range r.Timelines {
				if n := len(t.Events); n > 0 {
					note(t.Room, t.Events[n-1].ID, r)
				}
			}
		case history.Messages:
			if len(r.Events) > 0 {
				note(r.Room, r.Events[0].ID, r)
			}
		}
	}
	for room, list := range shown {
		slices.SortFunc(list, func(a, b known) int { return cmp.Compare(a.at, b.at) })
		for i := 1; i < len(list); i++ { // the newest so far, with who knew it first
			if list[i].place <= list[i-1].place {
				list[i].place, list[i].by = list[i-1].place, list[i-1].by
			}
		}
		shown[room] = list
	}
	for _, r := range h.all {
		if r.Op != history.Messages || !r.OK() {
			continue
		}
		if len(r.Events) == 0 {
			breaches = append(breaches, fmt.Sprintf("%s: room %d was shown empty", show(r), r.Room))
			continue
		}
		first, ok := h.place[r.Room][r.Events[0].ID]
		if !ok {
			breaches = append(breaches, fmt.Sprintf("%s: %s was shown and is not in room %d", show(r), r.Events[0].ID, r.Room))
			continue
		}
		for i, e := range r.Events {
			if place, ok := h.place[r.Room][e.ID]; !ok || place != first-i {
				breaches = append(breaches, fmt.Sprintf("%s: room %d: %s should have place %d and has %d", show(r), r.Room, e.ID, first-i, place))
				break
			}
		}
		list := shown[r.Room]
		n, _ := slices.BinarySearchFunc(list, r.Begin, func(k known, begin int64) int { return cmp.Compare(k.at, begin) })
		if n > 0 && list[n-1].place > first {
			breaches = append(breaches, fmt.Sprintf("STALE: %s shows room %d up to place %d; place %d was known before: %s, answered at %s",
				show(r), r.Room, first, list[n-1].place, show(list[n-1].by), seconds(list[n-1].by.End)))
		}
	}
	return breaches
}

func ownWrites(h *past) (breaches []string) {
	for _, r := range h.all {
		if r.Op == history.Event && r.Status != 0 && r.Status < 500 && !r.OK() {
			breaches = append(breaches, fmt.Sprintf("%s: the own event %s of room %d: %d %s", show(r), r.EventID, r.Room, r.Status, r.Err))
		}
	}
	return breaches
}

func keyOnce(h *past) (breaches []string) {
	type key struct {
		owner int
		key   string
	}
	given := map[key]*history.Record{}
	for _, r := range h.all {
		if r.Op != history.Claim || !r.OK() {
			continue
		}
		for _, k := range r.Keys {
			id := key{r.To, k}
			if before := given[id]; before != nil {
				breaches = append(breaches, fmt.Sprintf("key %s of client %d: %s and %s", k, r.To, show(before), show(r)))
			}
			given[id] = r
		}
	}
	return breaches
}

func keyKnown(h *past) (breaches []string) {
	type key struct {
		owner int
		key   string
	}
	uploaded := map[key]bool{}
	for _, r := range h.all {
		if r.Op == history.Upload {
			for _, k := range r.Keys {
				uploaded[key{r.Client, k}] = true
			}
		}
	}
	for _, r := range h.all {
		if r.Op != history.Claim || !r.OK() {
			continue
		}
		if len(r.Keys) > 1 {
			breaches = append(breaches, fmt.Sprintf("%s: one key was asked for and %d given", show(r), len(r.Keys)))
		}
		for _, k := range r.Keys {
			if !uploaded[key{r.To, k}] {
				breaches = append(breaches, fmt.Sprintf("%s: client %d never uploaded %s", show(r), r.To, k))
			}
		}
	}
	return breaches
}
