// Tables memberships, room_servers. The members of a room are entries of its current
// state.

package roomdb

import (
	"errors"
	"fmt"

	"stoa/matrix/event"

	"stoa/internal/store"
)

// RoomMembership is a local user's membership in a room.
type RoomMembership struct {
	User       store.UserNum
	Room       store.RoomNum
	Membership Membership
	Slot       store.Slot // of the room, of the last change; 0: room not resident
	Event      store.EventNum
	Forgotten  bool
	// UserSlot is the user's slot of the last change; for a forgotten room, of the leave.
	UserSlot store.Slot
	Stripped string // stripped state of an invite or knock, JSON list; "" = none
}

const membershipColumns = `user_num, room, membership, slot, event, forgotten, user_slot, stripped`

// staysForgotten is a condition of upsertMembership: a ban or an unban does not bring a
// forgotten room back.
const staysForgotten = `memberships.forgotten = 1 AND (excluded.membership = 3 OR excluded.membership = 4)`

var (
	upsertMembership = store.Prepare(`INSERT INTO memberships (` + membershipColumns + `, pushes) VALUES ($1, $2, $3, $4, $5, $6, $7, $8,
			CASE WHEN EXISTS (SELECT 1 FROM pushers WHERE user_num = $1) THEN 1 ELSE 0 END)
		ON CONFLICT (user_num, room) DO UPDATE SET membership = excluded.membership, slot = excluded.slot,
		event = excluded.event, stripped = excluded.stripped,
		forgotten = CASE WHEN ` + staysForgotten + ` THEN 1 ELSE excluded.forgotten END,
		user_slot = CASE WHEN ` + staysForgotten + ` THEN memberships.user_slot ELSE excluded.user_slot END`)
	forgetMembership = store.Prepare(`UPDATE memberships SET forgotten = 1 WHERE user_num = $1 AND room = $2`)
	deleteMembership = store.Prepare(`DELETE FROM memberships WHERE user_num = $1 AND room = $2`)

	markPushes = store.Prepare(`UPDATE memberships SET pushes = 1 WHERE user_num = $1 AND pushes = 0`)
	dropPushes = store.Prepare(`UPDATE memberships SET pushes = 0 WHERE user_num = $1 AND pushes = 1
		AND NOT EXISTS (SELECT 1 FROM pushers WHERE user_num = $1)`)

	selectMembership = store.Prepare(`SELECT ` + membershipColumns + ` FROM memberships WHERE user_num = $1 AND room = $2`)
	selectJoinedRoom = store.Prepare(`SELECT r.num FROM rooms r JOIN memberships m ON m.user_num = $1 AND m.room = r.num
		WHERE r.room_id = $2 AND m.membership = 1`)
	selectMemberships = store.Prepare(`SELECT ` + membershipColumns + ` FROM memberships WHERE user_num = $1 AND room > $2 ORDER BY room LIMIT $3`)
	selectLocal       = store.Prepare(`SELECT ` + membershipColumns + ` FROM memberships
		WHERE room = $1 AND membership = $2 AND user_num > $3 ORDER BY user_num LIMIT $4`)
	selectSharing = store.Prepare(`SELECT DISTINCT o.user_num FROM memberships AS m JOIN memberships AS o ON o.room = m.room
		WHERE m.user_num = $1 AND m.membership = 1 AND o.membership = 1 AND o.user_num > $2 ORDER BY o.user_num LIMIT $3`)

	// selectSharedWith finds remote users too, by their member events.
	selectSharedWith = store.Prepare(`SELECT m.room FROM memberships AS m JOIN current_state AS c ON c.room = m.room
		JOIN state_keys AS k ON k.num = c.key
		WHERE m.user_num = $1 AND m.membership = 1 AND k.type = 'm.room.member' AND k.state_key = $2 AND c.membership = 1
		ORDER BY m.room LIMIT $3`)

	selectMembers = store.Prepare(`SELECT c.key, c.event, k.state_key, c.membership, c.slot FROM current_state AS c JOIN state_keys AS k ON k.num = c.key
		WHERE c.room = $1 AND c.membership = $2 AND (c.slot, c.key) > ($3, $4) ORDER BY c.slot, c.key LIMIT $5`)
	countMembers = store.Prepare(`SELECT COUNT(*) FROM current_state WHERE room = $1 AND membership = $2`)
	selectMember = store.Prepare(`SELECT c.key, c.event, k.state_key, c.membership, c.slot FROM current_state AS c JOIN state_keys AS k ON k.num = c.key
		WHERE c.room = $1 AND c.key = $2`)
	selectRoomsOfKey = store.Prepare(`SELECT room FROM current_state WHERE key = $1 AND membership = $2 AND membership <> 0 AND room > $3
		ORDER BY room LIMIT $4`)

	insertServer      = store.Prepare(`INSERT INTO room_servers (room, server, joined) VALUES ($1, $2, $3) ON CONFLICT (room, server) DO UPDATE SET joined = room_servers.joined + excluded.joined`)
	deleteServers     = store.Prepare(`DELETE FROM room_servers WHERE room = $1 AND server = $2 AND joined <= 0`)
	selectServers     = store.Prepare(`SELECT server FROM room_servers WHERE room = $1 AND server > $2 AND joined > 0 ORDER BY server LIMIT $3`)
	selectServerRooms = store.Prepare(`SELECT room FROM room_servers WHERE server = $1 AND room > $2 AND joined > 0 ORDER BY room LIMIT $3`)
)

