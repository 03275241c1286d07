package reader

import (
	"context"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/readerdb"
)

// Bounds of a status and of a list.
const (
	cursorsShown = 10_000
	asideShown   = 1000
)

// Status is the progress of the readers and jobs of all instances. Any instance or
// command can read it.
type Status struct {
	Readers []ReaderStatus `json:"readers"`
	Jobs    []KindStatus   `json:"jobs"`
}

// ReaderStatus is the progress of a reader.
type ReaderStatus struct {
	Name   string `json:"name"`
	Shards int    `json:"shards"`
	// Owners counts the shards by the lease of their owner. A number that belongs to no
	// live instance is of a stopped one, or of one that ran alone.
	Owners map[int64]int `json:"owners"`
	// LagMS is the age of the oldest row that some shard has not processed, in ms. A
	// shard without work skips rows with up to 5 s delay.
	LagMS int64 `json:"lag_ms"`
	Aside int64 `json:"set_aside"`
}

// KindStatus counts the jobs of a kind.
type KindStatus struct {
	Kind    string `json:"kind"`
	Waiting int64  `json:"waiting"`
	Running int64  `json:"running"`
	Aside   int64  `json:"set_aside"`
	// LateMS is how long the first of them has been due, in ms; 0 = none is due.
	LateMS int64 `json:"late_ms"`
}

// ReadStatus reads the status from the store.
func ReadStatus(ctx context.Context, s *store.Store) (Status, error) {
	out := Status{Readers: []ReaderStatus{}, Jobs: []KindStatus{}}
	err := s.Read(ctx, func(read *store.Read) error {
		now, err := readerdb.Now(read)
		if err != nil {
			return err
		}
		cursors, err := readerdb.Cursors(read, cursorsShown)
		if err != nil {
			return err
		}
		aside, err := readerdb.CountAside(read)
		if err != nil {
			return err
		}
		for _, c := range cursors {
			if n := len(out.Readers); n == 0 || out.Readers[n-1].Name != c.Name {
				out.Readers = append(out.Readers, ReaderStatus{Name: c.Name, Owners: map[int64]int{}, Aside: aside[c.Name]})
			}
			r := &out.Readers[len(out.Readers)-1]
			r.Shards++
			r.Owners[c.Lease]++
			if c.Unread != 0 {
				r.LagMS = max(r.LagMS, now-time.UnixMicro(int64(c.Unread)).UnixMilli())
			}
		}
		counts, err := readerdb.CountJobs(read)
		for _, n := range counts {
			k := KindStatus{Kind: n.Kind, Waiting: n.Jobs - n.Runs - n.Aside, Running: n.Runs, Aside: n.Aside}
			if n.OldestDue < now {
				k.LateMS = now - n.OldestDue
			}
			out.Jobs = append(out.Jobs, k)
		}
		return err
	})
	return out, err
}

// Aside is a row of the stream or a job that was set aside.
type Aside struct {
	// Kind is that of the job, empty for a row of the stream.
	Kind string `json:"kind,omitempty"`
	Key  string `json:"key,omitempty"`
	// Reader, Shard and Pos identify a row of the stream.
	Reader string `json:"reader,omitempty"`
	Shard  int    `json:"shard,omitempty"`
	Pos    int64  `json:"pos,omitempty"`

	Tries int       `json:"tries"`
	Error string    `json:"error"`
	Since time.Time `json:"since"`
	// Retry says that an operator has asked for another attempt.
	Retry bool `json:"retry,omitempty"`
}

// ListAside returns the rows and the jobs that were set aside, at most 1,000 of each.
func ListAside(ctx context.Context, s *store.Store) (list []Aside, err error) {
	err = s.Read(ctx, func(read *store.Read) error {
		rows, err := readerdb.AsideRows(read, readerdb.Aside{}, asideShown)
		if err != nil {
			return err
		}
		for _, r := range rows {
			list = append(list, Aside{
				Reader: r.Name, Shard: r.Shard, Pos: int64(r.Row.Pos), Tries: r.Tries, Error: r.Error,
				Since: time.UnixMilli(r.AsideTS), Retry: r.Retry,
			})
		}
		jobs, err := readerdb.JobsAside(read, 0, asideShown)
		for _, j := range jobs {
			list = append(list, Aside{Kind: j.Kind, Key: j.Key, Tries: j.Tries, Error: j.Error, Since: time.UnixMilli(j.AsideTS)})
		}
		return err
	})
	return list, err
}

// Retry asks the owner to retry a row or job that was set aside: a job within a second, a
// row within ten. ErrNotFound says that it does not exist.
func Retry(ctx context.Context, s *store.Store, a Aside) error {
	return resolve(ctx, s, a, readerdb.RetryJobs, readerdb.RetryAside)
}

// Discard deletes a row or job that was set aside.
func Discard(ctx context.Context, s *store.Store, a Aside) error {
	return resolve(ctx, s, a, readerdb.DiscardJobs, readerdb.DropAside)
}

func resolve(ctx context.Context, s *store.Store, a Aside,
	job func(tx *store.Tx, kind, key string) (int64, error),
	row func(c *store.Change, name string, shard int, pos store.Position, gone error),
) error {
	if a.Kind == "" {
		c := store.NewChange()
		row(c, a.Reader, a.Shard, store.Position(a.Pos), ErrNotFound)
		_, err := s.Commit(ctx, c)
		return err
	}
	return s.Write(ctx, func(tx *store.Tx) error {
		n, err := job(tx, a.Kind, a.Key)
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		return err
	})
}
