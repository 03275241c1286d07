// Package slidingsync answers sliding syncs: what is new in the rooms of a user that a client asks for, by windows over the user's
// rooms in the order of their last activity, or by room ID.
//
// It owns the form of requests and answers, the windows, and what each connection of a device was sent. Package streamcache finds out
// what is new and holds the waiting requests, as for /sync; what other packages provide (keys, presence, account data) comes through
// the interfaces of this file. It writes nothing but the state of connections, and never a row for news of a room that the client has
// already: progress is in pos.
//
// The invariant: a client that has processed the answers of a chain of pos has, of each room that it was sent, every event that it may
// see since then, or was told that the timeline is limited, and the newest state that it asked for.
//
// Spec: client-server-api#syncing
package slidingsync

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"stoa/internal/cache"
	"stoa/internal/history"
	"stoa/internal/store"
	"stoa/internal/store/slidingdb"
	"stoa/internal/streamcache"
	"stoa/internal/token"
	"stoa/internal/who"
)

// Options are the parts of a Renderer. All but Registry must be set.
type Options struct {
	Cache    *streamcache.Cache
	History  *history.Reader
	Registry prometheus.Registerer

	ToDevice    streamcache.ToDevice
	Typing      streamcache.Typing
	Presence    streamcache.Presence
	AccountData streamcache.AccountData
	Sections    Sections
}

// Sections are the parts of an answer that /sync has too.
type Sections interface {
	// AppendSection appends the value of a member of /sync that is not about rooms, as of a range of the stream, or nothing. read opens
	// the snapshot of the answer.
	AppendSection(ctx context.Context, dst []byte, key string, v who.Device, since, upto store.Position, read func(context.Context) (*store.Read, error)) ([]byte, error)
	// KeyChanges returns the users whose device lists have changed since a token, or no longer concern the user. No snapshot may be open.
	KeyChanges(ctx context.Context, v who.Device, from token.Stream) (changed, left []string, err error)
}

// Renderer makes the answers to sliding syncs.
type Renderer struct {
	opt         Options
	cache       *streamcache.Cache
	kept        *streamcache.Kept
	store       *store.Store
	clock       func() time.Time
	configs     configCache
	connections *cache.Cache[connectionKey, *connection]
	indexes     *cache.Cache[store.UserNum, cachedIndex]
	types       *cache.Cache[store.RoomNum, string]
	sent        *streamcache.SentMembers
	metrics     metrics
}

type metrics struct {
	answers *prometheus.CounterVec
	saved   prometheus.Counter
}

const (
	// connectionBytes bounds the connections in memory: for 10,000 with 100 rooms each.
	connectionBytes = 32 << 20
	// typeBytes bounds the types of rooms in memory: of 50,000 rooms.
	typeBytes = 8 << 20
)

// New makes a Renderer. It starts nothing.
func New(opt Options) *Renderer {
	r := &Renderer{
		opt: opt, cache: opt.Cache, kept: opt.Cache.Kept(), store: opt.Cache.Store(), clock: opt.Cache.Clock(), configs: newConfigCache(),
		connections: cache.New(cache.Options[connectionKey, *connection]{
			Name: "sliding_connections", MaxBytes: connectionBytes,
			Size: func(k connectionKey, c *connection) int { return 64 + len(k.device) + c.size() },
		}),
		indexes: cache.New(cache.Options[store.UserNum, cachedIndex]{
			Name: "sliding_rooms", MaxBytes: indexBytes, Size: func(_ store.UserNum, c cachedIndex) int { return c.bytes },
		}),
		types: cache.New(cache.Options[store.RoomNum, string]{
			Name: "room_types", MaxBytes: typeBytes, Size: func(_ store.RoomNum, s string) int { return 32 + len(s) },
		}),
		sent: streamcache.NewSentMembers(1 << 16),
		metrics: metrics{
			answers: prometheus.NewCounterVec(prometheus.CounterOpts{
				Name: "stoa_slidingsync_answers_total", Help: "Answers to sliding syncs, by source (memory, store)."}, []string{"from"}),
			saved: prometheus.NewCounter(prometheus.CounterOpts{
				Name: "stoa_slidingsync_states_written_total", Help: "Answers that changed the stored state of their connection."}),
		},
	}
	if opt.Registry != nil {
		opt.Registry.MustRegister(r.metrics.answers, r.metrics.saved, r.configs.texts, r.connections, r.indexes, r.types)
	}
	return r
}

