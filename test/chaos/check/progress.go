package main

import (
	"fmt"

	"stoa/test/chaos/history"
)

// In microseconds.
const (
	resumeWithin = 10_000_000 // what was acknowledged must be given to everyone, and a write be done
	pollWithin   = 30_000_000 // how long a /sync may wait for something new
)

func clearRefusals(h *past) (breaches []string) {
	for _, r := range h.all {
		switch r.Op {
		case history.Run, history.End, history.Note, history.Fault, history.Final, history.Topic, history.Doctor:
			continue
		}
		switch {
		case r.OK(), r.Status == 0:
		case r.Status < 500:
			breaches = append(breaches, fmt.Sprintf("%s: %d %s %s", show(r), r.Status, r.Err, r.Text))
		case r.Instance != "" && r.Err == "": // else it is from the balancer
			breaches = append(breaches, fmt.Sprintf("%s: %d without an errcode: %s", show(r), r.Status, r.Text))
		}
	}
	return breaches
}

func succeedsAtLast(h *past) (breaches []string) {
	for _, attempts := range h.writes {
		if done(attempts) == nil {
			last := attempts[len(attempts)-1]
			breaches = append(breaches, fmt.Sprintf("%s: %d attempts, the last gave %d %s", show(attempts[0]), len(attempts), last.Status, last.Err))
		}
	}
	return breaches
}

// excused is how much of a time nobody can be blamed for: all instances were
// out, or the harness itself did not run.
func (h *past) excused(from, to int64) (us int64) {
	for _, r := range h.excuses {
		us += max(0, min(to, r.End)-max(from, r.Begin))
	}
	return us
}

func resume(h *past) (breaches []string) {
	late := func(from, to, within int64, what func() string) {
		if to-from <= within {
			return
		}
		if took := to - from - h.excused(from, to); took > within {
			breaches = append(breaches, fmt.Sprintf("%s took %s, from %s to %s", what(), seconds(took), seconds(from), seconds(to)))
		}
	}
	acknowledged := map[string]*history.Record{} // by event
	for _, attempts := range h.writes {
		r := done(attempts)
		if r == nil {
			continue // succeeds-at-last says so
		}
		late(attempts[0].Begin, r.End, resumeWithin, func() string { return fmt.Sprintf("%s: a write in %d attempts", show(r), len(attempts)) })
		if r.EventID != "" {
			acknowledged[r.EventID] = r
		}
	}
	for client := range h.clients {
		var last int64
		for _, r := range h.syncs[client] {
			if !r.OK() {
				continue
			}
			late(last, r.End, pollWithin+resumeWithin, func() string { return show(r) + ": the next answer to /sync" })
			last = r.End
			if r.Since == "" || r.Dropped {
				continue
			}
			for _, t := range r.Timelines {
				if len(t.Events) == 0 {
					continue
				}
				// The first is the one that waited longest.
				if sent := acknowledged[t.Events[0].ID]; sent != nil {
					late(sent.End, r.End, resumeWithin, func() string { return fmt.Sprintf("%s: to be given %q of room %d", show(r), sent.Body, t.Room) })
				}
			}
		}
	}
	for _, r := range h.all {
		switch r.Op {
		case history.Claim, history.Event, history.Messages, history.Fill:
			late(r.Begin, r.End, resumeWithin, func() string { return show(r) + ": an answer" })
		}
	}
	return breaches
}

func faultsHealed(h *past) (breaches []string) {
	for _, r := range h.faults {
		if r.Err != "" || r.Exit != 0 {
			breaches = append(breaches, fmt.Sprintf("%s of %s at %s: exit code %d %s %s", r.Fault, r.Target, seconds(r.Begin), r.Exit, r.Err, r.Text))
		}
	}
	return breaches
}
