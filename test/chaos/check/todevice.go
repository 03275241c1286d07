package main

import (
	"fmt"
	"slices"

	"stoa/test/chaos/history"
)

// received are the to-device messages that a client was given in the answers
// that it went on from.
func (h *past) received(client int) []string {
	var list []string
	for _, r := range h.accepted(client) {
		list = append(list, r.ToDevice...)
	}
	return list
}

func toDeviceOnce(h *past) (breaches []string) {
	sent := map[string]int{} // body to receiver
	for key, attempts := range h.writes {
		if key.op == history.ToDevice {
			sent[attempts[0].Body] = attempts[0].To
		}
	}
	got := map[string]bool{}
	for client := range h.clients {
		for _, r := range h.accepted(client) {
			for _, body := range r.ToDevice {
				to, known := sent[body]
				switch {
				case !known:
					breaches = append(breaches, fmt.Sprintf("INVENTED: %s: %s was never sent", show(r), body))
				case to != client:
					breaches = append(breaches, fmt.Sprintf("ASTRAY: %s: %s was for client %d", show(r), body, to))
				case got[body]:
					breaches = append(breaches, fmt.Sprintf("DOUBLED: %s: %s came again", show(r), body))
				}
				got[body] = true
			}
		}
	}
	for key, attempts := range h.writes {
		if r := done(attempts); key.op == history.ToDevice && r != nil && !got[r.Body] {
			breaches = append(breaches, fmt.Sprintf("LOST: %s for client %d never came", show(r), r.To))
		}
	}
	return breaches
}

func toDeviceOrder(h *past) (breaches []string) {
	sent := map[string]*history.Record{}
	for key, attempts := range h.writes {
		if key.op == history.ToDevice {
			sent[attempts[0].Body] = attempts[0]
		}
	}
	for client := range h.clients {
		last := map[int]*history.Record{} // by sender
		for _, body := range h.received(client) {
			r := sent[body]
			if r == nil {
				continue // todevice-once says so
			}
			if before := last[r.Client]; before != nil && r.Begin < before.Begin {
				breaches = append(breaches, fmt.Sprintf("client %d was given %s after %s", client, show(r), show(before)))
			}
			last[r.Client] = r
		}
	}
	return breaches
}

// toDeviceRepeatable compares answers to the same token: a later one begins
// with all that an earlier one held.
func toDeviceRepeatable(h *past) (breaches []string) {
	for client := range h.clients {
		var before *history.Record
		for _, r := range h.syncs[client] {
			if !r.OK() {
				continue
			}
			if before != nil && before.Since == r.Since && r.Since != "" {
				n := len(before.ToDevice)
				if len(r.ToDevice) < n || !slices.Equal(r.ToDevice[:n], before.ToDevice) {
					breaches = append(breaches, fmt.Sprintf("%s: token %s gave %v, and before %v", show(r), r.Since, r.ToDevice, before.ToDevice))
				}
			}
			before = r
		}
	}
	return breaches
}

func toDeviceDeleted(h *past) (breaches []string) {
	acknowledged := map[string]bool{}
	for client := range h.clients {
		list := h.accepted(client)
		for i, r := range list {
			// The answer after it shows that its token was carried by a request.
			if i+1 < len(list) {
				for _, body := range r.ToDevice {
					acknowledged[body] = true
				}
			}
		}
	}
	for _, r := range h.resync {
		for _, body := range r.ToDevice {
			if r.OK() && acknowledged[body] {
				breaches = append(breaches, fmt.Sprintf("%s: %s came again after it was acknowledged", show(r), body))
			}
		}
	}
	return breaches
}
