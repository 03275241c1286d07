package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// sqliteEngine is one file: one writing connection, a few reading ones.
type sqliteEngine struct {
	opt     *Options
	lock    *fileLock
	files   *sqliteFiles
	mu      sync.Mutex // guards the writing connection: a group or a Write
	writer  *liteConn
	readers chan *liteConn
	all     []*liteConn
	last    Position // last assigned position; owned by the commit queue

	checkpointer *liteConn
	written      chan struct{} // capacity 1: a group was committed
	stop         chan struct{} // closed by close
	stopped      chan struct{}
}

// pageSize is larger than SQLite's default of 4096, so that an event of 2 kB is stored on
// its page in a clustered table rather than spilled to one of its own.
const pageSize = 8192

// checkpointPages is the size of the log at which the commit queue must copy it into the
// database; checkpoints in idle time keep it below that.
const checkpointPages = 16_000

// idleCheckpoint is the idle time after which the log is copied.
const idleCheckpoint = time.Second

func openSQLite(ctx context.Context, opt *Options) (e *sqliteEngine, err error) {
	if dir := filepath.Dir(opt.URL); dir != "." {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	e = &sqliteEngine{opt: opt, files: newSQLiteFiles(opt), written: make(chan struct{}, 1), stop: make(chan struct{})}
	if e.lock, err = lockFile(opt.URL + ".lock"); err != nil {
		return nil, err
	}
	if err := ownFiles(opt.URL); err != nil {
		return nil, errors.Join(err, e.lock.unlock())
	}
	n := opt.Readers
	if n == 0 {
		n = min(max(runtime.GOMAXPROCS(0), 4), 8)
	}
	e.readers = make(chan *liteConn, n)
	for i := range n + 2 {
		c, err := openLiteConn(opt, i <= 1, pageCache(opt.CacheBytes, n, i == 0))
		if err != nil {
			return nil, errors.Join(err, e.close())
		}
		c.files = e.files
		e.all = append(e.all, c)
		switch i {
		case 0:
			e.writer = c
		case 1:
			e.checkpointer = c
		default:
			e.readers <- c
		}
	}
	e.stopped = make(chan struct{})
	go e.checkpoints()
	return e, nil
}

// ownFiles restricts the files of a database to the user that the server runs as,
// whatever the umask: a new database file, whose mode SQLite gives to the other files,
// and existing files.
func ownFiles(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	for _, suffix := range []string{"", "-wal", "-shm", "-journal", ".lock"} {
		is, err := os.Stat(path + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && is.Mode().Perm() != 0o600 {
			err = os.Chmod(path+suffix, 0o600)
		}
		if err != nil {
			return fmt.Errorf("keep the database from other users: %w", err)
		}
	}
	return nil
}

// checkpoints copies the log into the database, on a connection of its own, when nothing
// was written for a while.
func (e *sqliteEngine) checkpoints() {
	defer close(e.stopped)
	idle := time.NewTimer(idleCheckpoint)
	idle.Stop()
	for {
		select {
		case <-e.written:
			idle.Reset(idleCheckpoint)
		case <-idle.C:
			err := sqlitex.Execute(e.checkpointer.c, "PRAGMA wal_checkpoint(PASSIVE)", nil)
			if err != nil {
				e.opt.Log.Warn("checkpoint", "err", err)
			}
		case <-e.stop:
			return
		}
	}
}

// liteConn is one SQLite connection with its statements.
type liteConn struct {
	c        *sqlite.Conn
	files    *sqliteFiles
	prepared []*sqlite.Stmt // by Stmt.id
	a        args
	json     []byte
	kill     chan struct{} // closed: interrupts the current statement
	begin    *sqlite.Stmt
	commit   *sqlite.Stmt
	rollback *sqlite.Stmt
}

// nowFunction returns Options.Clock, which is the database's clock as long as this
// process has the database open.
const nowFunction = "stoa_now"

// cacheBytes bounds the page caches if the options do not.
const cacheBytes = 192 << 20

// pageCache is the share of a connection in the memory for page caches: a third for the writing one, which reads the
// pages that it changes, and the rest for the readers alike.
func pageCache(total int64, readers int, writer bool) int64 {
	if total == 0 {
		total = cacheBytes
	}
	if writer {
		return total / 3
	}
	return total / 3 * 2 / int64(readers)
}

func openLiteConn(opt *Options, writer bool, cache int64) (*liteConn, error) {
	c, err := sqlite.OpenConn(opt.URL, sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		return nil, err
	}
	now := &sqlite.FunctionImpl{NArgs: 0, Scalar: func(sqlite.Context, []sqlite.Value) (sqlite.Value, error) {
		return sqlite.IntegerValue(opt.Clock().UnixMilli()), nil
	}}
	if err := c.CreateFunction(nowFunction, now); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	l := &liteConn{c: c, prepared: make([]*sqlite.Stmt, len(registry)), kill: make(chan struct{})}
	begin := "BEGIN"
	cacheSize := fmt.Sprintf("PRAGMA cache_size = -%d", max(cache>>10, 1024))
	pragmas := []string{cacheSize, "PRAGMA temp_store = MEMORY"}
	if writer {
		begin = "BEGIN IMMEDIATE"
		pragmas = []string{
			fmt.Sprintf("PRAGMA page_size = %d", pageSize),
			"PRAGMA journal_mode = WAL",
			"PRAGMA synchronous = FULL",
			fmt.Sprintf("PRAGMA wal_autocheckpoint = %d", checkpointPages),
			cacheSize,
			"PRAGMA temp_store = MEMORY",
		}
	} else {
		pragmas = append(pragmas, "PRAGMA query_only = ON")
	}
	for _, p := range pragmas {
		if err := sqlitex.ExecuteTransient(c, p, nil); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", p, err), c.Close())
		}
	}
	for _, p := range []struct {
		to   **sqlite.Stmt
		text string
	}{{&l.begin, begin}, {&l.commit, "COMMIT"}, {&l.rollback, "ROLLBACK"}} {
		if *p.to, err = c.Prepare(p.text); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	c.SetInterrupt(l.kill)
	return l, nil
}

func (l *liteConn) run(s *sqlite.Stmt) error {
	_, err := s.Step()
	return l.files.see(errors.Join(err, s.Reset()))
}

// statement returns the prepared statement with its arguments bound.
func (l *liteConn) statement(s *Stmt, w window) (*sqlite.Stmt, error) {
	p := l.prepared[s.id]
	if p == nil {
		var err error
		if p, err = l.c.Prepare(s.lite); err != nil {
			return nil, fmt.Errorf("prepare %q: %w", s.text, err)
		}
		l.prepared[s.id] = p
	}
	for i, v := range w.vals[w.from:w.to] {
		switch v.kind {
		case kindNull:
			p.BindNull(i + 1)
		case kindInt:
			p.BindInt64(i+1, v.i)
		case kindText:
			p.BindText(i+1, v.s)
		case kindBytes:
			p.BindBytes(i+1, v.bytes())
		case kindSlot:
			p.BindInt64(i+1, int64(w.slots[v.i].slot))
		case kindInts:
			l.json = appendInts(l.json[:0], w.ints[v.i])
			p.BindText(i+1, string(l.json))
		case kindTexts:
			l.json = appendTexts(l.json[:0], w.texts[v.i])
			p.BindText(i+1, string(l.json))
		}
	}
	return p, nil
}

func appendInts(dst []byte, list []int64) []byte {
	dst = append(dst, '[')
	for i, n := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(dst, n, 10)
	}
	return append(dst, ']')
}

func (l *liteConn) execWindow(s *Stmt, w window) (int64, error) {
	p, err := l.statement(s, w)
	if err != nil {
		return 0, err
	}
	_, err = p.Step()
	if err != nil {
		return 0, l.fault(s, err)
	}
	n := l.c.Changes()
	return int64(n), p.Reset()
}

func (l *liteConn) exec(s *Stmt, a *args) (int64, error) {
	return l.execWindow(s, a.all())
}

func (l *liteConn) query(s *Stmt, a *args, f func(*Row) error) (err error) {
	p, err := l.statement(s, a.all())
	if err != nil {
		return err
	}
	defer func() { // also if f panics
		if rerr := p.Reset(); err == nil && rerr != nil {
			err = l.fault(s, rerr)
		}
	}()
	row := Row{cols: &liteRow{p}}
	for {
		more, err := p.Step()
		if err != nil {
			return l.fault(s, err)
		}
		if !more {
			return nil
		}
		row.next = 0
		if err = f(&row); err == nil {
			err = row.err
		}
		if err != nil {
			return err
		}
	}
}

// fault turns an error of SQLite into one of the store.
func (l *liteConn) fault(s *Stmt, err error) error {
	switch sqlite.ErrCode(err) {
	case sqlite.ResultConstraintUnique, sqlite.ResultConstraintPrimaryKey, sqlite.ResultConstraintRowID:
		return fmt.Errorf("%w: %q: %w", ErrDuplicate, s.text, err)
	}
	return fmt.Errorf("%q: %w", s.text, l.files.see(err))
}

func (l *liteConn) scratch() *args {
	l.a.reset()
	return &l.a
}

type liteRow struct{ p *sqlite.Stmt }

func (r *liteRow) int64(col int) (int64, error) { return r.p.ColumnInt64(col), nil }

func (r *liteRow) text(col int) (string, error) { return r.p.ColumnText(col), nil }

func (r *liteRow) null(col int) bool { return r.p.ColumnIsNull(col) }

func (r *liteRow) bytes(col int) ([]byte, error) {
	if r.p.ColumnIsNull(col) {
		return nil, nil
	}
	b := make([]byte, r.p.ColumnLen(col))
	r.p.ColumnBytes(col, b)
	return b, nil
}

func (e *sqliteEngine) dialect() dialect { return dialectSQLite }

func (e *sqliteEngine) reader(ctx context.Context) (conn, Position, func(), error) {
	var l *liteConn
	select {
	case <-e.stop:
		return nil, 0, nil, ErrClosed
	default:
	}
	select {
	case l = <-e.readers:
	case <-e.stop:
		return nil, 0, nil, ErrClosed
	case <-ctx.Done():
		return nil, 0, nil, context.Cause(ctx)
	}
	stop := l.watch(ctx)
	release := func() {
		stop()
		if err := l.run(l.rollback); err != nil {
			e.opt.Log.Warn("end of snapshot", "err", err)
		}
		e.readers <- l
	}
	if err := l.run(l.begin); err != nil {
		stop()
		e.readers <- l
		return nil, 0, nil, err
	}
	head, err := QueryOne(&Read{ctx: ctx, conn: l}, selectHead, Num[Position])
	if err != nil {
		release()
		return nil, 0, nil, err
	}
	return l, head, release, nil
}

// watch interrupts the connection when ctx ends, unless stop is called before.
func (l *liteConn) watch(ctx context.Context) (stop func()) {
	kill := l.kill
	off := context.AfterFunc(ctx, func() { close(kill) })
	return func() {
		if !off() {
			<-kill
			l.kill = make(chan struct{})
			l.c.SetInterrupt(l.kill)
		}
	}
}

func (e *sqliteEngine) write(ctx context.Context, lazy bool, f func(conn) error) (err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.writer == nil {
		return ErrClosed
	}
	l := e.writer
	if err := e.files.check(); err != nil {
		return err
	}
	if lazy {
		if err := l.synchronous("NORMAL"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, l.synchronous("FULL")) }()
	}
	if err := l.run(l.begin); err != nil {
		return err
	}
	committed := false
	defer func() { // also if f panics
		if !committed {
			err = errors.Join(err, l.run(l.rollback))
		}
	}()
	if err := f(l); err != nil {
		return err
	}
	if err := l.run(l.commit); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	committed = true
	return nil
}

