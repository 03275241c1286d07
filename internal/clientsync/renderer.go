// Package clientsync answers /sync: what is new for one user since a token, from memory where that reaches back far enough,
// otherwise from one snapshot of the store.
//
// It owns the form of the answer, filters, and which members lazily loading devices were sent. What is new, and the requests that
// wait for it, are package streamcache's. It writes nothing to the store, and decides nothing about rooms. What other packages
// provide for an answer (typing, presence, keys, messages to devices, account data) comes through the small interfaces of
// section.go.
//
// The invariant that matters: the answers to a chain of tokens hold every event of the user's timelines exactly once, in
// order, or say that a timeline is limited and carry the state that changed in its gap.
//
// Spec: client-server-api#syncing
package clientsync

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"stoa/internal/store"
	"stoa/internal/streamcache"
)

// Options are what a Renderer needs. Cache is the only one that must be set.
type Options struct {
	// Cache is the stream in memory, which its own Run makes follow the store.
	Cache *streamcache.Cache
	// Registry gets the metrics; none if nil.
	Registry prometheus.Registerer

	// Sections are what other packages add to answers. Those that follow are the parts that need more than a section; each
	// may be nil, and is left out of answers then.
	Sections    []Section
	ToDevice    ToDevice
	Typing      Typing
	Presence    Presence
	AccountData AccountData
	Filters     Filters
	Unread      Unread
}

// Renderer makes the answers to /sync.
type Renderer struct {
	opt     Options
	cache   *streamcache.Cache
	kept    *streamcache.Kept
	store   *store.Store
	clock   func() time.Time
	sent    *sentMembers
	filters *filterCache
	answers *prometheus.CounterVec
}

// New makes a Renderer. It starts nothing.
func New(opt Options) *Renderer {
	r := &Renderer{
		opt: opt, cache: opt.Cache, kept: opt.Cache.Kept(), store: opt.Cache.Store(), clock: opt.Cache.Clock(),
		sent:    newSentMembers(1 << 17),
		filters: newFilterCache(),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stoa_clientsync_answers_total", Help: "Answers to /sync, by source (memory, store)."}, []string{"from"}),
	}
	if opt.Registry != nil {
		opt.Registry.MustRegister(r.answers)
	}
	return r
}
