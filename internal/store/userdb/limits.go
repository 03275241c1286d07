// Table limits: limits that are exact over all instances. Written by package auth.

package userdb

import (
	"context"
	"errors"
	"slices"
	"strings"

	"stoa/internal/store"
)

var (
	selectLimit = store.Prepare(`SELECT full_ts FROM limits WHERE name = $1`)
	// A time later than that of an empty bucket comes from a wrong clock: the bucket
	// counts as full.
	takeLimit = store.Prepare(`INSERT INTO limits (name, full_ts) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET full_ts = CASE WHEN limits.full_ts > $3 AND limits.full_ts <= $5 THEN limits.full_ts ELSE $3 END + $4
		WHERE CASE WHEN limits.full_ts > $3 AND limits.full_ts <= $5 THEN limits.full_ts ELSE $3 END + $4 <= $5`)
	deleteLimit      = store.Prepare(`DELETE FROM limits WHERE name = $1`)
	deleteFullLimits = store.Prepare(`DELETE FROM limits WHERE full_ts <= $1`)
)

// Limit is a bucket of tokens that is exact over all instances.
type Limit struct {
	Name    string
	EveryMS int64 // the time for one token to return
	Burst   int64 // size of the bucket
}

// TakeLimits takes one token of each bucket if all have one. Otherwise it takes none, and
// waitMS is the time until all have one.
func TakeLimits(ctx context.Context, s *store.Store, now int64, limits ...Limit) (waitMS int64, err error) {
	limits = slices.SortedFunc(slices.Values(limits), func(a, b Limit) int { return strings.Compare(a.Name, b.Name) })
	err = s.Read(ctx, func(r *store.Read) error {
		// Most refusals are of clients that retry: they cost only a read.
		waitMS, err = limitWait(r, now, limits)
		return err
	})
	if err != nil || waitMS > 0 {
		return waitMS, err
	}
	err = s.Write(ctx, func(tx *store.Tx) error {
		for _, l := range limits {
			// The statement decides: another instance may have been faster.
			err := tx.ExecOne(takeLimit, errLimited, l.Name, now+l.EveryMS, now, l.EveryMS, now+l.EveryMS*l.Burst)
			if err != nil {
				waitMS = l.EveryMS
				return err
			}
		}
		return nil
	})
	if errors.Is(err, errLimited) {
		return waitMS, nil
	}
	if err == nil && now%limitSweep == 0 {
		err = s.Write(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec(deleteFullLimits, now)
			return err
		})
	}
	return 0, err
}

// errLimited rolls back the tokens from other buckets.
var errLimited = errors.New("store: limit reached")

// limitSweep: one call in so many, by its ms, deletes full buckets.
const limitSweep = 64

// limitWait returns the time until each bucket has a token.
func limitWait(r *store.Read, now int64, limits []Limit) (waitMS int64, err error) {
	for _, l := range limits {
		full, err := store.QueryOne(r, selectLimit, (*store.Row).Int, l.Name)
		if err != nil && err != store.ErrNotFound {
			return 0, err
		}
		if full > now+l.EveryMS*l.Burst {
			full = now // see takeLimit
		}
		waitMS = max(waitMS, max(full, now)+l.EveryMS-now-l.EveryMS*l.Burst)
	}
	return waitMS, nil
}

// ResetLimit fills a bucket.
func ResetLimit(c *store.Change, name string) { c.Exec(deleteLimit, name) }
