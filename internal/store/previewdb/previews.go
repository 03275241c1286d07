// Table url_previews. Written by package preview.

package previewdb

import (
	"errors"

	"stoa/internal/store"
)

// ErrReplaced says that another request has replaced the preview meanwhile.
var ErrReplaced = errors.New("store: the preview was replaced meanwhile")

// Preview is a row of the table url_previews.
type Preview struct {
	Key     []byte
	Answer  string // JSON; empty: there is none
	Failure string // why there is none, in words
	MediaID string // of the image; empty: none
	Fresh   bool   // it has not expired; only read
}

var (
	selectPreview = store.Prepare(`SELECT key, answer, failure, media_id, CASE WHEN expires_ts > {{now}} THEN 1 ELSE 0 END FROM url_previews WHERE key = $1`)
	selectOld     = store.Prepare(`SELECT key, answer, failure, media_id, 0 FROM url_previews WHERE made_ts < {{now}} - $1 ORDER BY made_ts LIMIT $2`)
	putPreview    = store.Prepare(`INSERT INTO url_previews (key, answer, failure, media_id, made_ts, expires_ts)
		VALUES ($1, $2, $3, $4, {{now}}, {{now}} + $5)
		ON CONFLICT (key) DO UPDATE SET answer = $2, failure = $3, media_id = $4, made_ts = {{now}}, expires_ts = {{now}} + $5
		WHERE url_previews.media_id = $6`)
	deletePreview = store.Prepare(`DELETE FROM url_previews WHERE key = $1 AND media_id = $2 AND made_ts < {{now}} - $3`)
)

func scan(row *store.Row) (p Preview) {
	p.Key = append([]byte(nil), row.Bytes()...)
	var fresh int64
	row.Scan(&p.Answer, &p.Failure, &p.MediaID, &fresh)
	p.Fresh = fresh == 1
	return p
}

// ByKey returns a preview, or store.ErrNotFound.
func ByKey(r *store.Read, key []byte) (Preview, error) {
	return store.QueryOne(r, selectPreview, scan, key)
}

// Old returns previews that were made more than some ms ago, the oldest first.
func Old(r *store.Read, afterMS int64, limit int) ([]Preview, error) {
	return store.Query(r, selectOld, scan, afterMS, limit)
}

// Put writes a preview that is fresh for some ms. The change fails with ErrReplaced if there is one of its key with another
// image than before.
func Put(c *store.Change, p Preview, before string, freshMS int64) {
	c.ExecOne(putPreview, ErrReplaced, p.Key, p.Answer, p.Failure, p.MediaID, freshMS, before)
}

// Drop deletes a preview that was made more than some ms ago. The change fails with ErrReplaced if it is newer.
func Drop(c *store.Change, p Preview, afterMS int64) {
	c.ExecOne(deletePreview, ErrReplaced, p.Key, p.MediaID, afterMS)
}
