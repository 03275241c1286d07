// Package clientsync answers /sync: what is new for one user since a token, from memory if that reaches back far enough, otherwise
// from one snapshot of the store.
//
// It owns the form of the answer, filters, and which members lazily loading devices were sent. Package streamcache finds out what
// is new, and holds the waiting requests. clientsync writes nothing to the store, and decides nothing about rooms. Parts of an
// answer that other packages provide (typing, presence, keys, messages to devices, account data) come through the small interfaces
// of section.go.
//
// The invariant: the answers to a chain of tokens contain every event of the user's timelines exactly once, in order, or mark a
// timeline as limited and include the state that changed in its gap.
//
// Spec: client-server-api#syncing
package clientsync

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"stoa/internal/store"
	"stoa/internal/streamcache"
)

// Options are the parts of a Renderer. Only Cache must be set.
type Options struct {
	// Cache is the stream in memory; its own Run follows the store.
	Cache *streamcache.Cache
	// Registry gets the metrics; none if nil.
	Registry prometheus.Registerer

	// Memory is the memory for large answers, except for those to requests without a token or with the full state that are not parked:
	// whoever calls Begin counts these. nil is as much as they take.
	Memory Memory

	// Sections are parts of answers that other packages provide. The fields after it are parts that need more than a section; nil
	// leaves a part out.
	Sections    []Section
	ToDevice    streamcache.ToDevice
	Typing      streamcache.Typing
	Presence    streamcache.Presence
	AccountData streamcache.AccountData
	Filters     Filters
	Unread      Unread
}

// Memory bounds the memory of large answers in progress, in total and for each user.
type Memory interface {
	// Take takes bytes for a user, and waits until they are free.
	Take(ctx context.Context, user string, bytes int64) error
	// TryTake takes bytes for a user if they are free.
	TryTake(user string, bytes int64) error
	// Add counts more bytes of a user, or fewer if bytes is negative.
	Add(user string, bytes int64)
}

// Renderer makes the answers to /sync.
type Renderer struct {
	opt     Options
	cache   *streamcache.Cache
	kept    *streamcache.Kept
	store   *store.Store
	clock   func() time.Time
	sent    *streamcache.SentMembers
	filters *filterCache
	answers *prometheus.CounterVec
}

// New makes a Renderer. It starts nothing.
func New(opt Options) *Renderer {
	r := &Renderer{
		opt: opt, cache: opt.Cache, kept: opt.Cache.Kept(), store: opt.Cache.Store(), clock: opt.Cache.Clock(),
		sent:    streamcache.NewSentMembers(1 << 17),
		filters: newFilterCache(),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stoa_clientsync_answers_total", Help: "Answers to /sync, by source (memory, store)."}, []string{"from"}),
	}
	if opt.Registry != nil {
		opt.Registry.MustRegister(r.answers)
	}
	return r
}
