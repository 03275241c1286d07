// Table account_data. Written by package userdata.

package userdb

import "stoa/internal/store"

var selectRulesChanged = store.Prepare(`SELECT DISTINCT u.num, u.user_id FROM {{each $1}} AS v
		JOIN account_data AS a ON a.user_num = (v.v >> 32) AND a.slot >= (v.v & 4294967295)
			AND a.room_id = '' AND a.type IN ('m.push_rules', 'm.ignored_user_list')
		JOIN users AS u ON u.num = a.user_num`)

// UserSlot is a slot of a user.
type UserSlot struct {
	User store.UserNum
	Slot store.Slot
}

// Named is a user with their number.
type Named struct {
	Num    store.UserNum
	UserID string
}

// RulesChanged returns those of some users whose push rules or ignored users have changed
// at or after a slot.
func RulesChanged(r *store.Read, since []UserSlot) ([]Named, error) {
	packed := make([]int64, len(since))
	for i, s := range since {
		packed[i] = int64(s.User)<<32 | int64(s.Slot)
	}
	return store.Query(r, selectRulesChanged, func(row *store.Row) (n Named) {
		row.Scan(&n.Num, &n.UserID)
		return n
	}, packed)
}

// AccountData is an entry of a user's account data.
type AccountData struct {
	RoomID  string // "" = global
	Type    string
	Content string     // JSON; of m.push_rules the stored form
	Slot    store.Slot // of its last change
}

var (
	upsertAccountData = store.Prepare(`INSERT INTO account_data (user_num, room_id, type, content, slot) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (user_num, room_id, type) DO UPDATE SET content = excluded.content, slot = excluded.slot`)
	selectAccountData = store.Prepare(`SELECT room_id, type, content, slot FROM account_data WHERE user_num = $1 AND room_id = $2 AND type = $3`)
	selectAllData     = store.Prepare(`SELECT room_id, type, content, slot FROM account_data WHERE user_num = $1 ORDER BY room_id, type LIMIT $2`)
	selectDataSince   = store.Prepare(`SELECT room_id, type, content, slot FROM account_data WHERE user_num = $1 AND slot > $2 ORDER BY slot, room_id, type LIMIT $3`)
	selectDataOfTypes = store.Prepare(`SELECT room_id, type, content, slot FROM account_data WHERE user_num = $1 AND {{intext type $2}} ORDER BY room_id, type LIMIT $3`)
	sumAccountData    = store.Prepare(`SELECT COUNT(*), COALESCE(SUM(LENGTH(content)), 0) FROM account_data WHERE user_num = $1`)
	selectDataOfUsers = store.Prepare(`SELECT user_num, content FROM account_data WHERE {{in user_num $1}} AND room_id = '' AND type = $2`)
	selectUnusual     = store.Prepare(`SELECT u.user_id FROM memberships m JOIN users u ON u.num = m.user_num WHERE m.room = $1 AND m.membership = 1
		AND EXISTS (SELECT 1 FROM account_data a WHERE a.user_num = m.user_num AND a.room_id = '' AND a.type IN ('m.push_rules', 'm.ignored_user_list'))`)
)

func scanAccountData(row *store.Row) (d AccountData) {
	row.Scan(&d.RoomID, &d.Type, &d.Content, &d.Slot)
	return d
}

// PutAccountData writes an entry and wakes the user's devices.
func PutAccountData(c *store.Change, user store.UserNum, roomID, dataType, content string) {
	c.Exec(upsertAccountData, user, roomID, dataType, content, c.UserSlot(user, store.KindAccountData))
}

// DataOfTypes returns the entries of some types, of rooms and global ones.
func DataOfTypes(r *store.Read, user store.UserNum, limit int, types ...string) ([]AccountData, error) {
	return store.Query(r, selectDataOfTypes, scanAccountData, user, types, limit)
}

// AccountDataOf returns one entry; roomID "" = global. ErrNotFound.
func AccountDataOf(r *store.Read, user store.UserNum, roomID, dataType string) (AccountData, error) {
	return store.QueryOne(r, selectAccountData, scanAccountData, user, roomID, dataType)
}

// AllAccountData returns all entries of a user, global ones first.
func AllAccountData(r *store.Read, user store.UserNum, limit int) ([]AccountData, error) {
	return store.Query(r, selectAllData, scanAccountData, user, limit)
}

// AccountDataAfter returns the entries that changed after a slot of the user, oldest
// change first.
func AccountDataAfter(r *store.Read, user store.UserNum, after store.Slot, limit int) ([]AccountData, error) {
	return store.Query(r, selectDataSince, scanAccountData, user, after, limit)
}

// AccountDataSize counts a user's entries and their bytes.
func AccountDataSize(r *store.Read, user store.UserNum) (count, bytes int64, err error) {
	_, err = store.QueryOne(r, sumAccountData, func(row *store.Row) struct{} {
		row.Scan(&count, &bytes)
		return struct{}{}
	}, user)
	return count, bytes, err
}

// AccountDataOfUsers returns a global entry of many users, by user; users without it are
// left out.
func AccountDataOfUsers(r *store.Read, users []store.UserNum, dataType string) (map[store.UserNum]string, error) {
	found := make(map[store.UserNum]string)
	err := store.QueryEach(r, selectDataOfUsers, func(row *store.Row) error {
		user := store.Num[store.UserNum](row)
		found[user] = row.Text()
		return nil
	}, users, dataType)
	return found, err
}

// UnusualMembers returns the local users joined to a room who have their own push rules
// or ignored users.
func UnusualMembers(r *store.Read, room store.RoomNum) ([]string, error) {
	return store.Query(r, selectUnusual, (*store.Row).Text, room)
}
