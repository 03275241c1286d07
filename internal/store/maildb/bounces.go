// Table mail_bounces. Written by package mail.

package maildb

import "stoa/internal/store"

// Bounce is an address whose mails came back.
type Bounce struct {
	Address         string
	Reason          string
	Bounces         int64
	FirstTS, LastTS int64 // ms of the database's clock
}

var (
	insertBounce = store.Prepare(`INSERT INTO mail_bounces (address, reason, bounces, first_ts, last_ts) VALUES ($1, $2, 1, {{now}}, {{now}})
		ON CONFLICT (address) DO UPDATE SET reason = excluded.reason, bounces = mail_bounces.bounces + 1, last_ts = excluded.last_ts`)
	deleteBounce  = store.Prepare(`DELETE FROM mail_bounces WHERE address = $1`)
	selectBounce  = store.Prepare(`SELECT address, reason, bounces, first_ts, last_ts FROM mail_bounces WHERE address = $1`)
	selectBounces = store.Prepare(`SELECT address, reason, bounces, first_ts, last_ts FROM mail_bounces ORDER BY last_ts DESC, address LIMIT $1`)
	countBounces  = store.Prepare(`SELECT COUNT(*) FROM mail_bounces`)
	expireBounces = store.Prepare(`DELETE FROM mail_bounces WHERE last_ts < {{now}} - $1`)
)

func scanBounce(row *store.Row) (b Bounce) {
	row.Scan(&b.Address, &b.Reason, &b.Bounces, &b.FirstTS, &b.LastTS)
	return b
}

// AddBounce notes that a mail to an address came back.
func AddBounce(c *store.Change, address, reason string) { c.Exec(insertBounce, address, reason) }

// DropBounce forgets what came back from an address.
func DropBounce(c *store.Change, address string) { c.Exec(deleteBounce, address) }

// BounceOf returns what came back from an address, or store.ErrNotFound.
func BounceOf(r *store.Read, address string) (Bounce, error) {
	return store.QueryOne(r, selectBounce, scanBounce, address)
}

// Bounces returns addresses whose mails came back, the latest first.
func Bounces(r *store.Read, limit int) ([]Bounce, error) {
	return store.Query(r, selectBounces, scanBounce, limit)
}

// CountBounces counts the addresses whose mails came back.
func CountBounces(r *store.Read) (int64, error) {
	return store.QueryOne(r, countBounces, (*store.Row).Int)
}

// ExpireBounces deletes the addresses whose last mail came back more than some ms ago.
func ExpireBounces(tx *store.Tx, olderMS int64) error {
	_, err := tx.Exec(expireBounces, olderMS)
	return err
}
