package clientsync

import (
	"fmt"
	"slices"

	"stoa/internal/history"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/streamcache"
	"stoa/internal/timeline"
	"stoa/matrix/canonicaljson"
)

// shows reports whether the viewer may see an event.
//
// The viewer's own membership events are shown in any case: without its own leave, a client could not tell why an invite is gone.
func (s *visibilityHistory) shows(e *timeline.Event) bool {
	return history.Visible(s.visibilityAt(e.Slot)) || e.Is("m.room.member", s.own)
}

// visibilityAt returns what decides about the event of a slot.
func (s *visibilityHistory) visibilityAt(slot store.Slot) history.EventVisibility {
	var x history.EventVisibility
	x.Visibility, x.VisibilityAfter = at(s.visibility, slot)
	x.Membership, x.MembershipAfter = at(s.membership, slot)
	for _, t := range s.membership {
		x.JoinsLater = x.JoinsLater || t.slot > slot && t.value == "join"
	}
	return x
}

// membershipAt is the viewer's membership at an event, its own effect included.
//
// Spec: client-server-api#room-event-format
func (s *visibilityHistory) membershipAt(e *timeline.Event) string {
	_, after := at(s.membership, e.Slot)
	if after == "" {
		return "leave"
	}
	return after
}

// visibilityHistoryLimit bounds the changes of membership and of visibility that are considered: the newest count.
const visibilityHistoryLimit = 1000

// readVisibilityHistory reads what the viewer may see in a room.
func (k *responseBuilder) readVisibilityHistory(num store.RoomNum) (*visibilityHistory, error) {
	keys, err := k.r.store.KeyNums(k.read, []store.Pair{
		{Type: "m.room.history_visibility"}, {Type: "m.room.member", StateKey: k.req.UserID.String()},
	})
	if err != nil {
		return nil, fmt.Errorf("look up state keys: %w", err)
	}
	s := &visibilityHistory{own: k.req.UserID.String()}
	for i, values := range []*[]valueSince{&s.visibility, &s.membership} {
		if keys[i] == 0 {
			continue
		}
		if *values, err = readValues(k.read, k.l, num, keys[i]); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// readValues reads the values of a state key of a room over time, oldest first.
func readValues(read *store.Read, l *streamcache.Loader, num store.RoomNum, key store.KeyNum) ([]valueSince, error) {
	log, err := roomdb.KeyLog(read, num, key, visibilityHistoryLimit)
	if err != nil {
		return nil, fmt.Errorf("read the history of a state key: %w", err)
	}
	for _, c := range log {
		l.Want(c.Event)
	}
	if err := l.Load(); err != nil {
		return nil, err
	}
	values := make([]valueSince, 0, len(log))
	for _, c := range slices.Backward(log) {
		t := valueSince{slot: c.Slot}
		if e := l.Event(c.Event); e != nil {
			t.value = decisive(e)
		}
		values = append(values, t)
	}
	return values, nil
}

// leaveSlot returns the slot at which the viewer, by the values of their membership, has left the room: the first change after the last
// join. It is 0 for a viewer who was never in it, or is in it.
func leaveSlot(membership []valueSince) store.Slot {
	left := store.Slot(0)
	for _, t := range slices.Backward(membership) {
		if t.value == "join" {
			return left
		}
		left = t.slot
	}
	return 0
}

// knownUpto returns the last slot of a room that a client with a token at a slot may know of: that slot for a member, that of
// leaving for somebody who had left, 0 for somebody who had never been in the room.
func knownUpto(membership []valueSince, since store.Slot) store.Slot {
	n := 0
	for n < len(membership) && membership[n].slot <= since {
		n++
	}
	if n > 0 && membership[n-1].value == "join" {
		return since
	}
	return leaveSlot(membership[:n])
}

// decisive returns the value of a state event that visibility depends on.
func decisive(e *timeline.Event) string {
	if m := e.Membership; m != "" {
		return m
	}
	value, _ := canonicaljson.String(canonicaljson.Get(e.Content(), "history_visibility"))
	return value
}
