package main

import "slices"

// The faults that are known. Each recogniser says as narrowly as it can of one mismatch, in one room, whether this is it.
const (
	// receiptsBeforeJoin: somebody joins, and a receipt came after the token: receipts from before the token are not told.
	receiptsBeforeJoin = "receipts-before-join"
	// prevContentLeftOut: /sync leaves out prev_content, or that and replaces_state, of a state event though /messages shows it to the same user.
	prevContentLeftOut = "prev-content-left-out"
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

// explainUnsigned explains an event that /sync and /messages show otherwise.
func explainUnsigned(got, want map[string]any) string {
	if !sameEvent(got, want) || object(got, "unsigned")["prev_content"] != nil {
		return ""
	}
	filled := shallow(got)
	unsigned := shallow(object(got, "unsigned"))
	unsigned["prev_content"] = object(want, "unsigned")["prev_content"]
	if unsigned["replaces_state"] == nil {
		unsigned["replaces_state"] = object(want, "unsigned")["replaces_state"]
	}
	filled["unsigned"] = unsigned
	if sameUnsigned(filled, want) {
		return prevContentLeftOut
	}
	return ""
}
