package clientsync

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"stoa/internal/history"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/streamcache"
	"stoa/internal/timeline"
	"stoa/matrix/id"
)

// takeOpen finds out which rooms are open to members, where an event has replaced another and its content is to be shown. Of other rooms
// it reads what the viewer may see, if an event from before their join was replaced.
func (k *responseBuilder) takeOpen() error {
	for _, e := range k.entries {
		if !replaces(e.timeline.events) && !replaces(e.state) {
			continue
		}
		known := k.kept.Openness(e.num)
		if known == streamcache.OpenUnknown {
			var err error
			if known, err = k.readOpen(e.num); err != nil {
				return err
			}
		}
		e.open = known == streamcache.OpenToMembers
		if !e.open {
			if err := k.takeVisibleReplaced(e); err != nil {
				return err
			}
		}
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

// takeVisibleReplaced reads what is needed to say which of the events that an entry's events replaced the viewer may see.
func (k *responseBuilder) takeVisibleReplaced(e *entry) error {
	earlier := false
	for _, ev := range slices.Concat(e.timeline.events, e.state) {
		if ev.Replaced == nil {
			continue
		}
		if ev.Replaced.Slot == 0 {
			if err := k.readReplacedSlot(e, ev.Replaced.ID); err != nil {
				return err
			}
		}
		earlier = earlier || e.replacedSlot(ev) < e.joined
	}
	if !earlier || e.visibility != nil {
		return nil
	}
	if _, err := k.open(k.ctx); err != nil {
		return err
	}
	var err error
	e.visibility, err = k.readVisibilityHistory(e.num)
	return err
}

// readReplacedSlot reads the slot of a replaced event.
func (k *responseBuilder) readReplacedSlot(e *entry, eventID id.EventID) error {
	if _, err := k.open(k.ctx); err != nil {
		return err
	}
	ev, err := roomdb.EventByID(k.read, eventID.String())
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("read the slot of an event: %w", err)
	}
	if e.replacedSlots == nil {
		e.replacedSlots = map[id.EventID]store.Slot{}
	}
	e.replacedSlots[eventID] = ev.Place.Slot
	return nil
}

// replacedSlot returns the slot of the event that an event replaced, 0 if it has none.
func (e *entry) replacedSlot(ev *timeline.Event) store.Slot {
	return cmp.Or(ev.Replaced.Slot, e.replacedSlots[ev.Replaced.ID])
}

// readOpen reads the whole history of a room's visibility.
func (k *responseBuilder) readOpen(num store.RoomNum) (streamcache.Openness, error) {
	if _, err := k.open(k.ctx); err != nil {
		return streamcache.OpenUnknown, err
	}
	s, err := k.readVisibilityHistory(num)
	if err != nil {
		return streamcache.OpenUnknown, err
	}
	is := streamcache.OpenToMembers
	for _, t := range s.visibility {
		if !history.Visible(history.EventVisibility{Visibility: t.value, VisibilityAfter: t.value, JoinsLater: true}) {
			is = streamcache.OpenInParts
		}
	}
	if len(s.visibility) >= visibilityHistoryLimit {
		is = streamcache.OpenInParts
	}
	k.kept.KeepOpenness(num, is, k.read.Head())
	return is, nil
}
