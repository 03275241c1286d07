package clientsync

import (
	"fmt"
	"slices"
	"strconv"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/streamcache"
	"stoa/internal/timeline"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
)

// summary is what clients need to name a room.
type summary struct {
	joined, invited int64
	// changed is set if the summary has changed, or the client has none yet. heroes is empty if the room has a name.
	changed bool
	heroes  []string
}

// takeSummaries finds the heroes of rooms without a name in which members have joined or left, or which have lost their name.
func (k *responseBuilder) takeSummaries() error {
	if err := k.findRedactedNames(); err != nil {
		return err
	}
	for _, e := range k.entries {
		if !e.joinedRoom {
			continue
		}
		e.summary.changed = k.initial || e.entered || e.membersMoved
		if !e.summary.changed && !e.nameMoved {
			continue
		}
		var err error
		if e.summary.heroes, err = k.heroes(e); err != nil {
			return err
		}
		e.summary.changed = e.summary.changed || len(e.summary.heroes) > 0
	}
	return nil
}

// findRedactedNames finds the rooms whose name or canonical alias was redacted in the range of the answer. It reads the store only for
// rooms with a redaction in the range, or with events there that were not read.
func (k *responseBuilder) findRedactedNames() error {
	byRoom := map[store.RoomNum]*entry{}
	for _, e := range k.entries {
		if e.joinedRoom && !k.initial && !e.entered && !e.nameMoved && (e.older || slices.ContainsFunc(e.events, isRedaction)) {
			byRoom[e.num] = e
		}
	}
	if len(byRoom) == 0 {
		return nil
	}
	if _, err := k.open(k.ctx); err != nil {
		return err
	}
	keys, err := k.nameKeys()
	if err != nil {
		return err
	}
	var ask []roomdb.RoomKey
	for num := range byRoom {
		for _, key := range keys {
			ask = append(ask, roomdb.RoomKey{Room: num, Key: key})
		}
	}
	redactions, err := roomdb.RedactionsOfState(k.read, ask)
	if err != nil {
		return fmt.Errorf("read redactions of names: %w", err)
	}
	for _, r := range redactions {
		e := byRoom[r.Room]
		e.nameMoved = e.nameMoved || r.Slot > e.since
	}
	return nil
}

func isRedaction(e *timeline.Event) bool { return e.Type == event.TypeRedaction && !e.IsState }

// nameKeys returns the state keys that name a room, as far as there are any.
func (k *responseBuilder) nameKeys() ([]store.KeyNum, error) {
	keys, err := k.r.store.KeyNums(k.read, []store.Pair{{Type: event.TypeName}, {Type: event.TypeCanonicalAlias}})
	if err != nil {
		return nil, fmt.Errorf("look up state keys: %w", err)
	}
	return slices.DeleteFunc(keys, func(key store.KeyNum) bool { return key == 0 }), nil
}

// heroes returns the first members of a room without the viewer; none if the room has a name.
func (k *responseBuilder) heroes(e *entry) ([]string, error) {
	c, known := k.kept.HeroCandidates(e.num)
	if !known {
		if _, err := k.open(k.ctx); err != nil {
			return nil, err
		}
		var err error
		if c, err = k.l.HeroCandidates(e.num); err != nil {
			return nil, err
		}
	}
	if c.Named || c.Aliased {
		return nil, nil
	}
	return c.Heroes(k.req.UserID.String()), nil
}

// appendSummary appends `summary`.
//
// Spec: client-server-api#get_matrixclientv3sync
func (k writer) appendSummary(s *summary) {
	k.out = append(streamcache.Separate(k.out), `"summary":{`...)
	if len(s.heroes) > 0 {
		k.out = append(k.out, `"m.heroes":[`...)
		for _, hero := range s.heroes {
			k.out = canonicaljson.AppendString(streamcache.Separate(k.out), hero)
		}
		k.out = append(k.out, `],`...)
	}
	k.out = append(k.out, `"m.invited_member_count":`...)
	k.out = strconv.AppendInt(k.out, s.invited, 10)
	k.out = append(k.out, `,"m.joined_member_count":`...)
	k.out = strconv.AppendInt(k.out, s.joined, 10)
	k.out = append(k.out, '}')
}