// synchronous sets whether a commit waits until the log is on the disk (FULL).
func (l *liteConn) synchronous(level string) error {
	return sqlitex.ExecuteTransient(l.c, "PRAGMA synchronous = "+level, nil)
}

type liteMigrator struct{ *liteConn }

func (m liteMigrator) script(sql string) error {
	return m.files.see(sqlitex.ExecuteScript(m.c, sql, nil))
}

func (e *sqliteEngine) migrate(ctx context.Context, f func(migrator) error) error {
	return e.write(ctx, false, func(conn) error { return f(liteMigrator{e.writer}) })
}

// begin takes the writing connection; finish and abort release it.
func (e *sqliteEngine) begin(users, rooms []*owner) error {
	e.mu.Lock()
	l := e.writer
	if err := e.files.check(); err != nil {
		e.mu.Unlock()
		return err
	}
	if err := l.run(l.begin); err != nil {
		e.mu.Unlock()
		return err
	}
	err := e.load(users, rooms)
	if err != nil {
		e.abort()
	}
	return err
}

func (e *sqliteEngine) load(users, rooms []*owner) error {
	r := &Read{ctx: context.Background(), conn: e.writer}
	for _, o := range users {
		err := QueryEach(r, selectUserOwner, func(row *Row) error {
			row.Scan(&o.head, &o.slot, &o.ended)
			o.exists = true
			return nil
		}, o.num)
		if err != nil {
			return err
		}
	}
	for _, o := range rooms {
		err := QueryEach(r, selectRoomOwner, func(row *Row) error {
			row.Scan(&o.head, &o.slot, &o.receipt)
			o.exists = true
			return nil
		}, o.num)
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *sqliteEngine) abort() {
	if err := e.writer.run(e.writer.rollback); err != nil {
		e.opt.Log.Warn("roll back", "err", err)
	}
	e.mu.Unlock()
}

func (e *sqliteEngine) finish(g *group) error {
	if err := e.runGroup(g); err != nil {
		e.abort()
		return err
	}
	if err := e.opt.Faults.Hit(FaultOutcomeUnknown); err != nil {
		e.abort()
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	if err := e.writer.run(e.writer.commit); err != nil {
		e.abort()
		if sqlite.ErrCode(err).ToPrimary() == sqlite.ResultIOErr {
			// it may still be in the log, and reappear after a crash
			return fmt.Errorf("%w: commit: %w", ErrOutcomeUnknown, err)
		}
		return fmt.Errorf("commit: %w", err)
	}
	if len(g.stream) > 0 {
		e.last = g.last
		e.files.foundRoom()
	}
	e.mu.Unlock()
	select {
	case e.written <- struct{}{}:
	default:
	}
	return nil
}

func (e *sqliteEngine) runGroup(g *group) error {
	l := e.writer
	for i, p := range g.winners {
		c := p.change
		for _, o := range c.ops {
			n, err := l.execWindow(o.stmt, window{&c.args, o.from, o.to})
			if o.conflict != nil && (errors.Is(err, ErrDuplicate) || err == nil && n != 1) {
				err = o.conflict
			}
			if err != nil {
				return &opError{i, err}
			}
		}
	}
	tx := &Tx{Read{ctx: context.Background(), conn: l}}
	err := g.writeOwners(func(s *Stmt, list ...any) error { _, err := tx.Exec(s, list...); return err })
	if err != nil {
		return err
	}
	g.prev = e.last
	pos := max(e.last+1, Position(e.opt.Clock().UnixMicro()))
	for i := range g.stream {
		r := &g.stream[i]
		r.Pos = pos
		pos++
		if _, err := tx.Exec(insertStream, r.Pos, r.OwnerKind, r.Owner, r.Kind, r.First, r.Last); err != nil {
			return err
		}
		g.last = r.Pos
	}
	return nil
}

func (e *sqliteEngine) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lock == nil {
		return nil // already closed
	}
	close(e.stop)
	if e.stopped != nil {
		<-e.stopped
	}
	var errs []error
	for range max(0, len(e.all)-2) {
		<-e.readers // released by the remaining readers
	}
	for _, c := range e.all {
		errs = append(errs, c.c.Close())
	}
	e.all, e.writer = nil, nil
	errs = append(errs, e.lock.unlock())
	e.lock = nil
	return errors.Join(errs...)
}
