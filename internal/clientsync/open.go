package clientsync

import (
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/timeline"
)

// openness says whether members of a room may see all of its history, whenever they joined.
type openness uint8

const (
	openUnknown openness = iota
	openToMembers
	openInParts
)

// takeOpen finds out which rooms are open to members, where an event has replaced another and its content is to be shown.
func (k *work) takeOpen() error {
	for _, e := range k.entries {
		if !replaces(e.cut.events) && !replaces(e.state) {
			continue
		}
		k.h.mu.Lock()
		known := openUnknown
		if r := k.h.rooms[e.num]; r != nil {
			known = r.open
		}
		k.h.mu.Unlock()
		if known == openUnknown {
			var err error
			if known, err = k.readOpen(e.num); err != nil {
				return err
			}
		}
		e.open = known == openToMembers
	}
	return nil
}

func replaces(events []*timeline.Event) bool {
	for _, ev := range events {
		if ev.Replaced != nil {
			return true
		}
	}
	return false
}

// readOpen reads all that a room's visibility has ever been.
func (k *work) readOpen(num store.RoomNum) (openness, error) {
	if _, err := k.open(k.ctx); err != nil {
		return openUnknown, err
	}
	s, err := k.readSights(num)
	if err != nil {
		return openUnknown, err
	}
	is := openToMembers
	for _, t := range s.visibility {
		if !room.Visible(room.Sight{Visibility: t.value, VisibilityAfter: t.value, JoinsLater: true}) {
			is = openInParts
		}
	}
	if len(s.visibility) >= sightsLimit {
		is = openInParts
	}
	k.h.mu.Lock()
	defer k.h.mu.Unlock()
	if r := k.h.rooms[num]; r != nil && r.timeline.last <= k.read.Head() {
		r.open = is
	}
	return is, nil
}
