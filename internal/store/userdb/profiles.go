// Table profiles. Written by package account.

package userdb

import "stoa/internal/store"

var (
	selectProfile      = store.Prepare(`SELECT field, value FROM profiles WHERE user_num = $1 ORDER BY field`)
	selectProfileField = store.Prepare(`SELECT value FROM profiles WHERE user_num = $1 AND field = $2`)
	upsertProfileField = store.Prepare(`INSERT INTO profiles (user_num, field, value) VALUES ($1, $2, $3)
		ON CONFLICT (user_num, field) DO UPDATE SET value = excluded.value`)
	deleteProfileField = store.Prepare(`DELETE FROM profiles WHERE user_num = $1 AND field = $2`)
	deleteProfile      = store.Prepare(`DELETE FROM profiles WHERE user_num = $1`)
)

// ProfileField is one field of a profile.
type ProfileField struct {
	Name  string
	Value string // JSON
}

func scanProfileField(row *store.Row) (f ProfileField) {
	row.Scan(&f.Name, &f.Value)
	return f
}

// Profile returns all fields of a user's profile, by name. Their number is
// bounded by the limit on a profile's size.
func Profile(r *store.Read, user store.UserNum) ([]ProfileField, error) {
	return store.Query(r, selectProfile, scanProfileField, user)
}

// ProfileFieldOf returns the JSON of one field, or ErrNotFound.
func ProfileFieldOf(r *store.Read, user store.UserNum, field string) (string, error) {
	return store.QueryOne(r, selectProfileField, (*store.Row).Text, user, field)
}

// SetProfileField sets one field to a JSON value.
func SetProfileField(c *store.Change, user store.UserNum, field, value string) {
	c.Exec(upsertProfileField, user, field, value)
	c.UserSlot(user, store.KindProfile)
}

// DeleteProfileField deletes one field, if it is there.
func DeleteProfileField(c *store.Change, user store.UserNum, field string) {
	c.Exec(deleteProfileField, user, field)
	c.UserSlot(user, store.KindProfile)
}
