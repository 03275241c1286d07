package clientsync

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"stoa/internal/store"
)

// RenderOptions are what a Renderer needs. Cache is the only one that must be set.
type RenderOptions struct {
	// Cache is the stream in memory, which Run makes follow it.
	Cache *Hub
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
	opt     RenderOptions
	cache   *Hub
	store   *store.Store
	clock   func() time.Time
	sent    *sentMembers
	filters *filterCache
	answers *prometheus.CounterVec
}

// NewRenderer makes a Renderer. It starts nothing.
func NewRenderer(opt RenderOptions) *Renderer {
	r := &Renderer{
		opt: opt, cache: opt.Cache, store: opt.Cache.Store(), clock: opt.Cache.Clock(),
		sent:    newSentMembers(1 << 17),
		filters: newFilterCache(),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stoa_clientsync_answers_total", Help: "Answers, by where they came from."}, []string{"from"}),
	}
	if opt.Registry != nil {
		opt.Registry.MustRegister(r.answers)
	}
	return r
}
