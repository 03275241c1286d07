// Reads that determine which users must learn of a change of a device list. They read the
// stream and current state.

package roomdb

import "stoa/internal/store"

const memberType = `k.type = 'm.room.member'`

var (
	selectListsChanged = store.Prepare(`SELECT u.user_id FROM users u WHERE u.num IN
		(SELECT owner FROM stream WHERE kind = 5 AND pos > $2 AND pos <= $3)
		AND (u.num = $1 OR EXISTS (SELECT 1 FROM memberships m
			JOIN state_keys k ON ` + memberType + ` AND k.state_key = u.user_id
			JOIN current_state c ON c.room = m.room AND c.key = k.num AND c.membership = 1
			WHERE m.user_num = $1 AND m.membership = 1)) ORDER BY u.user_id`)
	selectMemberIDs = store.Prepare(`SELECT DISTINCT k.state_key FROM current_state c JOIN state_keys k ON k.num = c.key
		WHERE {{in c.room $1}} AND c.membership = 1 LIMIT $2`)
	selectStillSharing = store.Prepare(`SELECT DISTINCT k.state_key FROM state_keys k
		JOIN current_state c ON c.key = k.num AND c.membership = 1
		JOIN memberships m ON m.room = c.room AND m.user_num = $1 AND m.membership = 1
		WHERE ` + memberType + ` AND {{intext k.state_key $2}}`)
	selectMoved = store.Prepare(`SELECT DISTINCT l.room, k.state_key, c.membership FROM {{each $1}} AS v
		JOIN state_log AS l ON l.room = (v.v >> 32) AND l.slot > (v.v & 4294967295) JOIN state_keys AS k ON k.num = l.key
		JOIN current_state AS c ON c.room = l.room AND c.key = l.key WHERE ` + memberType + ` LIMIT $2`)
	selectLeftBehind = store.Prepare(`SELECT k.state_key FROM
		(SELECT key, slot FROM current_state WHERE room = $1 AND membership = 1
		UNION ALL SELECT key, slot FROM current_state WHERE room = $1 AND membership IN (2, 3, 4, 5) AND slot > $2) AS c
		JOIN state_keys AS k ON k.num = c.key WHERE c.slot <= $3 OR EXISTS
		(SELECT 1 FROM state_log AS l WHERE l.room = $1 AND l.key = c.key AND l.slot <= $3) LIMIT $4`)
	selectTracked = store.Prepare(`SELECT r.num FROM rooms r WHERE {{in r.num $1}} AND (r.joined <= $2 OR EXISTS
		(SELECT 1 FROM current_state c JOIN state_keys k ON k.num = c.key
		WHERE c.room = r.num AND k.type = 'm.room.encryption' AND k.state_key = ''))`)
)

// DeviceListsChanged returns the users whose device lists changed after one position up
// to another and who share a room with the viewer, including the viewer.
func DeviceListsChanged(r *store.Read, viewer store.UserNum, after, upTo store.Position) ([]string, error) {
	return store.Query(r, selectListsChanged, (*store.Row).Text, viewer, after, upTo)
}

// MemberIDs returns the users joined to any of the rooms.
func MemberIDs(r *store.Read, rooms []store.RoomNum, limit int) ([]string, error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	return store.Query(r, selectMemberIDs, (*store.Row).Text, rooms, limit)
}

// StillSharing returns those of the users who are joined to a room of the viewer.
func StillSharing(r *store.Read, viewer store.UserNum, userIDs []string) ([]string, error) {
	if len(userIDs) == 0 {
		return nil, nil
	}
	return store.Query(r, selectStillSharing, (*store.Row).Text, viewer, userIDs)
}

// TrackedRooms returns those of the rooms whose members' devices a client may need:
// encrypted rooms, and rooms of at most small members.
func TrackedRooms(r *store.Read, rooms []store.RoomNum, small int) ([]store.RoomNum, error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	return store.Query(r, selectTracked, store.Num[store.RoomNum], rooms, small)
}

// MovedMember is a user whose membership in a room changed, with the new membership.
type MovedMember struct {
	Room       store.RoomNum
	UserID     string
	Membership Membership
}

// MovedMembers returns the users whose member events in some rooms changed after
// a slot of the room, in no order.
func MovedMembers(r *store.Read, after []RoomSlot, limit int) ([]MovedMember, error) {
	if len(after) == 0 {
		return nil, nil
	}
	return store.Query(r, selectMoved, func(row *store.Row) MovedMember {
		return MovedMember{Room: store.Num[store.RoomNum](row), UserID: row.Text(), Membership: Membership(row.Int())}
	}, PackSlots(after), limit)
}

// MembersLeftBehind returns the users who may have been members of a room between
// two of its slots, at the second of which somebody has left it: nobody of whom the
// room learnt later.
func MembersLeftBehind(r *store.Read, room store.RoomNum, after, left store.Slot, limit int) ([]string, error) {
	return store.Query(r, selectLeftBehind, (*store.Row).Text, room, after, left, limit)
}
