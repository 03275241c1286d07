package clientsync

import (
	"stoa/internal/history"
	"stoa/internal/store"
	"stoa/internal/streamcache"
	"stoa/internal/timeline"
)

// takeOpen finds out which rooms are open to members, where an event has replaced another and its content is to be shown.
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
