// Table filters. Written by package userdata.

package userdb

import (
	"errors"

	"stoa/internal/store"
)

// ErrFilterTaken says that a filter with this number was added in the meantime.
var ErrFilterTaken = errors.New("store: filter number is taken")

var (
	insertFilter     = store.Prepare(`INSERT INTO filters (user_num, num, filter) VALUES ($1, $2, $3) ON CONFLICT (user_num, num) DO NOTHING`)
	selectFilter     = store.Prepare(`SELECT filter FROM filters WHERE user_num = $1 AND num = $2`)
	findFilter       = store.Prepare(`SELECT num FROM filters WHERE user_num = $1 AND filter = $2 ORDER BY num LIMIT 1`)
	lastFilter       = store.Prepare(`SELECT COALESCE(MAX(num), 0) FROM filters WHERE user_num = $1`)
	deleteOldFilters = store.Prepare(`DELETE FROM filters WHERE user_num = $1 AND num <= $2`)
)

// AddFilter writes a filter; the change fails with ErrFilterTaken if the number exists.
func AddFilter(c *store.Change, user store.UserNum, number int64, filter string) {
	c.ExecOne(insertFilter, ErrFilterTaken, user, number, filter)
}

// DeleteFiltersUpTo deletes the oldest filters of a user.
func DeleteFiltersUpTo(c *store.Change, user store.UserNum, number int64) {
	c.Exec(deleteOldFilters, user, number)
}

// Filter returns a filter, or ErrNotFound.
func Filter(r *store.Read, user store.UserNum, number int64) (string, error) {
	return store.QueryOne(r, selectFilter, (*store.Row).Text, user, number)
}

// FindFilter returns the number of an equal filter, or ErrNotFound.
func FindFilter(r *store.Read, user store.UserNum, filter string) (int64, error) {
	return store.QueryOne(r, findFilter, (*store.Row).Int, user, filter)
}

// LastFilter is the greatest number of the user's filters, 0 if there are none.
func LastFilter(r *store.Read, user store.UserNum) (int64, error) {
	return store.QueryOne(r, lastFilter, (*store.Row).Int, user)
}