// Expire deletes the connections that nobody uses.
func (r *Renderer) Expire(ctx context.Context) error {
	return slidingdb.Expire(ctx, r.store, MaxUnused)
}

// Request is what a client asks.
type Request struct {
	who.Device
	ConnID string
	// Pos is nil for the first request of a connection.
	Pos     *token.Sliding
	Timeout time.Duration
	// Presence is set_presence: online, unavailable or offline.
	Presence string
	// ToDeviceSince is the slot of the last message to the device that it has.
	ToDeviceSince store.Slot
	// TxnID is given back.
	TxnID  string
	Config *Config
	// Lasts reports whether the session of the request is still valid: nil, or the error to answer with.
	Lasts func(context.Context) error
}

// pendingSync is a request that is not answered yet.
type pendingSync struct {
	r   *Renderer
	req *Request
	// saved is the connection that the pos names; conn has in addition what was noted since without an answer, by changed.
	saved, conn *connection
	changed     map[store.RoomNum]sentRoom
	c           streamcache.Cursor
	checked     bool
}

// Begin begins a request. The caller waits for its answer.
func (r *Renderer) Begin(ctx context.Context, req *Request) (*streamcache.Pending, error) {
	r.opt.Presence.Seen(ctx, req.User, req.Presence)
	x := &pendingSync{r: r, req: req, saved: &connection{id: rand.Int64N(1<<53-1) + 1}}
	x.conn = x.saved
	if req.Config.Extensions.ToDevice && req.ToDeviceSince > 0 {
		if err := r.opt.ToDevice.Acknowledge(ctx, req.Device, req.ToDeviceSince); err != nil {
			return nil, fmt.Errorf("acknowledge messages to %s %s: %w", req.UserID, req.DeviceID, err)
		}
	}
	if req.Pos == nil {
		return r.cache.Pending(x, 0, true), nil
	}
	var err error
	if x.saved, err = r.connectionOf(ctx, req.Device, *req.Pos); err != nil {
		return nil, err
	}
	x.conn = x.saved
	x.c = streamcache.NewCursor(&req.Pos.Stream)
	if x.c.Since == 0 {
		return nil, errUnknownPos()
	}
	switch {
	case !req.Config.Extensions.ToDevice:
		x.c.MoreToDevice = false
	case req.ToDeviceSince != x.c.ToDevice:
		x.c.ToDevice, x.c.MoreToDevice = req.ToDeviceSince, true
	}
	return r.cache.Pending(x, req.Timeout, x.conn.digest != req.Config.digest), r.cache.AwaitToken(ctx, x.c.Since)
}

// Attempt implements streamcache.Attempt.
func (x *pendingSync) Attempt(ctx context.Context, until time.Time, conn streamcache.Conn, must bool) (*streamcache.Answer, *streamcache.Waiter, error) {
	p := streamcache.NewDelta()
	defer p.Release()
	w, err := x.r.cache.CheckOrWait(ctx, x.req.Device, &x.c, p, streamcache.WaitFor{First: !x.checked, Wait: !must, Conn: conn, Until: until})
	x.checked = true
	if w != nil || err != nil {
		return nil, w, err
	}
	if p.Own[store.KindAccount] && x.req.Lasts != nil {
		if err := x.req.Lasts(ctx); err != nil {
			return nil, nil, err
		}
	}
	a, err := x.answer(ctx, p, must)
	return a, nil, err
}
