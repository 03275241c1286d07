package main

import "slices"

// The faults that are known. Each recogniser says as narrowly as it can of one mismatch, in one room, whether this is it.
const (
	// lazyWholeState: a whole state with lazy members (full_state, or after a rejoin) leaves out members who changed while the
	// device was told nothing.
	lazyWholeState = "lazy-whole-state"
	// lazyHidden: a whole state with lazy members, and a timeline that does not show a membership event, since a filter (types,
	// senders) or the visibility hides it: the event is nowhere, though its user is a sender, a hero or was told as of before.
	lazyHidden = "lazy-hidden-member"
	// receiptsBeforeJoin: somebody joins, and a receipt came after the token: receipts from before the token are not told.
	receiptsBeforeJoin = "receipts-before-join"
	// prevContentLeftOut: /sync leaves out prev_content, or that and replaces_state, of a state event though /messages shows it to the same user.
	prevContentLeftOut = "prev-content-left-out"
)

// explainState explains an entry of the state that the device has wrong.
func (d *device) explainState(a *answer, id string, k stateKey, want map[string]any, t *shown) string {
	entry := a.entry(d.view.rooms[id].membership, id)
	if entry == nil {
		return ""
	}
	has := func(list []map[string]any, eventID string) bool {
		return slices.ContainsFunc(list, func(e map[string]any) bool { return text(e, "event_id") == eventID })
	}
	state, timeline := append(events(entry, "state"), events(entry, "state_after")...), events(entry, "timeline")
	got := text(d.view.rooms[id].state[k], "event_id")
	wanted := text(want, "event_id")
	whole := a.s.initial || a.s.fullState || d.entered(a, id)
	switch {
	case a.s.lazy && whole && k.evType == "m.room.member" && !has(state, wanted) && hides(a, t, want):
		return lazyHidden
	case a.s.lazy && whole && k.evType == "m.room.member" && !has(timeline, got) && !has(state, got) && !has(state, wanted):
		return lazyWholeState
	}
	return ""
}

// hides says that the timeline of an answer does not show an event, wherever it begins.
func hides(a *answer, t *shown, e map[string]any) bool {
	return !a.s.shows(e) || !slices.ContainsFunc(t.visible, func(x map[string]any) bool { return text(x, "event_id") == text(e, "event_id") })
}

// explainSender explains a member whom the device does not know.
func (d *device) explainSender(a *answer, id string, member map[string]any, t *shown) string {
	if a.s.lazy && (a.s.initial || a.s.fullState || d.entered(a, id)) && hides(a, t, member) {
		return lazyHidden
	}
	return ""
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
