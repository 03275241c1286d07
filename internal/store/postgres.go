package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
)

// scanRowWithOrigin reads a row, and whether this instance wrote it.
func (e *postgresEngine) scanRowWithOrigin(row *Row) StreamRow {
	r := ScanStreamRow(row)
	r.Own = e.own.own(lowXID(row.Text()))
	return r
}

// Advisory locks, in a space of their own (the first key of two).
const (
	lockSpace   = 0x570a
	lockStream  = 1 // held from the assignment of positions to the commit
	lockMigrate = 2
	// 3 is used: instances of earlier releases wait for each other with it.
)

// groupTimeout bounds a group whose database does not answer.
const groupTimeout = 30 * time.Second

// groupIdle is the database's timeout for a group whose instance is frozen.
const groupIdle = "3s"

// postgresEngine is a pool of connections, and one for the commit queue.
type postgresEngine struct {
	opt    *Options
	config *pgx.ConnConfig
	pool   *pgxpool.Pool

	// The commit queue's connection and its open transaction.
	c      *pgConn
	ctx    context.Context
	cancel context.CancelFunc
	xid    string
	own    ownXIDs

	outage outage

	barrierConn  reservedConn // for barriers
	followerConn reservedConn // for the goroutine that follows the stream
}

func openPostgres(ctx context.Context, opt *Options) (engine, error) {
	config, err := pgxpool.ParseConfig(opt.URL)
	if err != nil {
		return nil, err
	}
	switch {
	case opt.Readers > 0:
		config.MaxConns = int32(opt.Readers)
	case !hasPoolSize(opt.URL):
		config.MaxConns = int32(min(max(4*runtime.GOMAXPROCS(0), 8), 32)) // queries mostly wait
	}
	params := config.ConnConfig.RuntimeParams
	for name, value := range map[string]string{
		"application_name": "stoa",
		"jit":              "off",
		"timezone":         "UTC",
		// Frequent statements use an index (TestPlans checks that with SQLite, which has
		// the same ones), whatever the statistics, which may date from an empty table. So
		// one plan serves all values, and is made only once.
		"enable_seqscan":  "off",
		"plan_cache_mode": "force_generic_plan",
		// a transaction that its instance has lost must not hold its locks
		"idle_in_transaction_session_timeout": "10s",
		"lock_timeout":                        "20s",
	} {
		if _, set := params[name]; !set {
			params[name] = value
		}
	}
	config.ConnConfig.DialFunc = newPgDialer().DialContext
	config.ConnConfig.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: 2 * time.Second}
	}
	e := &postgresEngine{opt: opt, config: config.ConnConfig.Copy()}
	e.outage.log = opt.Log
	e.barrierConn.engine, e.followerConn.engine = e, e
	if e.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, err
	}
	if err := e.checkSafe(ctx); err != nil {
		e.pool.Close()
		return nil, err
	}
	return e, nil
}

// hasPoolSize reports whether an address sets the number of connections.
func hasPoolSize(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Query().Has("pool_max_conns")
}

// checkSafe returns an error for a server that may lose acknowledged changes (design law
// 1).
func (e *postgresEngine) checkSafe(ctx context.Context) error {
	for _, name := range []string{"fsync", "synchronous_commit"} {
		var value string
		if err := e.pool.QueryRow(ctx, "SHOW "+name).Scan(&value); err != nil {
			return err
		}
		if value == "off" && !e.opt.UnsafeDatabase {
			return fmt.Errorf("%w: %s is off", ErrUnsafe, name)
		}
	}
	return nil
}

func (e *postgresEngine) dialect() dialect { return dialectPostgres }

func (e *postgresEngine) close() error {
	if e.c != nil {
		e.drop()
	}
	e.barrierConn.close()
	e.followerConn.close()
	e.pool.Close()
	return nil
}

var (
	beginRead = Prepare(`BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`)
	beginTx   = Prepare(`BEGIN`)
	commitTx  = Prepare(`COMMIT`)
	rollback  = Prepare(`ROLLBACK`)
)

// acquire takes a connection from the pool. give returns it; broken ones are closed.
func (e *postgresEngine) acquire(ctx context.Context) (c *pgConn, give func(), err error) {
	p, err := e.pool.Acquire(ctx)
	if err != nil {
		return nil, nil, e.outage.see(unreachable(err))
	}
	data := p.Conn().PgConn().CustomData()
	c, ok := data["stoa"].(*pgConn)
	if !ok {
		c = newPgConn(p.Conn().PgConn())
		data["stoa"] = c
	}
	c.ctx = ctx
	return c, p.Release, nil
}

