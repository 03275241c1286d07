package clientsync

import (
	"cmp"
	"slices"

	"stoa/internal/store"
	"stoa/internal/streamcache"
	"stoa/internal/timeline"
	"stoa/internal/token"
	"stoa/matrix/eventfilter"
	"stoa/matrix/id"
)

// timelineRange is the part of a room's history that one answer covers: after slot since, up to slot upto.
type timelineRange struct {
	num store.RoomNum
	id  id.RoomID
	// since is the last slot that the client knows; 0 if it knows nothing of the room.
	since, upto store.Slot
	// entered is set if the client knows nothing of the room although it knows others: the viewer has just joined.
	entered bool
	// wholeState asks for the whole state, not only for what changed in the range.
	wholeState bool
	// membersSince is the last slot of which the client may know memberships, 0 if it knows none. It differs from since if the viewer has
	// come back.
	membersSince store.Slot
	// joined is the slot from which on the viewer has been a member without a break; 0 if the viewer is no member now.
	joined store.Slot
	// events are the newest live events of the range, oldest first; older is set if there are more before them.
	events []*timeline.Event
	older  bool
	// changes are the changes of state in the range, oldest first.
	changes []streamcache.Change
	// visibility tells which events before joined the viewer may see; nil: all.
	visibility *visibilityHistory
}

// selection is the timeline chosen from a range.
type selection struct {
	events  []*timeline.Event
	limited bool
	// start is the slot at which the timeline begins: `state` covers the changes before it.
	start store.Slot
	prev  token.Timeline
	// complete is false if older events of the range have to be read first.
	complete bool
}

// selectEvents chooses the events of the timeline: the newest that pass, at most limit.
//
// Spec: client-server-api#syncing
func (s *timelineRange) selectEvents(f *eventfilter.RoomEventFilter, limit int, ignored map[id.UserID]bool) selection {
	c := selection{start: s.since + 1, complete: true}
	first := len(s.events)
	more := false
	for i := len(s.events) - 1; i >= 0; i-- {
		e := s.events[i]
		if !s.shows(e, f, ignored) {
			continue
		}
		if len(c.events) == limit {
			more = true
			break
		}
		c.events = append(c.events, e)
		first = i
	}
	slices.Reverse(c.events)
	switch {
	case more && limit == 0:
		c.limited, c.start = true, s.upto+1
	case more:
		c.limited, c.start = true, s.events[first].Slot
	case s.older && len(c.events) < limit:
		c.complete = false
		c.limited = true
		c.start = s.oldest()
	case s.older:
		c.limited, c.start = true, s.upto+1
		if len(c.events) > 0 {
			c.start = c.events[0].Slot
		}
	}
	c.limited = c.limited || s.entered
	c.prev = token.Timeline{Slot: int64(s.upto)}
	switch {
	case len(c.events) > 0:
		c.prev = token.Timeline{Slot: int64(c.events[0].Slot), Offset: c.events[0].Off - 1}
	case !c.limited:
		c.prev = token.Timeline{Slot: int64(s.since)}
	}
	return c
}

// skipReplaced moves the start of the timeline past every state event that has been replaced by one that the timeline does not show,
// because of the visibility or the filter. `state` holds the newer event then, and clients apply `state` before the timeline, so
// they would end with the older one. Going back from the timeline's prev_batch finds what was skipped.
//
// Changes are the changes of the range, oldest first; event returns the key of a change and its event, 0 if the entry is gone.
func (s *timelineRange) skipReplaced(c *selection, changes int, event func(i int) (store.KeyNum, store.EventNum)) {
	if changes == 0 || len(c.events) == 0 {
		return
	}
	place := make(map[store.EventNum]int, len(c.events))
	for i, e := range c.events {
		place[e.Num] = i
	}
	shown := map[store.KeyNum]int{} // the place of the newest event of a key that the timeline shows
	replaced := map[store.KeyNum]bool{}
	for i := range changes {
		key, num := event(i)
		if num == 0 {
			continue
		}
		at, is := place[num]
		if is {
			shown[key] = at
		}
		replaced[key] = !is
	}
	first := 0
	for key, at := range shown {
		if replaced[key] {
			first = max(first, at+1)
		}
	}
	if first == 0 {
		return
	}
	c.events = c.events[first:]
	c.limited = true
	c.start, c.prev = s.upto+1, token.Timeline{Slot: int64(s.upto)}
	if len(c.events) > 0 {
		c.start = c.events[0].Slot
		c.prev = token.Timeline{Slot: int64(c.start), Offset: c.events[0].Off - 1}
	}
}

// oldest is the slot of the oldest event that was read.
func (s *timelineRange) oldest() store.Slot {
	if len(s.events) == 0 {
		return s.upto + 1
	}
	return s.events[0].Slot
}

// shows reports whether an event of the range belongs in the timeline.
func (s *timelineRange) shows(e *timeline.Event, f *eventfilter.RoomEventFilter, ignored map[id.UserID]bool) bool {
	if len(ignored) > 0 && !e.IsState && ignored[e.Sender] {
		return false
	}
	if s.visibility != nil && !s.visibility.shows(e) {
		return false
	}
	return passes(f, s.id, e)
}

func passes(f *eventfilter.RoomEventFilter, roomID id.RoomID, e *timeline.Event) bool {
	if f.AllowsAll() {
		return true
	}
	return f.Allows(eventfilter.Event{
		Type: e.Type, Sender: e.Sender.String(), RoomID: roomID.String(), Content: e.Content(),
	})
}

// stateKey names an entry of a room's state.
type stateKey struct{ evType, key string }

// stateDelta returns the changes of state in the range, as `state` (up to the start of the timeline) or `state_after` (up to its
// end) lists them, by slot. It includes changes within the timeline that the timeline does not show, since nothing else would carry
// them.
//
// Spec: client-server-api#syncing
func (s *timelineRange) stateDelta(c *selection, after bool) []*timeline.Event {
	if len(s.changes) == 0 {
		return nil
	}
	shown := make(map[store.EventNum]bool, len(c.events))
	if !after {
		for _, e := range c.events {
			shown[e.Num] = true
		}
	}
	last := make(map[stateKey]*timeline.Event, len(s.changes))
	for i := range s.changes {
		ch := &s.changes[i]
		if ch.Slot > s.upto || ch.Slot <= s.since && !s.wholeState {
			continue
		}
		k := stateKey{ch.Type, ch.StateKey}
		switch {
		case ch.Event == nil: // gone: there is no way to say so
			delete(last, k)
		case ch.Slot >= c.start && shown[ch.Event.Num]:
			// The timeline tells it, over whatever was before.
		default:
			last[k] = ch.Event
		}
	}
	out := make([]*timeline.Event, 0, len(last))
	for _, e := range last {
		if !shown[e.Num] {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b *timeline.Event) int {
		return cmp.Or(cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.Num, b.Num))
	})
	return out
}

// visibilityHistory is the history of the room's visibility and of the viewer's membership, oldest first. Together they decide
// which events the viewer may see.
//
// Spec: client-server-api#room-history-visibility
type visibilityHistory struct {
	own                    string // the viewer
	visibility, membership []valueSince
}

// valueSince is a value that holds from a slot on.
type valueSince struct {
	slot  store.Slot
	value string
}

// at returns the value before and after the change of a slot.
func at(values []valueSince, slot store.Slot) (before, after string) {
	for _, t := range values {
		if t.slot > slot {
			break
		}
		if t.slot < slot {
			before = t.value
		}
		after = t.value
	}
	return before, after
}
