package clientsync

import (
	"context"
	"slices"

	"stoa/internal/store"
	"stoa/internal/store/keydb"
	"stoa/internal/store/roomdb"
	"stoa/matrix/canonicaljson"
)

const (
	// smallRoom is up to how many members an unencrypted room counts for device lists. Clients look at the devices of
	// members of encrypted rooms only, but some begin before encryption is on.
	smallRoom = 500
	// deviceListLimit bounds the users told of in one answer: a country's largest room, several times over.
	deviceListLimit = 200_000
)

// DeviceLists is the section device_lists: whose devices changed, and with whom the viewer no longer shares a room.
//
// Spec: client-server-api#e2e-extensions-to-sync
type DeviceLists struct{}

// Key implements Section.
func (DeviceLists) Key() string { return "device_lists" }

// Watch implements Section.
func (DeviceLists) Watch() Watch {
	kinds := []store.Kind{store.KindDeviceList}
	return Watch{Own: kinds, Shared: kinds, Members: true}
}

// Append implements Section.
func (d DeviceLists) Append(ctx context.Context, dst []byte, q *Query) ([]byte, error) {
	if q.Since == 0 && !q.Forgotten {
		return dst, nil // the client knows nobody's devices yet
	}
	r, err := q.Read(ctx)
	if err != nil {
		return dst, err
	}
	changed, left, err := d.Changes(r, q)
	if err != nil || len(changed)+len(left) == 0 {
		return dst, err
	}
	dst = appendNames(append(dst, `{"changed":`...), changed)
	dst = appendNames(append(dst, `,"left":`...), left)
	return append(dst, '}'), nil
}

// Changes are the users whose device lists the viewer has to get anew, and those whose lists no longer concern the viewer,
// in order.
func (DeviceLists) Changes(r *store.Read, q *Query) (changed, left []string, err error) {
	entered := q.Entered
	if q.Forgotten {
		entered = q.Rooms
	} else if changed, err = roomdb.DeviceListsChanged(r, q.UserNum, q.Since, q.Upto); err != nil {
		return nil, nil, err
	}
	tracked, err := roomdb.TrackedRooms(r, entered, smallRoom)
	if err != nil {
		return nil, nil, err
	}
	members, err := roomdb.MemberIDs(r, tracked, deviceListLimit)
	if err != nil {
		return nil, nil, err
	}
	changed = append(changed, members...)
	for _, p := range q.JoinedMembers {
		changed = append(changed, p.UserID.String())
	}
	if changed, err = roomdb.StillSharing(r, q.UserNum, changed); err != nil {
		return nil, nil, err
	}
	if left, err = gone(r, q); err != nil {
		return nil, nil, err
	}
	own := q.UserID.String()
	if !slices.Contains(changed, own) {
		if lists, err := roomdb.DeviceListsChanged(r, q.UserNum, q.Since, q.Upto); err != nil {
			return nil, nil, err
		} else if slices.Contains(lists, own) {
			changed = append(changed, own)
		}
	}
	slices.Sort(changed)
	return slices.Compact(changed), left, nil
}

// gone are the users who shared a room with the viewer and no longer do.
func gone(r *store.Read, q *Query) ([]string, error) {
	var left []string
	for _, room := range q.Left {
		members, err := roomdb.MembersLeftBehind(r, room.Room, room.Since, room.Slot, deviceListLimit)
		if err != nil {
			return nil, err
		}
		left = append(left, members...)
	}
	for _, p := range q.LeftMembers {
		left = append(left, p.UserID.String())
	}
	still, err := roomdb.StillSharing(r, q.UserNum, left)
	if err != nil {
		return nil, err
	}
	slices.Sort(left)
	left = slices.Compact(left)
	return slices.DeleteFunc(left, func(name string) bool { return name == q.UserID.String() || slices.Contains(still, name) }), nil
}

func appendNames(dst []byte, names []string) []byte {
	dst = append(dst, '[')
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = canonicaljson.AppendString(dst, name)
	}
	return append(dst, ']')
}

// KeyCounts is the section device_one_time_keys_count: how many unclaimed one-time keys the device has, by algorithm.
//
// Spec: client-server-api#e2e-extensions-to-sync
type KeyCounts struct{}

// Key implements Section.
func (KeyCounts) Key() string { return "device_one_time_keys_count" }

// Watch implements Section.
func (KeyCounts) Watch() Watch { return Watch{Own: []store.Kind{store.KindKeys}, Always: true} }

// Append implements Section. The algorithm that clients count on is always there, as its absence means "unknown" to some.
func (KeyCounts) Append(ctx context.Context, dst []byte, q *Query) ([]byte, error) {
	r, err := q.Read(ctx)
	if err != nil {
		return dst, err
	}
	counts, err := keydb.OneTimeKeyCounts(r, q.UserNum, string(q.DeviceID))
	if err != nil {
		return dst, err
	}
	const usual = "signed_curve25519"
	if !slices.ContainsFunc(counts, func(c keydb.KeyCount) bool { return c.Algorithm == usual }) {
		counts = append(counts, keydb.KeyCount{Algorithm: usual})
	}
	dst = append(dst, '{')
	for i, c := range counts {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = canonicaljson.AppendString(dst, c.Algorithm)
		dst = appendInt(append(dst, ':'), c.Count)
	}
	return append(dst, '}'), nil
}

// FallbackTypes is the section device_unused_fallback_key_types: the algorithms whose fallback key was not given out yet.
//
// Spec: client-server-api#e2e-extensions-to-sync
type FallbackTypes struct{}

// Key implements Section.
func (FallbackTypes) Key() string { return "device_unused_fallback_key_types" }

// Watch implements Section.
func (FallbackTypes) Watch() Watch { return Watch{Own: []store.Kind{store.KindKeys}, Always: true} }

// Append implements Section.
func (FallbackTypes) Append(ctx context.Context, dst []byte, q *Query) ([]byte, error) {
	r, err := q.Read(ctx)
	if err != nil {
		return dst, err
	}
	keys, err := keydb.FallbackKeys(r, q.UserNum, string(q.DeviceID))
	if err != nil {
		return dst, err
	}
	var unused []string
	for _, key := range keys {
		if !key.Claimed {
			unused = append(unused, key.Algorithm)
		}
	}
	return appendNames(dst, unused), nil
}