func (e *postgresEngine) reader(ctx context.Context) (conn, Position, func(), error) {
	c, give, err := e.acquire(ctx)
	if err != nil {
		return nil, 0, nil, err
	}
	release := func() {
		if ctx.Err() == nil && c.pc.TxStatus() != 'I' {
			if _, err := c.exec(rollback, c.scratch()); err != nil {
				e.opt.Log.Debug("end of snapshot", "err", err)
			}
		}
		give() // the pool closes a connection with an open transaction
	}
	head, err := c.beginSnapshot()
	if e.outage.see(err) != nil {
		release()
		return nil, 0, nil, err
	}
	return c, head, release, nil
}

// writeTries bounds the attempts of a Write that loses deadlocks.
const writeTries = 3

// write ignores lazy: the database may crash and lose rows while this instance still
// remembers them.
func (e *postgresEngine) write(ctx context.Context, _ bool, f func(conn) error) error {
	for try := 1; ; try++ {
		err := e.outage.see(e.writeOnce(ctx, f))
		if try == writeTries || !isRetryable(err) {
			return err
		}
	}
}

func isRetryable(err error) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && (pe.Code == "40P01" || pe.Code == "40001" || pe.Code == "55P03")
}

func (e *postgresEngine) writeOnce(ctx context.Context, f func(conn) error) error {
	c, give, err := e.acquire(ctx)
	if err != nil {
		return err
	}
	defer give()
	if _, err := c.exec(beginTx, c.scratch()); err != nil {
		return err
	}
	if err := f(c); err != nil {
		if c.pc.TxStatus() != 'I' && ctx.Err() == nil {
			_, rerr := c.exec(rollback, c.scratch())
			err = errors.Join(err, rerr)
		}
		return err
	}
	_, err = c.exec(commitTx, c.scratch())
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

type pgMigrator struct{ *pgConn }

func (m pgMigrator) script(sql string) error {
	return m.pc.Exec(m.ctx, sql).Close()
}

// migrateTries bounds the attempts of a migration that meets locked tables.
const migrateTries = 30

func (e *postgresEngine) migrate(ctx context.Context, f func(migrator) error) error {
	for try := 1; ; try++ {
		err := e.migrateOnce(ctx, f)
		if try == migrateTries || !isRetryable(err) {
			return err
		}
		e.opt.Log.Info("a migration waits for busy tables", "attempt", try, "err", err)
	}
}

func (e *postgresEngine) migrateOnce(ctx context.Context, f func(migrator) error) error {
	return e.writeOnce(ctx, func(c conn) error {
		m := pgMigrator{c.(*pgConn)}
		// Another instance may take long to migrate, so the wait for the advisory lock is
		// unbounded. But a statement that waits for the lock of a table blocks every
		// later query of it, so that wait is short, and is repeated.
		if err := m.script(fmt.Sprintf("SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock(%d, %d); SET LOCAL lock_timeout = '2s'",
			lockSpace, lockMigrate)); err != nil {
			return err
		}
		return f(m)
	})
}

// connect opens the commit queue's connection unless it is open.
func (e *postgresEngine) connect() error {
	if e.c != nil && !e.c.pc.IsClosed() {
		return nil
	}
	config := e.config.Config.Copy()
	// An instance that freezes during a group holds locks of rows for which the groups of
	// other instances wait. The database ends its session, and the instance notices when
	// it resumes.
	config.RuntimeParams["idle_in_transaction_session_timeout"] = groupIdle
	c, err := pgconn.ConnectConfig(e.ctx, config)
	if err != nil {
		return unreachable(err)
	}
	e.c = newPgConn(c)
	return nil
}

// drop closes the commit queue's connection; the server rolls back the open transaction.
func (e *postgresEngine) drop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := e.c.pc.Close(ctx); err != nil {
		e.opt.Log.Debug("close connection", "err", err)
	}
	e.c = nil
}

var (
	selectXID = Prepare(`SELECT pg_current_xact_id()::text`)
	lockUsers = Prepare(`SELECT num, head, slot, deactivated FROM users WHERE num = ANY($1::bigint[]) ORDER BY num FOR UPDATE`)
	lockRooms = Prepare(`SELECT num, head, slot, receipt_slot FROM rooms WHERE num = ANY($1::bigint[]) ORDER BY num FOR UPDATE`)
)

// begin is the first round trip of a group. It reads and locks the owners' rows in a
// fixed order: users before rooms, each by number.
func (e *postgresEngine) begin(users, rooms []*owner) error {
	if err := e.ready(); err != nil {
		return e.outage.see(err)
	}
	err := e.load(users, rooms)
	if e.outage.see(err) != nil {
		e.abort()
	}
	return err
}

