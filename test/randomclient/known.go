package main

import "slices"

// The faults that are known. Each recogniser says as narrowly as it can of one mismatch, in one room, whether this is it.
const (
	// receiptsBeforeJoin: somebody joins, and a receipt came after the token: receipts from before the token are not told.
	receiptsBeforeJoin = "receipts-before-join"
)

// hides says that the timeline of an answer does not show an event, wherever it begins.
func hides(a *answer, t *shown, e map[string]any) bool {
	return !a.s.shows(e) || !slices.ContainsFunc(t.visible, func(x map[string]any) bool { return text(x, "event_id") == text(e, "event_id") })
}

// explainReceipts explains receipts that the device does not know.
func (d *device) explainReceipts(known *room, r, fresh *roomView) string {
	for k, eventID := range fresh.read {
		if r.read[k] != eventID && (r.enteredSince == 0 || known.readAt[k] > r.enteredSince) {
			return ""
		}
	}
	return receiptsBeforeJoin
}
