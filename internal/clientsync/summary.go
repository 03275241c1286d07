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

// heroCount is how many members name a room without a name.
//
// Spec: client-server-api#get_matrixclientv3sync
const heroCount = 5

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
	r, known := k.kept.HeroCandidates(e.num)
	if !known {
		var err error
		if r, err = k.readHeroCandidates(e.num); err != nil {
			return nil, err
		}
	}
	if r.Named {
		return nil, nil
	}
	own := k.req.UserID.String()
	heroes := without(slices.Clone(r.Present), own)
	if len(without(slices.Clone(r.Present), own)) == 0 {
		heroes = without(slices.Clone(r.Gone), own)
	}
	return heroes[:min(len(heroes), heroCount)], nil
}

func without(list []string, item string) []string {
	return slices.DeleteFunc(list, func(s string) bool { return s == item })
}

// readHeroCandidates reads the hero candidates of a room, and keeps them if the room has not moved on.
func (k *responseBuilder) readHeroCandidates(num store.RoomNum) (streamcache.HeroCandidates, error) {
	read, err := k.open(k.ctx)
	if err != nil {
		return streamcache.HeroCandidates{}, err
	}
	var out streamcache.HeroCandidates
	if out.Named, err = k.isNamed(num); err != nil {
		return streamcache.HeroCandidates{}, err
	}
	if !out.Named {
		var present []roomdb.StateSlot
		for _, m := range []roomdb.Membership{roomdb.Join, roomdb.Invite} {
			list, err := roomdb.MembersBySlot(read, num, m, heroCount+1)
			if err != nil {
				return streamcache.HeroCandidates{}, fmt.Errorf("read members: %w", err)
			}
			present = append(present, list...)
		}
		if out.Present, err = k.firstMembers(present); err != nil {
			return streamcache.HeroCandidates{}, err
		}
		if len(out.Present) < 2 {
			var gone []roomdb.StateSlot
			for _, m := range []roomdb.Membership{roomdb.Leave, roomdb.Ban} {
				list, err := roomdb.MembersBySlot(read, num, m, heroCount+1)
				if err != nil {
					return streamcache.HeroCandidates{}, fmt.Errorf("read members: %w", err)
				}
				gone = append(gone, list...)
			}
			if out.Gone, err = k.firstMembers(gone); err != nil {
				return streamcache.HeroCandidates{}, err
			}
		}
	}
	k.kept.KeepHeroCandidates(num, out, read.Head())
	return out, nil
}

// firstMembers returns the user IDs of the first of some members, in the order of their joins.
func (k *responseBuilder) firstMembers(list []roomdb.StateSlot) ([]string, error) {
	slices.SortFunc(list, func(a, b roomdb.StateSlot) int { return int(a.Slot - b.Slot) })
	list = list[:min(len(list), heroCount+1)]
	keys := make([]store.KeyNum, len(list))
	for i, s := range list {
		keys[i] = s.Key
	}
	pairs, err := k.r.store.Pairs(k.read, keys)
	if err != nil {
		return nil, fmt.Errorf("read state keys: %w", err)
	}
	out := make([]string, len(pairs))
	for i, p := range pairs {
		out[i] = p.StateKey
	}
	return out, nil
}

// isNamed says whether a room has a name or a canonical alias that is not empty.
func (k *responseBuilder) isNamed(num store.RoomNum) (bool, error) {
	keys, err := k.nameKeys()
	if err != nil {
		return false, err
	}
	var ask []roomdb.RoomKey
	for _, key := range keys {
		ask = append(ask, roomdb.RoomKey{Room: num, Key: key})
	}
	slots, err := roomdb.SyncEntries(k.read, ask)
	if err != nil {
		return false, fmt.Errorf("read a room's name: %w", err)
	}
	for _, s := range slots {
		k.l.Want(s.Event)
	}
	if err := k.l.Load(); err != nil {
		return false, err
	}
	for _, s := range slots {
		if ev := k.l.Event(s.Event); ev != nil {
			for _, field := range []string{"name", "alias"} {
				if text, ok := canonicaljson.String(canonicaljson.Get(ev.Content(), field)); ok && text != "" {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

// appendSummary appends `summary`.
//
// Spec: client-server-api#get_matrixclientv3sync
func (k writer) appendSummary(s *summary) {
	k.out = append(separate(k.out), `"summary":{`...)
	if len(s.heroes) > 0 {
		k.out = append(k.out, `"m.heroes":[`...)
		for _, hero := range s.heroes {
			k.out = canonicaljson.AppendString(separate(k.out), hero)
		}
		k.out = append(k.out, `],`...)
	}
	k.out = append(k.out, `"m.invited_member_count":`...)
	k.out = strconv.AppendInt(k.out, s.invited, 10)
	k.out = append(k.out, `,"m.joined_member_count":`...)
	k.out = strconv.AppendInt(k.out, s.joined, 10)
	k.out = append(k.out, '}')
}
