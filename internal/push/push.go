package push

import (
	"log/slog"
	"strconv"
	"time"

	"stoa/internal/account"
	"stoa/internal/reader"
	"stoa/internal/store"
)

// Options are what a Push needs.
type Options struct {
	Store    *store.Store
	Accounts *account.Accounts
	// AllowPrivate accepts gateways without TLS, as they are found in private networks.
	AllowPrivate bool
	Log          *slog.Logger // nil = none
}

// Push keeps pushers and notifies their gateways.
type Push struct {
	opt      Options
	store    *store.Store
	accounts *account.Accounts
	log      *slog.Logger
}

// New returns a Push.
func New(opt Options) *Push {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	return &Push{opt: opt, store: opt.Store, accounts: opt.Accounts, log: opt.Log}
}

// kindDeliver is the kind of jobs that deliver the queue of a pusher. The name is in the database.
const kindDeliver = "push.deliver"

// deliverJob delivers the queue of a pusher after a time. A job that waits already is due at the earlier of both times.
func (p *Push) deliverJob(pusher int64, after time.Duration) reader.Job {
	return reader.Job{Kind: kindDeliver, Key: strconv.FormatInt(pusher, 10), Unique: true, After: after}
}
