// Table mail_budget. Written by package mail.

package maildb

import (
	"errors"

	"stoa/internal/store"
)

// ErrSpent says that a bucket has nothing left at the moment.
var ErrSpent = errors.New("store: the budget of mails is spent")

var (
	selectBucket = store.Prepare(`SELECT full_ts, {{now}} FROM mail_budget WHERE name = $1`)
	// A time later than that of an empty bucket comes from a wrong clock: the bucket
	// counts as full.
	takeBucket = store.Prepare(`INSERT INTO mail_budget (name, full_ts) VALUES ($1, {{now}} + $2)
		ON CONFLICT (name) DO UPDATE SET full_ts = CASE WHEN mail_budget.full_ts > {{now}} AND mail_budget.full_ts <= {{now}} + $4
			THEN mail_budget.full_ts ELSE {{now}} END + $2
		WHERE CASE WHEN mail_budget.full_ts > {{now}} AND mail_budget.full_ts <= {{now}} + $4
			THEN mail_budget.full_ts ELSE {{now}} END + $2 <= {{now}} + $3`)
)

// Bucket is a limit on the mails of all instances.
type Bucket struct {
	Name    string
	EveryMS int64 // the time for one mail to return
	Burst   int64 // size of the bucket
	Reserve int64 // how many of it must stay for others
}

func (b Bucket) limitMS() int64 { return b.EveryMS * (b.Burst - b.Reserve) }

// Take takes one mail from each bucket; ErrSpent if one of them has none. The caller rolls
// back then.
func Take(tx *store.Tx, buckets ...Bucket) error {
	for _, b := range buckets {
		if err := tx.ExecOne(takeBucket, ErrSpent, b.Name, b.EveryMS, b.limitMS(), b.EveryMS*b.Burst); err != nil {
			return err
		}
	}
	return nil
}

// Level returns what is left of a bucket, whole mails, and the ms until the caller could
// take one.
func Level(r *store.Read, b Bucket) (left, waitMS int64, err error) {
	var full, now int64
	_, err = store.QueryOne(r, selectBucket, func(row *store.Row) bool { row.Scan(&full, &now); return true }, b.Name)
	if errors.Is(err, store.ErrNotFound) {
		return b.Burst, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	if full > now+b.EveryMS*b.Burst || full < now {
		full = now
	}
	return (now + b.EveryMS*b.Burst - full) / b.EveryMS, max(0, full+b.EveryMS-now-b.limitMS()), nil
}
