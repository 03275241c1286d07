package server

import (
	"context"
	"time"

	"stoa/internal/reader"
	"stoa/internal/store/roomdb"
)

// housekeepingEvery is how often what has outlived its time is deleted. The
// shortest time that anything is kept so is a week.
const housekeepingEvery = time.Hour

// housekeepingLimit bounds one run: the largest tables are walked to the end.
const housekeepingLimit = time.Hour

// housekeeping deletes what has outlived its time, in pieces that hold nobody up. Each
// kind has one owner among the instances; one that fails, above all because the
// clocks disagree, is tried again and logged by the reader.
func (srv *Server) housekeeping(p parts) []reader.Kind {
	s := srv.services.Store
	kind := func(name string, do func(context.Context) error) reader.Kind {
		return reader.Kind{Name: "housekeeping." + name, Every: housekeepingEvery, AtOnce: 1, Limit: housekeepingLimit,
			Handle: func(ctx context.Context, _ *reader.Work) error { return do(ctx) }}
	}
	return []reader.Kind{
		kind("stream", func(ctx context.Context) error { return s.TrimStream(ctx, 0) }),
		kind("transactions", func(ctx context.Context) error { return roomdb.ExpireTxns(ctx, s, 0) }),
		kind("claimed_keys", p.keys.Expire),
	}
}
