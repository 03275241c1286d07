// Package streamcache holds the newest part of the stream in memory, and tells waiting clients what is new.
//
// It owns the ring, the syncing users with their rooms, the waiting requests and their fan-out (a timer wheel, batches), the
// following of other instances (polls, the read barrier, followers, replicated groups), and values that answers have read and left
// for the next. It writes nothing to the store, decides nothing about rooms, and does not know the form of an answer: package
// clientsync renders.
//
// The invariant: a request that checks for news and finds none waits from the same moment on. The check and the start of the wait
// are one critical section, so nothing in between is missed.
//
// Other activity never holds a client's own request longer than one commit gap (50 ms). The exception is back-pressure: undelivered
// messages of a room slow the senders to that room (backlog.go).
//
// A waiting client costs a Waiter in the timer wheel, and its user's list of rooms.
package streamcache

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"stoa/internal/store"
	"stoa/matrix/id"
)

// Options configure a Cache. Only Store is required.
type Options struct {
	Store *store.Store
	// Clock is the clock; nil = time.Now.
	Clock func() time.Time
	Log   *slog.Logger
	// Registerer registers the metrics; nil = none.
	Registerer prometheus.Registerer

	// RingRecords and RingBytes bound the ring; 0 = 65,536 and 64 MiB. A token that is older than what the ring holds is
	// answered from the store.
	RingRecords, RingBytes int
	// EventBytes bounds the events that are kept in their client form, and again those at the ends of timelines; 0 = 16 MiB.
	EventBytes int
	// Users and UserBytes bound the users whose rooms are kept in memory; 0 = 50,000, and 512 MiB. Users who wait are kept in any case.
	Users, UserBytes int
	// MemberBytes bounds the membership events that are kept for clients which load members lazily; 0 = 16 MiB.
	MemberBytes int

	// TypingHashes has the typing users of rooms as hashes; nil = no typing.
	TypingHashes TypingHashes

	// Replicate appends groups of this instance to the data for other instances, which
	// pass it to ReceiveGroups; nil if there are none. It does nothing if no instance
	// needs the data.
	Replicate func(append func([]byte) []byte)

	// Blocking calls wait, which waits for something other than the CPU, on behalf of work done in ctx; nil calls it directly.
	Blocking func(ctx context.Context, wait func())

	// Followers receive the rows of other instances, in this order, before requests can
	// see them applied; see Follower.
	Followers []Follower
}

// New returns a Cache. Run makes it follow the stream.
func New(opt Options) *Cache {
	setDefault(&opt.RingRecords, 1<<16)
	setDefault(&opt.RingBytes, 64<<20)
	setDefault(&opt.EventBytes, 16<<20)
	setDefault(&opt.Users, 50_000)
	setDefault(&opt.UserBytes, 512<<20)
	setDefault(&opt.MemberBytes, 16<<20)
	if opt.Clock == nil {
		opt.Clock = time.Now
	}
	if opt.Blocking == nil {
		opt.Blocking = func(_ context.Context, wait func()) { wait() }
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	sc := &Cache{opt: opt, store: opt.Store, clock: opt.Clock, log: opt.Log, rules: newRules()}
	sc.memory = memory{
		waitlist: waitlist{
			lock: &sc.mu, metrics: newMetrics(opt.Registerer), timers: newTimerWheel(opt.Clock()),
			limits:   fanOutLimits{batch: fanOutBatch, promptRoom: promptRoom, mergeRoom: mergeRoom},
			backlogs: map[id.RoomID]*backlog{},
		},
		events: newEventCache(opt.EventBytes), typing: opt.TypingHashes, began: opt.Store.Head(),
		ring:    newRing(opt.RingRecords, opt.RingBytes, opt.Store.Head()),
		present: newRing(presentRecords, presentBytes, opt.Store.Head()),
		rooms:   map[store.RoomNum]*roomState{}, users: map[store.UserNum]*user{}, maxUsers: opt.Users, maxUserBytes: opt.UserBytes,
		members: newMemberCache(opt.MemberBytes), recent: newRecentTimelines(opt.EventBytes),
	}
	sc.following = following{
		cache: sc, pollNow: make(chan struct{}, 1),
		received: groupQueue{after: map[store.Position]*group{}, arrived: make(chan struct{}, 1)},
	}
	sc.notified.Store(int64(sc.ring.head))
	return sc
}

func setDefault(n *int, value int) {
	if *n == 0 {
		*n = value
	}
}

type metrics struct {
	waiting      prometheus.Gauge
	wakeups      prometheus.Counter
	followed     *prometheus.CounterVec
	ringBytes    prometheus.Gauge
	users        prometheus.Gauge
	delayedSends prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "stoa_clientsync_waiting_requests", Help: "Requests waiting for news."}),
		wakeups: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stoa_clientsync_wakeups_total", Help: "Waits that ended, with news or by timeout."}),
		followed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stoa_clientsync_followed_total",
			Help: "How changes of other instances arrived: groups that they sent, or reads of the stream that found something.",
		}, []string{"from"}),
		ringBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "stoa_clientsync_ring_bytes", Help: "Memory of the ring, the newest part of the stream."}),
		users: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "stoa_clientsync_users", Help: "Users whose rooms are in memory."}),
		delayedSends: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stoa_clientsync_held_sends_total", Help: "Sends that waited because too many messages in their room were not yet delivered."}),
	}
	if r != nil {
		r.MustRegister(m.waiting, m.wakeups, m.followed, m.ringBytes, m.users, m.delayedSends)
	}
	return m
}
