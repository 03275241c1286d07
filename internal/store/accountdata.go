package store

// Tables account_data and filters. Written by package userdata.

import "errors"

// AccountData is an entry of a user's account data.
type AccountData struct {
	RoomID  string // "" = global
	Type    string
	Content string // JSON; of m.push_rules the stored form
	Slot    Slot   // of its last change
}

// ErrFilterTaken says that a filter of this number came meanwhile.
var ErrFilterTaken = errors.New("store: filter number is taken")

var (
	upsertAccountData = Prepare(`INSERT INTO account_data (user_num, room_id, type, content, slot) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (user_num, room_id, type) DO UPDATE SET content = excluded.content, slot = excluded.slot`)
	selectAccountData = Prepare(`SELECT room_id, type, content, slot FROM account_data WHERE user_num = $1 AND room_id = $2 AND type = $3`)
	selectAllData     = Prepare(`SELECT room_id, type, content, slot FROM account_data WHERE user_num = $1 ORDER BY room_id, type LIMIT $2`)
	selectDataSince   = Prepare(`SELECT room_id, type, content, slot FROM account_data WHERE user_num = $1 AND slot > $2 ORDER BY slot, room_id, type LIMIT $3`)
	countAccountData  = Prepare(`SELECT COUNT(*) FROM account_data WHERE user_num = $1`)
	selectDataOfUsers = Prepare(`SELECT user_num, content FROM account_data WHERE {{in user_num $1}} AND room_id = '' AND type = $2`)
	selectUnusual     = Prepare(`SELECT u.user_id FROM memberships m JOIN users u ON u.num = m.user_num WHERE m.room = $1 AND m.membership = 1
		AND EXISTS (SELECT 1 FROM account_data a WHERE a.user_num = m.user_num AND a.room_id = '' AND a.type IN ('m.push_rules', 'm.ignored_user_list'))`)

	insertFilter     = Prepare(`INSERT INTO filters (user_num, num, filter) VALUES ($1, $2, $3) ON CONFLICT (user_num, num) DO NOTHING`)
	selectFilter     = Prepare(`SELECT filter FROM filters WHERE user_num = $1 AND num = $2`)
	findFilter       = Prepare(`SELECT num FROM filters WHERE user_num = $1 AND filter = $2 ORDER BY num LIMIT 1`)
	lastFilter       = Prepare(`SELECT COALESCE(MAX(num), 0) FROM filters WHERE user_num = $1`)
	deleteOldFilters = Prepare(`DELETE FROM filters WHERE user_num = $1 AND num <= $2`)
)

func scanAccountData(row *Row) (d AccountData) {
	row.Scan(&d.RoomID, &d.Type, &d.Content, &d.Slot)
	return d
}

// PutAccountData writes an entry; the user's devices are told.
func (c *Change) PutAccountData(user UserNum, roomID, dataType, content string) {
	c.Exec(upsertAccountData, user, roomID, dataType, content, c.UserSlot(user, KindAccountData))
}

// AccountData returns one entry; roomID "" = global. ErrNotFound.
func (r *Read) AccountData(user UserNum, roomID, dataType string) (AccountData, error) {
	return QueryOne(r, selectAccountData, scanAccountData, user, roomID, dataType)
}

// AllAccountData returns all entries of a user, global ones first.
func (r *Read) AllAccountData(user UserNum, limit int) ([]AccountData, error) {
	return Query(r, selectAllData, scanAccountData, user, limit)
}

// AccountDataAfter returns the entries whose last change came after a slot of
// the user, oldest change first.
func (r *Read) AccountDataAfter(user UserNum, after Slot, limit int) ([]AccountData, error) {
	return Query(r, selectDataSince, scanAccountData, user, after, limit)
}

// CountAccountData counts a user's entries.
func (r *Read) CountAccountData(user UserNum) (int64, error) {
	return QueryOne(r, countAccountData, (*Row).Int, user)
}

// AccountDataOfUsers returns a global entry of many users, by user; who has none
// is not in it.
func (r *Read) AccountDataOfUsers(users []UserNum, dataType string) (map[UserNum]string, error) {
	found := make(map[UserNum]string)
	err := QueryEach(r, selectDataOfUsers, func(row *Row) error {
		user := Num[UserNum](row)
		found[user] = row.Text()
		return nil
	}, users, dataType)
	return found, err
}

// UnusualMembers returns the local users joined to a room who have push rules or
// ignored users of their own.
func (r *Read) UnusualMembers(room RoomNum) ([]string, error) {
	return Query(r, selectUnusual, (*Row).Text, room)
}

// AddFilter writes a filter; the change fails with ErrFilterTaken if the number
// is.
func (c *Change) AddFilter(user UserNum, number int64, filter string) {
	c.ExecOne(insertFilter, ErrFilterTaken, user, number, filter)
}

// DeleteFiltersUpTo deletes the oldest filters of a user.
func (c *Change) DeleteFiltersUpTo(user UserNum, number int64) {
	c.Exec(deleteOldFilters, user, number)
}

// Filter returns a filter; ErrNotFound.
func (r *Read) Filter(user UserNum, number int64) (string, error) {
	return QueryOne(r, selectFilter, (*Row).Text, user, number)
}

// FindFilter returns the number of a filter that is there already; ErrNotFound.
func (r *Read) FindFilter(user UserNum, filter string) (int64, error) {
	return QueryOne(r, findFilter, (*Row).Int, user, filter)
}

// LastFilter is the greatest number of the user's filters, 0 if there are none.
func (r *Read) LastFilter(user UserNum) (int64, error) {
	return QueryOne(r, lastFilter, (*Row).Int, user)
}
