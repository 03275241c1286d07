package main

import (
	"fmt"

	"stoa/test/chaos/history"
)

// resumeWithin is how long a client may be without an answer, in microseconds.
// Its requests to /sync wait for 5 s at most, and there is always something new.
const resumeWithin = 10_000_000

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
	for _, r := range h.all {
		if r.Op == history.Note || r.Op == history.Fault && r.Fault == "all" {
			us += max(0, min(to, r.End)-max(from, r.Begin))
		}
	}
	return us
}

func resume(h *past) (breaches []string) {
	late := func(from, to int64, what string) {
		if to-from <= resumeWithin {
			return
		}
		if took := to - from - h.excused(from, to); took > resumeWithin {
			breaches = append(breaches, fmt.Sprintf("%s took %s, from %s to %s", what, seconds(took), seconds(from), seconds(to)))
		}
	}
	for client := range h.clients {
		var last int64
		for _, r := range h.syncs[client] {
			if r.OK() {
				late(last, r.End, show(r)+": the next answer to /sync")
				last = r.End
			}
		}
	}
	for _, attempts := range h.writes {
		if r := done(attempts); r != nil {
			late(attempts[0].Begin, r.End, fmt.Sprintf("%s: a write in %d attempts", show(r), len(attempts)))
		}
	}
	for _, r := range h.all {
		switch r.Op {
		case history.Claim, history.Event, history.Messages, history.Fill:
			late(r.Begin, r.End, show(r)+": an answer")
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
