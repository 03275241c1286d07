package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"stoa/internal/store"
)

// Times are the intervals of leases and pings.
type Times struct {
	// Term is how long a lease lasts. An owner acts for two thirds of it, from the time
	// before its last renewal, by its own monotonic clock: clocks that differ between
	// machines do no harm.
	Term time.Duration
	// Renew is the interval of renewals. One may take up to a third of Term.
	Renew time.Duration
	// Ping is the interval of pings to a peer; an answer may take up to Silence.
	Ping, Silence time.Duration
	// Again is the interval of pings to a peer that does not answer. Connecting may
	// take up to Dial.
	Again, Dial time.Duration
}

// DefaultTimes are what servers run with: a peer that stops answering is noticed
// within 3 s, and an instance that is gone for good within 6 s.
var DefaultTimes = Times{
	Term: 6 * time.Second, Renew: 1500 * time.Millisecond,
	Ping: time.Second, Silence: 2 * time.Second, Again: 250 * time.Millisecond, Dial: time.Second,
}

// Options configure a Cluster.
type Options struct {
	Store *store.Store
	// Name is this instance's name, unique in the cluster.
	Name string
	// Listen is where other instances reach this one: host:port. Empty: a free port
	// on the address that reaches the database.
	Listen string
	// Version is the program's version, for the table of instances.
	Version string
	// Log and Clock may be nil: no log, the system's clock.
	Log   *slog.Logger
	Clock func() time.Time
	// Times are DefaultTimes if zero.
	Times Times
	// Dial connects to another instance; nil = by TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Report is what an instance publishes about itself with each renewal.
type Report struct {
	Rooms    int            // in memory
	Position store.Position // up to which it has read the stream
	Bus      bool           // wake-ups of other instances arrive
}

// Cluster is this instance's membership. With SQLite the instance is alone: it is the
// home of every room, and methods do nothing.
type Cluster struct {
	opt      Options
	log      *slog.Logger
	leases   *store.Leases // nil: alone
	identity *identity
	metrics  metrics

	view     atomic.Pointer[view]
	own      atomic.Pointer[store.Instance] // this instance's row of the table; nil before Join
	asked    atomic.Pointer[time.Time]      // before the last renewal that succeeded
	draining atomic.Bool

	// beating is locked while the lease is renewed. It guards left, warned and the
	// replacement of view.
	beating sync.Mutex
	report  func() Report // of Join
	left    bool
	warned  bool // about another instance of the same name

	listener     net.Listener
	callees      callees
	runs         sync.WaitGroup     // goroutines that serve and that ping peers
	ctx          context.Context    // of the goroutines that ping peers
	halt         context.CancelFunc // ends them
	failed       chan error         // capacity 1: the error that ends the server
	soon         chan struct{}      // capacity 1: Run renews at once
	reread       reread
	onReplicated atomic.Pointer[func([]byte) (more bool, err error)]
}

// New makes a Cluster. It does nothing before Join.
func New(opt Options) (*Cluster, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Clock == nil {
		opt.Clock = time.Now
	}
	if opt.Times == (Times{}) {
		opt.Times = DefaultTimes
	}
	if opt.Dial == nil {
		opt.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", address)
		}
	}
	c := &Cluster{opt: opt, log: opt.Log, failed: make(chan error, 1), soon: make(chan struct{}, 1)}
	leases, err := opt.Store.Leases()
	if errors.Is(err, errors.ErrUnsupported) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	c.leases = leases
	c.identity, err = newIdentity(opt.Clock())
	return c, err
}

// Join opens the listener on which other instances use handler, and announces this
// instance. It is called before clients are served. Run then renews the lease, and
// Leave ends it. report is called with each renewal.
func (c *Cluster) Join(ctx context.Context, handler http.Handler, report func() Report) error {
	if c.leases == nil {
		return nil
	}
	address, err := c.listen()
	if err != nil {
		return fmt.Errorf("cluster_listen: %w", err)
	}
	schema, err := store.NewestMigration()
	if err != nil {
		return err
	}
	c.report = report
	c.own.Store(&store.Instance{
		Name: c.opt.Name, Address: address, Fingerprint: c.identity.fingerprint, Version: c.opt.Version, Schema: schema,
	})
	c.ctx, c.halt = context.WithCancel(context.Background()) // Leave ends it, after requests that are drained
	c.serve(handler)
	ctx, cancel := context.WithTimeout(ctx, c.opt.Times.Term)
	defer cancel()
	if err := c.beat(ctx); err != nil {
		return errors.Join(fmt.Errorf("join the cluster: %w", err), c.Leave(ctx))
	}
	return nil
}

// Run renews the lease until ctx ends or the Cluster is left.
func (c *Cluster) Run(ctx context.Context) error {
	if c.leases == nil {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(c.opt.Times.Renew)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.ctx.Done():
			return nil
		case err := <-c.failed:
			return err
		case <-tick.C:
		case <-c.soon:
		}
		beat, cancel := context.WithTimeout(ctx, c.opt.Times.Term/3)
		err := c.beat(beat)
		cancel()
		if err != nil && ctx.Err() == nil && c.ctx.Err() == nil && !errors.Is(err, store.ErrUnreachable) { // that the store says, once
			c.log.Warn("the lease of this instance could not be renewed", "err", err)
		}
	}
}