// ready prepares the commit queue's connection for a group.
func (e *postgresEngine) ready() error {
	e.ctx, e.cancel = context.WithTimeout(context.Background(), groupTimeout)
	if err := e.connect(); err != nil {
		e.cancel()
		return err
	}
	e.c.ctx = e.ctx
	return nil
}

func (e *postgresEngine) load(users, rooms []*owner) error {
	c := e.c
	if err := c.prepare(beginTx, rollback, selectXID, lockUsers, lockRooms); err != nil {
		return err
	}
	p := c.pipe()
	p.call(beginTx, nil)
	p.call(selectXID, func(row *Row) error { e.xid = row.Text(); return nil })
	if len(users) > 0 {
		p.call(lockUsers, loadOwner(users, func(o *owner, row *Row) { row.Scan(&o.head, &o.slot, &o.ended) }), ownerNums(users))
	}
	if len(rooms) > 0 {
		p.call(lockRooms, loadOwner(rooms, func(o *owner, row *Row) { row.Scan(&o.head, &o.slot, &o.receipt) }), ownerNums(rooms))
	}
	if _, err := p.run(); err != nil {
		return err
	}
	e.own.add(lowXID(e.xid))
	return nil
}

func ownerNums(list []*owner) []int64 {
	nums := make([]int64, len(list))
	for i, o := range list {
		nums[i] = o.num
	}
	return nums
}

func loadOwner(list []*owner, scan func(*owner, *Row)) func(*Row) error {
	return func(row *Row) error {
		n := row.Int()
		i, found := slices.BinarySearchFunc(list, n, func(o *owner, n int64) int { return cmp.Compare(o.num, n) })
		if !found {
			return fmt.Errorf("owner %d was not asked for", n)
		}
		o := list[i]
		o.exists = true
		scan(o, row)
		return nil
	}
}

// abort rolls back the open transaction. If that fails it drops the connection.
func (e *postgresEngine) abort() {
	defer e.cancel()
	if e.c == nil || e.c.pc.IsClosed() {
		e.c = nil
		return
	}
	if e.c.pc.TxStatus() != 'I' {
		if _, err := e.c.exec(rollback, e.c.scratch()); err != nil {
			e.drop()
		}
	}
}

var (
	lockPositions = Prepare(`SELECT pg_advisory_xact_lock($1::int, $2::int)`)
	insertGroup   = Prepare(`WITH base AS MATERIALIZED (SELECT GREATEST((SELECT COALESCE(MAX(pos), 0) + 1 FROM stream),
			FLOOR(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint) AS pos)
		INSERT INTO stream (pos, owner_kind, owner, kind, first_slot, last_slot)
		SELECT base.pos + u.n - 1, u.owner_kind, u.owner, u.kind, u.first_slot, u.last_slot
		FROM base, unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
			WITH ORDINALITY AS u(owner_kind, owner, kind, first_slot, last_slot, n)
		RETURNING pos`)
	notifyHead = Prepare(`SELECT pg_notify($1, MAX(pos)::text || ' ' || $2) FROM stream`)
)

// finish is the second round trip: all writes of the group, the positions under the lock
// that is taken last, and the commit.
func (e *postgresEngine) finish(g *group) error {
	sources, failed, err := e.send(g)
	if err == nil {
		g.assignPositions()
		e.cancel()
		return nil
	}
	if failed < 0 || e.c.pc.IsClosed() || e.c.pc.TxStatus() == 'I' {
		// the connection is lost (the database may have ended it, see groupIdle), and
		// perhaps the commit with it
		e.drop()
		e.cancel()
		if err = e.resolve(g, err); err != nil {
			e.own.forget(lowXID(e.xid))
		}
		return err
	}
	e.abort()
	if failed < len(sources) && !isRetryable(err) {
		b := sources[failed]
		if b.conflict != nil && (errors.Is(err, errNotOne) || errors.Is(err, ErrDuplicate)) {
			err = b.conflict
		}
		return &opError{b.change, err}
	}
	return err
}

// opSource is the change of a statement in the pipeline.
type opSource struct {
	change   int
	conflict error
}

