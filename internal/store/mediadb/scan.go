// Column unscanned_ts of the table blobs. Written by package media.

package mediadb

import "stoa/internal/store"

var (
	selectUnscanned = store.Prepare(`SELECT unscanned_ts FROM blobs WHERE hash = $1`)
	setUnscanned    = store.Prepare(`UPDATE blobs SET unscanned_ts = {{now}} WHERE hash = $1`)
	setScanned      = store.Prepare(`UPDATE blobs SET unscanned_ts = 0 WHERE hash = $1`)
)

// IsUnscanned reports whether content waits for the scanner; store.ErrNotFound.
func IsUnscanned(r *store.Read, hash []byte) (bool, error) {
	ts, err := store.QueryOne(r, selectUnscanned, (*store.Row).Int, hash)
	return ts > 0, err
}

// MarkUnscanned lets content wait for the scanner.
func MarkUnscanned(c *store.Change, hash []byte) { c.Exec(setUnscanned, hash) }

// MarkScanned says that content need not wait any longer.
func MarkScanned(c *store.Change, hash []byte) { c.Exec(setScanned, hash) }
