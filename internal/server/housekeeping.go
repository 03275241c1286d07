package server

import (
	"context"
	"time"

	"stoa/internal/account"
	"stoa/internal/reader"
	"stoa/internal/report"
	"stoa/internal/store/roomdb"
)

// housekeepingEvery is the interval at which expired rows are deleted. The shortest
// retention time is a week.
const housekeepingEvery = time.Hour

// housekeepingLimit bounds one run, which reads the largest tables to the end.
const housekeepingLimit = time.Hour

// housekeeping returns the jobs that delete expired rows, in small changes that delay no
// other work. Each kind has one owner among the instances. If it fails, mostly because
// the clocks disagree, the reader logs and repeats it.
func (srv *Server) housekeeping(p parts) []reader.Kind {
	s := srv.services.Store
	kindEvery := func(name string, every time.Duration, do func(context.Context) error) reader.Kind {
		return reader.Kind{Name: "housekeeping." + name, Every: every, AtOnce: 1, Limit: housekeepingLimit,
			Handle: func(ctx context.Context, _ *reader.Work) error { return do(ctx) }}
	}
	kind := func(name string, do func(context.Context) error) reader.Kind {
		return kindEvery(name, housekeepingEvery, do)
	}
	return []reader.Kind{
		kind("stream", func(ctx context.Context) error { return s.TrimStream(ctx, 0) }),
		kind("transactions", func(ctx context.Context) error { return roomdb.ExpireTxns(ctx, s, 0) }),
		kind("claimed_keys", p.keys.Expire),
		kindEvery("people_index", 24*time.Hour, func(ctx context.Context) error { return account.IndexPeople(ctx, srv.services.Accounts) }),
		kind("mail_bounces", srv.services.Mail.Expire),
		kind("sliding_connections", srv.sliding.Expire),
		kind("threepid_sessions", srv.services.Addresses.Expire),
		kind("media", p.media.Sweep),
		kindEvery("reports", 24*time.Hour, func(ctx context.Context) error { return report.Expire(ctx, s) }),
		kindEvery("media_retention", 24*time.Hour, p.media.Retain),
		kindEvery("media_orphans", 24*time.Hour, p.media.SweepOrphans),
		kind("url_previews", p.previews.Expire),
	}
}