func (e *postgresEngine) send(g *group) (sources []opSource, failed int, err error) {
	c := e.c
	for _, p := range g.winners {
		for _, o := range p.change.ops {
			if _, err := c.ensure(o.stmt, o.conflict != nil); err != nil {
				return nil, 0, err
			}
		}
	}
	if err := c.prepare(updateUserOwner, updateRoomOwner, updateRoom, lockPositions, selectHead, insertGroup, notifyHead, commitTx); err != nil {
		return nil, 0, err
	}
	p := c.pipe()
	for i, w := range g.winners {
		for _, o := range w.change.ops {
			p.send(o.stmt, o.conflict != nil, window{&w.change.args, o.from, o.to}, nil)
			sources = append(sources, opSource{i, o.conflict})
		}
	}
	// run returns errors of sending
	_ = g.writeOwners(func(s *Stmt, list ...any) error { p.call(s, nil, list...); return nil })
	if len(g.stream) > 0 {
		e.sendStream(p, g)
	}
	p.call(commitTx, nil)
	failed, err = p.run()
	if err == nil {
		if ferr := e.opt.Faults.Hit(FaultOutcomeUnknown); ferr != nil {
			err, failed = fmt.Errorf("%w: %w", ErrOutcomeUnknown, ferr), -1
		}
	}
	return sources, failed, err
}

// sendStream sends the last statements before the commit.
func (e *postgresEngine) sendStream(p *pipe, g *group) {
	var cols [5][]int64
	for _, r := range g.stream {
		for i, v := range [5]int64{int64(r.OwnerKind), r.Owner, int64(r.Kind), int64(r.First), int64(r.Last)} {
			cols[i] = append(cols[i], v)
		}
	}
	p.call(lockPositions, nil, lockSpace, lockStream)
	p.call(selectHead, func(row *Row) error { g.prev = Num[Position](row); return nil })
	g.last = 0
	p.call(insertGroup, func(row *Row) error { g.last = max(g.last, Num[Position](row)); return nil },
		cols[0], cols[1], cols[2], cols[3], cols[4])
	if e.opt.NotifyChannel != "" {
		p.call(notifyHead, nil, e.opt.NotifyChannel, e.opt.NotifyName)
	}
}

var (
	selectXIDStatus = Prepare(`SELECT COALESCE(pg_xact_status($1::text::xid8), '')`)
	selectLastOfXID = Prepare(`SELECT pos FROM stream WHERE xmin::text = $1 ORDER BY pos DESC LIMIT 1`)
	selectPosBefore = Prepare(`SELECT COALESCE(MAX(pos), 0) FROM stream WHERE pos < $1`)
)

const (
	resolveTimeout = 10 * time.Second       // for the outcome of a group
	resolveWait    = 100 * time.Millisecond // between two attempts
)

// resolve finds out over a new connection whether the commit of a group succeeded before
// the old one broke. If so, it finds the rows by their transaction.
func (e *postgresEngine) resolve(g *group, cause error) error {
	unknown := fmt.Errorf("%w: %w", ErrOutcomeUnknown, cause)
	if errors.Is(cause, ErrOutcomeUnknown) || e.xid == "" {
		return unknown
	}
	e.ctx, e.cancel = context.WithTimeout(context.Background(), resolveTimeout)
	defer e.cancel()
	for {
		status, err := e.xidStatus()
		switch {
		case err == nil && status == "committed":
			if err := e.found(g); err != nil {
				return errors.Join(unknown, err)
			}
			return nil
		case err == nil && status == "aborted":
			return &unavailableError{cause} // as if it had not begun: it may be retried
		case err == nil && status != "in progress", err != nil && isNetworkError(err):
			return unknown // other groups must not wait for it any longer
		}
		select {
		case <-e.ctx.Done():
			return unknown
		case <-time.After(resolveWait):
		}
	}
}

func (e *postgresEngine) xidStatus() (string, error) {
	if err := e.connect(); err != nil {
		return "", err
	}
	e.c.ctx = e.ctx
	return QueryOne(&Read{ctx: e.ctx, conn: e.c}, selectXIDStatus, (*Row).Text, e.xid)
}

// found reads the positions of the group that transaction e.xid committed.
func (e *postgresEngine) found(g *group) error {
	if len(g.stream) == 0 {
		return nil
	}
	xid, err := strconv.ParseUint(e.xid, 10, 64)
	if err != nil {
		return err
	}
	r := &Read{ctx: e.ctx, conn: e.c}
	// rows have the lower 32 bits
	g.last, err = QueryOne(r, selectLastOfXID, Num[Position], strconv.FormatUint(xid&0xffffffff, 10))
	if err != nil {
		return err
	}
	g.assignPositions()
	g.prev, err = QueryOne(r, selectPosBefore, Num[Position], g.stream[0].Pos)
	return err
}