func scanMembership(row *store.Row) (m RoomMembership) {
	var membership int64
	var stripped *string
	row.Scan(&m.User, &m.Room, &membership, &m.Slot, &m.Event, &m.Forgotten, &m.UserSlot, &stripped)
	m.Membership = Membership(membership)
	if stripped != nil {
		m.Stripped = *stripped
	}
	return m
}

// SetMembership writes a local user's membership and wakes the user's streams. The commit
// queue sets UserSlot. A forgotten room stays forgotten until the user joins, knocks or
// is invited.
func SetMembership(c *store.Change, m RoomMembership) {
	slot := c.UserSlot(m.User, store.KindMembership)
	c.Exec(upsertMembership, m.User, m.Room, int64(m.Membership), m.Slot, m.Event, m.Forgotten, slot, orNull(m.Stripped))
}

// ForgetRoom marks a left room as forgotten by a local user. It wakes devices that don't
// know of the leave yet.
func ForgetRoom(c *store.Change, user store.UserNum, room store.RoomNum) {
	c.UserSlot(user, store.KindMembership)
	c.ExecOne(forgetMembership, store.ErrNotFound, user, room)
}

// MarkPushes marks the memberships of a user who has a pusher. Later ones are marked from the beginning.
func MarkPushes(c *store.Change, user store.UserNum) { c.Exec(markPushes, user) }

// UnmarkPushes ends the marks of a user who has no pusher any more.
func UnmarkPushes(c *store.Change, user store.UserNum) { c.Exec(dropPushes, user) }

// DropMembership deletes the row, because the room was deleted.
func DropMembership(c *store.Change, user store.UserNum, room store.RoomNum) {
	c.Exec(deleteMembership, user, room)
}

// MembershipOf returns a local user's membership in a room.
func MembershipOf(r *store.Read, user store.UserNum, room store.RoomNum) (RoomMembership, error) {
	return store.QueryOne(r, selectMembership, scanMembership, user, room)
}

// JoinedRoomNum returns the number of a room that a local user has joined, else
// ErrNotFound.
func JoinedRoomNum(r *store.Read, user store.UserNum, roomID string) (store.RoomNum, error) {
	return store.QueryOne(r, selectJoinedRoom, store.Num[store.RoomNum], user, roomID)
}

// Memberships returns the memberships of a local user by room number, including forgotten
// rooms.
func Memberships(r *store.Read, user store.UserNum, after store.RoomNum, limit int) ([]RoomMembership, error) {
	return store.Query(r, selectMemberships, scanMembership, user, after, limit)
}

