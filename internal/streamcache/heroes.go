package streamcache

import (
	"fmt"
	"slices"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
)

// heroCount is how many members name a room without a name.
//
// Spec: client-server-api#get_matrixclientv3sync
const heroCount = 5

// HeroCandidates are the first members of a room, enough to choose the heroes for any viewer. A room with a name has none.
type HeroCandidates struct {
	// Named and Aliased say that the room has a name, and a canonical alias, that is not empty.
	Named, Aliased bool
	Present        []string // joined and invited
	Gone           []string // left and banned
}

// Heroes are the first members without the viewer.
func (c HeroCandidates) Heroes(viewer string) []string {
	heroes := without(c.Present, viewer)
	if len(heroes) == 0 {
		heroes = without(c.Gone, viewer)
	}
	return heroes[:min(len(heroes), heroCount)]
}

func without(list []string, item string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == item })
}

// HeroCandidates reads the hero candidates of a room, and keeps them in memory if the room has not moved on.
func (l *Loader) HeroCandidates(num store.RoomNum) (out HeroCandidates, err error) {
	if out.Named, out.Aliased, err = l.named(num); err != nil {
		return HeroCandidates{}, err
	}
	if !out.Named {
		if out.Present, err = l.firstMembers(num, roomdb.Join, roomdb.Invite); err != nil {
			return HeroCandidates{}, err
		}
		if len(out.Present) < 2 {
			if out.Gone, err = l.firstMembers(num, roomdb.Leave, roomdb.Ban); err != nil {
				return HeroCandidates{}, err
			}
		}
	}
	l.cache.Kept().KeepHeroCandidates(num, out, l.read.Head())
	return out, nil
}

// firstMembers returns the user IDs of the first members with some memberships, in the order of their slots.
func (l *Loader) firstMembers(num store.RoomNum, memberships ...roomdb.Membership) ([]string, error) {
	var list []roomdb.StateSlot
	for _, m := range memberships {
		more, err := roomdb.MembersBySlot(l.read, num, m, heroCount+1)
		if err != nil {
			return nil, fmt.Errorf("read members: %w", err)
		}
		list = append(list, more...)
	}
	slices.SortFunc(list, func(a, b roomdb.StateSlot) int { return int(a.Slot - b.Slot) })
	list = list[:min(len(list), heroCount+1)]
	keys := make([]store.KeyNum, len(list))
	for i, s := range list {
		keys[i] = s.Key
	}
	pairs, err := l.cache.store.Pairs(l.read, keys)
	if err != nil {
		return nil, fmt.Errorf("read state keys: %w", err)
	}
	out := make([]string, len(pairs))
	for i, p := range pairs {
		out[i] = p.StateKey
	}
	return out, nil
}

// named says whether a room has a name, and a canonical alias, that is not empty.
func (l *Loader) named(num store.RoomNum) (name, alias bool, err error) {
	keys, err := l.cache.store.KeyNums(l.read, []store.Pair{{Type: event.TypeName}, {Type: event.TypeCanonicalAlias}})
	if err != nil {
		return false, false, fmt.Errorf("look up state keys: %w", err)
	}
	var ask []roomdb.RoomKey
	for _, key := range keys {
		if key != 0 {
			ask = append(ask, roomdb.RoomKey{Room: num, Key: key})
		}
	}
	slots, err := roomdb.SyncEntries(l.read, ask)
	if err != nil {
		return false, false, fmt.Errorf("read a room's name: %w", err)
	}
	for _, s := range slots {
		l.Want(s.Event)
	}
	if err := l.Load(); err != nil {
		return false, false, err
	}
	for _, s := range slots {
		if ev := l.Event(s.Event); ev != nil {
			name = name || hasText(ev.Content(), "name")
			alias = alias || hasText(ev.Content(), "alias")
		}
	}
	return name, alias, nil
}

func hasText(content []byte, field string) bool {
	text, ok := canonicaljson.String(canonicaljson.Get(content, field))
	return ok && text != ""
}
