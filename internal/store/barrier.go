package store

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// barrierGap is how far apart queries of barriers begin while callers share them: an instance that is asked by
	// many makes 500 a second at most. A caller who comes when nobody else does never waits for it.
	barrierGap = 2 * time.Millisecond
	// barrierQuery ends a query that the database does not answer, barrierWait the wait of those who share one,
	// whatever it is that it or the one before it waits for.
	barrierQuery = 3 * time.Second
	barrierWait  = 5 * time.Second
)

// glanceRows is how many rows of the stream the query of a barrier takes along.
const glanceRows = 2048

// Glance takes over the newest rows of the stream from the queries of barriers. It
// is one for all callers of a store.
type Glance interface {
	// Known is the position up to which the rows are known.
	Known() Position
	// Take gets the rows after the position that Known gave, all of them up to the
	// head, of a snapshot that has ended. It is not called if there are very many,
	// or if that position is not in the stream.
	Take(ctx context.Context, known, head Position, rows []StreamRow) error
}

// Barrier returns a head of the stream that was read after the call: whatever was
// acknowledged anywhere before it lies at or below. On SQLite that is Head, and
// costs nothing. On PostgreSQL there is one query at a time, on a connection of
// its own, and who comes while it is under way shares the next; see barrierGap. The
// query takes the rows along that the glance does not know; nil = none does. After
// 5 s it fails.
func (s *Store) Barrier(ctx context.Context, glance Glance) (Position, error) {
	if !s.Shared() {
		return s.Head(), nil
	}
	return s.barriers.wait(ctx, glance)
}

// barriers merges the calls of Barrier.
type barriers struct {
	store *Store

	mu      sync.Mutex    // guards what follows; nothing is locked under it
	next    *barrierRound // has not begun; nil if nobody waits
	running bool
	closed  bool
	began   time.Time // of the last query
	shared  bool      // several waited for it, or somebody has come while it was under way
	limit   time.Duration
	done    sync.WaitGroup
}

// barrierRound is one query and those who wait for it.
type barrierRound struct {
	callers int
	glance  Glance
	late    *time.Timer // ends it after barrierWait
	end     func(Position, error)
	done    chan struct{} // is closed by end, and guards what follows
	pos     Position
	err     error
}

func newBarrierRound(glance Glance, limit time.Duration) *barrierRound {
	r := &barrierRound{glance: glance, done: make(chan struct{})}
	var once sync.Once
	r.end = func(pos Position, err error) {
		once.Do(func() {
			r.pos, r.err = pos, err
			close(r.done)
		})
	}
	r.late = time.AfterFunc(limit, func() { r.end(0, fmt.Errorf("read the head of the stream: %w", context.DeadlineExceeded)) })
	return r
}

// isLate says that those who waited for it have given up.
func (r *barrierRound) isLate() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

func (b *barriers) wait(ctx context.Context, glance Glance) (Position, error) {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return 0, ErrClosed
	}
	r := b.next
	if r == nil || r.isLate() {
		r = newBarrierRound(glance, b.limit)
		b.next = r
	}
	r.callers++
	if !b.running {
		b.running = true
		b.done.Go(b.run)
	}
	b.mu.Unlock()
	select {
	case <-r.done:
		return r.pos, r.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// run makes queries as long as somebody waits for one.
func (b *barriers) run() {
	for r := b.take(); r != nil; r = b.take() {
		r.end(b.ask(r.glance))
		r.late.Stop()
		b.mu.Lock()
		b.shared = b.shared || b.next != nil
		b.mu.Unlock()
	}
}

// take waits until the next query may begin, and gives those who share it; nil if nobody
// waits for one.
func (b *barriers) take() *barrierRound {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.running = false
		return nil
	}
	if rest := barrierGap - time.Since(b.began); b.shared && rest > 0 {
		b.mu.Unlock()
		time.Sleep(rest)
		b.mu.Lock()
	}
	r := b.next // there still is one: nobody else takes it
	b.next, b.began, b.shared = nil, time.Now(), r.callers > 1
	return r
}

func (b *barriers) ask(glance Glance) (head Position, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), barrierQuery) // of all who wait, whoever goes
	defer cancel()
	b.store.metrics.barriers.Add(1)
	var rows []StreamRow
	known := Position(0)
	if glance != nil {
		known = glance.Known()
	}
	e := b.store.engine.(*postgresEngine)
	err = e.asking.use(ctx, func(c *pgConn) (err error) {
		r := &Read{ctx: ctx, conn: c}
		if known > 0 {
			// The row at the known position comes first: it shows that nothing is missing.
			if rows, err = Query(r, selectGlance, e.scanNews, known, glanceRows+1); err != nil {
				return err
			}
			if len(rows) > 0 && len(rows) <= glanceRows && rows[0].Pos == known {
				head = rows[len(rows)-1].Pos
				return nil
			}
			rows = nil
		}
		head, err = QueryOne(r, selectHead, Num[Position])
		return err
	})
	if err == nil && len(rows) > 1 {
		err = glance.Take(ctx, known, head, rows[1:])
	}
	if err != nil {
		return 0, fmt.Errorf("read the head of the stream: %w", err)
	}
	b.store.sawHead(head)
	return head, nil
}

// close lets nobody begin to wait any more.
func (b *barriers) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.done.Wait()
}