// beat renews the lease, takes a new one if it has expired, and reads the live instances.
func (c *Cluster) beat(ctx context.Context) error {
	c.beating.Lock()
	defer c.beating.Unlock()
	if c.left {
		return nil
	}
	own := *c.own.Load()
	asked := c.opt.Clock()
	report := c.report()
	own.Draining, own.Position, own.Rooms, own.Bus = c.draining.Load(), report.Position, int64(report.Rooms), report.Bus
	if own.Lease != 0 {
		live, err := c.leases.Renew(ctx, own, c.opt.Times.Term)
		if err == nil {
			c.seen(own, asked, live)
			return nil
		}
		c.metrics.beatsFailed.Add(1)
		if !errors.Is(err, store.ErrLeaseLost) {
			return err
		}
		c.metrics.leasesLost.Add(1)
		c.log.Warn("the lease of this instance had run out; it takes another", "lease", own.Lease)
	}
	lease, err := c.leases.Take(ctx, own, c.opt.Times.Term)
	if err != nil {
		return err
	}
	own.Lease = lease
	asked = c.opt.Clock()
	live, err := c.leases.Renew(ctx, own, c.opt.Times.Term)
	if err != nil {
		return err
	}
	c.seen(own, asked, live)
	return nil
}

// seen replaces the view by the rows that a renewal has read.
func (c *Cluster) seen(own store.Instance, asked time.Time, live []store.Instance) {
	old := c.view.Load()
	now := &view{peers: map[int64]*peer{}}
	newest := map[string]store.Instance{}
	for _, i := range live {
		if i.Lease == own.Lease {
			own.StartedTS, own.ExpiresTS = i.StartedTS, i.ExpiresTS
		}
		if i.Lease > newest[i.Name].Lease {
			newest[i.Name] = i
		}
	}
	for _, i := range live {
		// A row of the same process from before it was frozen is no peer.
		if i.Lease == own.Lease || i.Fingerprint == own.Fingerprint {
			continue
		}
		var p *peer
		if old != nil {
			p = old.peers[i.Lease]
		}
		if p == nil {
			p = c.newPeer(i)
		}
		p.draining.Store(i.Draining)
		now.peers[i.Lease] = p
		if !i.Draining && newest[i.Name].Lease == i.Lease {
			now.members = append(now.members, member{name: i.Name, hash: memberHash(i.Name), peer: p})
		}
	}
	if !own.Draining && newest[own.Name].Lease == own.Lease {
		now.members = append(now.members, member{name: own.Name, hash: memberHash(own.Name)})
	}
	slices.SortFunc(now.members, func(a, b member) int { return strings.Compare(a.name, b.name) })
	c.warnOfNamesake(newest[own.Name], own)
	c.own.Store(&own)
	c.asked.Store(&asked)
	c.view.Store(now)
	if old != nil {
		for lease, p := range old.peers {
			if now.peers[lease] == nil {
				p.end()
			}
		}
	}
}

// warnOfNamesake logs once that another instance has this one's name.
func (c *Cluster) warnOfNamesake(newest, own store.Instance) {
	if newest.Lease == own.Lease || c.warned {
		return
	}
	c.warned = true
	c.log.Warn("another instance has the same name, and the rooms that would be this one's; give each its own (instance)",
		"instance", own.Name, "addr", newest.Address)
}

// Acting reports whether the lease is certain, so that this instance may act as an
// owner. An instance that can't reach the database, or that was frozen, stops acting
// before other instances take over.
func (c *Cluster) Acting() bool {
	if c.leases == nil {
		return true
	}
	asked := c.asked.Load()
	return asked != nil && c.opt.Clock().Sub(*asked) < c.opt.Times.Term*2/3
}

// Healthy returns why this instance should get no requests; nil if it should.
func (c *Cluster) Healthy() error {
	if c.Acting() {
		return nil
	}
	return errors.New("the lease of this instance is in doubt: the database was not reached of late")
}

// Lease is the number of the lease, 0 when alone. It fences the cursors of owned work.
func (c *Cluster) Lease() int64 {
	if own := c.own.Load(); own != nil {
		return own.Lease
	}
	return 0
}

// Drain moves the rooms of this instance to its peers, which notice when they next
// renew their leases. This instance still serves and forwards requests.
func (c *Cluster) Drain(ctx context.Context) error {
	c.draining.Store(true)
	if c.leases == nil || c.own.Load() == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.opt.Times.Term/3)
	defer cancel()
	return c.beat(ctx)
}

// Leave waits until the requests of other instances are answered or ctx ends, and ends
// the lease. It may be called without Join.
func (c *Cluster) Leave(ctx context.Context) error {
	if c.leases == nil || c.halt == nil {
		return nil
	}
	err := c.stopServing(ctx)
	if err != nil {
		err = fmt.Errorf("drain %s: %w", c.listener.Addr(), err)
	}
	c.beating.Lock()
	defer c.beating.Unlock()
	if c.left {
		return err
	}
	c.left = true
	c.halt()
	c.runs.Wait()
	if v := c.view.Swap(nil); v != nil {
		for _, p := range v.peers {
			p.end()
		}
	}
	if lease := c.own.Load().Lease; lease != 0 {
		err = errors.Join(err, c.leases.End(ctx, lease))
	}
	c.leases.Close()
	return err
}
