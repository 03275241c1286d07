// Tables memberships, room_servers. Written by package room. Members of a room
// are entries of its current state.

package store

// RoomMembership is a local user's membership in a room.
type RoomMembership struct {
	User       UserNum
	Room       RoomNum
	Membership Membership
	Slot       Slot // of the room, at which it became so; 0: room not resident
	Event      EventNum
	Forgotten  bool
	UserSlot   Slot   // of the user, at which it became so
	Stripped   string // stripped state of an invite or knock, JSON list; "" = none
}

const membershipColumns = `user_num, room, membership, slot, event, forgotten, user_slot, stripped`

var (
	upsertMembership = Prepare(`INSERT INTO memberships (` + membershipColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (user_num, room) DO UPDATE SET membership = excluded.membership, slot = excluded.slot,
		event = excluded.event, forgotten = excluded.forgotten, user_slot = excluded.user_slot, stripped = excluded.stripped`)
	forgetMembership = Prepare(`UPDATE memberships SET forgotten = 1, user_slot = $3 WHERE user_num = $1 AND room = $2`)
	deleteMembership = Prepare(`DELETE FROM memberships WHERE user_num = $1 AND room = $2`)

	selectMembership = Prepare(`SELECT ` + membershipColumns + ` FROM memberships WHERE user_num = $1 AND room = $2`)
	selectJoinedRoom = Prepare(`SELECT r.num FROM rooms r JOIN memberships m ON m.user_num = $1 AND m.room = r.num
		WHERE r.room_id = $2 AND m.membership = 1`)
	selectMemberships = Prepare(`SELECT ` + membershipColumns + ` FROM memberships WHERE user_num = $1 AND room > $2 ORDER BY room LIMIT $3`)
	selectLocal       = Prepare(`SELECT ` + membershipColumns + ` FROM memberships
		WHERE room = $1 AND membership = $2 AND user_num > $3 ORDER BY user_num LIMIT $4`)
	selectSharing = Prepare(`SELECT DISTINCT o.user_num FROM memberships AS m JOIN memberships AS o ON o.room = m.room
		WHERE m.user_num = $1 AND m.membership = 1 AND o.membership = 1 AND o.user_num > $2 ORDER BY o.user_num LIMIT $3`)
	selectShared = Prepare(`SELECT m.room FROM memberships AS m JOIN memberships AS o ON o.room = m.room
		WHERE m.user_num = $1 AND o.user_num = $2 AND m.membership = 1 AND o.membership = 1 ORDER BY m.room LIMIT $3`)

	selectMembers = Prepare(`SELECT c.key, c.event, k.state_key, c.membership, c.slot FROM current_state AS c JOIN state_keys AS k ON k.num = c.key
		WHERE c.room = $1 AND c.membership = $2 AND (c.slot, c.key) > ($3, $4) ORDER BY c.slot, c.key LIMIT $5`)
	countMembers = Prepare(`SELECT COUNT(*) FROM current_state WHERE room = $1 AND membership = $2`)
	selectMember = Prepare(`SELECT c.key, c.event, k.state_key, c.membership, c.slot FROM current_state AS c JOIN state_keys AS k ON k.num = c.key
		WHERE c.room = $1 AND c.key = $2`)
	selectRoomsOfKey = Prepare(`SELECT room FROM current_state WHERE key = $1 AND membership = $2 AND membership <> 0 AND room > $3
		ORDER BY room LIMIT $4`)

	insertServer      = Prepare(`INSERT INTO room_servers (room, server, joined) VALUES ($1, $2, $3) ON CONFLICT (room, server) DO UPDATE SET joined = room_servers.joined + excluded.joined`)
	deleteServers     = Prepare(`DELETE FROM room_servers WHERE room = $1 AND server = $2 AND joined <= 0`)
	selectServers     = Prepare(`SELECT server FROM room_servers WHERE room = $1 AND server > $2 AND joined > 0 ORDER BY server LIMIT $3`)
	selectServerRooms = Prepare(`SELECT room FROM room_servers WHERE server = $1 AND room > $2 AND joined > 0 ORDER BY room LIMIT $3`)
)

func scanMembership(row *Row) (m RoomMembership) {
	var membership int64
	var stripped *string
	row.Scan(&m.User, &m.Room, &membership, &m.Slot, &m.Event, &m.Forgotten, &m.UserSlot, &stripped)
	m.Membership = Membership(membership)
	if stripped != nil {
		m.Stripped = *stripped
	}
	return m
}

// SetMembership writes a local user's membership and wakes the user's streams.
// UserSlot is given by the committer.
func (c *Change) SetMembership(m RoomMembership) {
	slot := c.UserSlot(m.User, KindMembership)
	c.Exec(upsertMembership, m.User, m.Room, int64(m.Membership), m.Slot, m.Event, m.Forgotten, slot, orNull(m.Stripped))
}

// ForgetRoom marks a left room as forgotten by a local user.
func (c *Change) ForgetRoom(user UserNum, room RoomNum) {
	slot := c.UserSlot(user, KindMembership)
	c.ExecOne(forgetMembership, ErrNotFound, user, room, slot)
}

// DropMembership takes the row away: the room was deleted.
func (c *Change) DropMembership(user UserNum, room RoomNum) { c.Exec(deleteMembership, user, room) }

// Membership returns a local user's membership in a room.
func (r *Read) Membership(user UserNum, room RoomNum) (RoomMembership, error) {
	return QueryOne(r, selectMembership, scanMembership, user, room)
}

// JoinedRoomNum returns the number of a room in which a local user is, else
// ErrNotFound.
func (r *Read) JoinedRoomNum(user UserNum, roomID string) (RoomNum, error) {
	return QueryOne(r, selectJoinedRoom, Num[RoomNum], user, roomID)
}

// Memberships returns the memberships of a local user by room number, forgotten
// ones too.
func (r *Read) Memberships(user UserNum, after RoomNum, limit int) ([]RoomMembership, error) {
	return Query(r, selectMemberships, scanMembership, user, after, limit)
}

// LocalMembers returns the local users with a membership in a room, by user number.
func (r *Read) LocalMembers(room RoomNum, m Membership, after UserNum, limit int) ([]RoomMembership, error) {
	return Query(r, selectLocal, scanMembership, room, int64(m), after, limit)
}

// LocalUsersSharing returns the local users joined to a room to which a local
// user is joined, the user too, by number.
func (r *Read) LocalUsersSharing(user, after UserNum, limit int) ([]UserNum, error) {
	return Query(r, selectSharing, Num[UserNum], user, after, limit)
}

// SharedRooms returns rooms to which two local users are joined.
func (r *Read) SharedRooms(a, b UserNum, limit int) ([]RoomNum, error) {
	return Query(r, selectShared, Num[RoomNum], a, b, limit)
}

// Member is an entry m.room.member of a room's current state.
type Member struct {
	Key        KeyNum
	Event      EventNum
	UserID     string
	Membership Membership
	Slot       Slot // at which the entry came in
}

func scanMember(row *Row) (m Member) {
	var membership int64
	row.Scan(&m.Key, &m.Event, &m.UserID, &membership, &m.Slot)
	m.Membership = Membership(membership)
	return m
}

// Members returns the members of a room with a membership, local and remote, in
// the order in which the entries came in. The page after one ends with its last.
func (r *Read) Members(room RoomNum, m Membership, after Member, limit int) ([]Member, error) {
	return Query(r, selectMembers, scanMember, room, int64(m), after.Slot, after.Key, limit)
}

// Member returns one member of a room by the key (m.room.member, user ID).
func (r *Read) Member(room RoomNum, key KeyNum) (Member, error) {
	return QueryOne(r, selectMember, scanMember, room, key)
}

// CountMembers counts the members of a room with a membership.
func (r *Read) CountMembers(room RoomNum, m Membership) (int64, error) {
	return QueryOne(r, countMembers, (*Row).Int, room, int64(m))
}

// RoomsOfKey returns the rooms whose current state has the key (m.room.member,
// user ID) with a membership: the rooms of any user, local or remote.
func (r *Read) RoomsOfKey(key KeyNum, m Membership, after RoomNum, limit int) ([]RoomNum, error) {
	return Query(r, selectRoomsOfKey, Num[RoomNum], key, int64(m), after, limit)
}

// CountServer adds to the number of joined members that a server has in a room.
func (c *Change) CountServer(room RoomNum, server string, joined int) {
	c.Exec(insertServer, room, server, joined)
	if joined < 0 {
		c.Exec(deleteServers, room, server)
	}
}

// RoomServers returns the servers with joined members in a room, in order.
func (r *Read) RoomServers(room RoomNum, after string, limit int) ([]string, error) {
	return Query(r, selectServers, (*Row).Text, room, after, limit)
}

// ServerRooms returns the rooms in which a server has joined members.
func (r *Read) ServerRooms(server string, after RoomNum, limit int) ([]RoomNum, error) {
	return Query(r, selectServerRooms, Num[RoomNum], server, after, limit)
}