// LocalMembers returns the local users with a membership in a room, by user number.
func LocalMembers(r *store.Read, room store.RoomNum, m Membership, after store.UserNum, limit int) ([]RoomMembership, error) {
	return store.Query(r, selectLocal, scanMembership, room, int64(m), after, limit)
}

// LocalUsersSharing returns the local users joined to a room of a local user, including
// the user, by number.
func LocalUsersSharing(r *store.Read, user, after store.UserNum, limit int) ([]store.UserNum, error) {
	return store.Query(r, selectSharing, store.Num[store.UserNum], user, after, limit)
}

// SharedRoomsOf returns rooms that a local user and another user, local or not, have joined.
func SharedRoomsOf(r *store.Read, user store.UserNum, other string, limit int) ([]store.RoomNum, error) {
	return store.Query(r, selectSharedWith, store.Num[store.RoomNum], user, other, limit)
}

// Member is an m.room.member of a room's current state.
type Member struct {
	Key        store.KeyNum
	Event      store.EventNum
	UserID     string
	Membership Membership
	Slot       store.Slot // from which the entry is current
}

func scanMember(row *store.Row) (m Member) {
	var membership int64
	row.Scan(&m.Key, &m.Event, &m.UserID, &membership, &m.Slot)
	m.Membership = Membership(membership)
	return m
}

// Members returns the members of a room with a membership, local and remote, ordered by
// slot. The page after one ends with its last.
func Members(r *store.Read, room store.RoomNum, m Membership, after Member, limit int) ([]Member, error) {
	return store.Query(r, selectMembers, scanMember, room, int64(m), after.Slot, after.Key, limit)
}

// MemberByKey returns one member of a room by the key (m.room.member, user ID).
func MemberByKey(r *store.Read, room store.RoomNum, key store.KeyNum) (Member, error) {
	return store.QueryOne(r, selectMember, scanMember, room, key)
}

// CountMembers counts the members of a room with a membership.
func CountMembers(r *store.Read, room store.RoomNum, m Membership) (int64, error) {
	return store.QueryOne(r, countMembers, (*store.Row).Int, room, int64(m))
}

// RoomsOfKey returns the rooms whose current state has the key (m.room.member,
// user ID) with a membership: the rooms of any user, local or remote.
func RoomsOfKey(r *store.Read, key store.KeyNum, m Membership, after store.RoomNum, limit int) ([]store.RoomNum, error) {
	return store.Query(r, selectRoomsOfKey, store.Num[store.RoomNum], key, int64(m), after, limit)
}

// CountServer adds to the number of joined members that a server has in a room.
func CountServer(c *store.Change, room store.RoomNum, server string, joined int) {
	c.Exec(insertServer, room, server, joined)
	if joined < 0 {
		c.Exec(deleteServers, room, server)
	}
}

// RoomServers returns the servers with joined members in a room, in order.
func RoomServers(r *store.Read, room store.RoomNum, after string, limit int) ([]string, error) {
	return store.Query(r, selectServers, (*store.Row).Text, room, after, limit)
}

// ServerRooms returns the rooms in which a server has joined members.
func ServerRooms(r *store.Read, server string, after store.RoomNum, limit int) ([]store.RoomNum, error) {
	return store.Query(r, selectServerRooms, store.Num[store.RoomNum], server, after, limit)
}

// IsMemberOfAny reports whether a user, local or remote, is joined to one of some rooms.
func IsMemberOfAny[R fmt.Stringer](s *store.Store, r *store.Read, userID string, rooms []R) (bool, error) {
	keys, err := s.KeyNums(r, []store.Pair{{Type: event.TypeMember, StateKey: userID}})
	if err != nil || keys[0] == 0 {
		return false, err
	}
	for _, roomID := range rooms {
		room, err := RoomNum(r, roomID.String())
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		member, err := MemberByKey(r, room, keys[0])
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return false, err
		}
		if err == nil && member.Membership == Join {
			return true, nil
		}
	}
	return false, nil
}
