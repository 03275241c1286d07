package store

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// barrierGap is the shortest time between two queries while callers share them: a busy instance makes at most 500
	// a second. A caller that comes alone never waits for it.
	barrierGap = 2 * time.Millisecond
	// barrierQuery is the timeout of a query. barrierWait is the timeout of the callers that share one, including the
	// time that they wait for the query before it.
	barrierQuery = 3 * time.Second
	barrierWait  = 5 * time.Second
)

// barrierRowLimit bounds the stream rows that the query of a barrier also reads.
const barrierRowLimit = 2048

// StreamRows receives the newest rows of the stream from the queries of barriers.
// All callers of a store share one.
type StreamRows interface {
	// Known is the position up to which the rows are known.
	Known() Position
	// Add gets all rows from the position that Known gave up to the head. The snapshot
	// that they were read in has ended. It is not called if there are very many rows,
	// or if that position is not in the stream.
	Add(ctx context.Context, known, head Position, rows []StreamRow) error
}

// Barrier returns a head of the stream that was read after the call: every change
// that any instance acknowledged before the call lies at or below it. On SQLite that
// is Head, and costs nothing. On PostgreSQL one query runs at a time, on a reserved
// connection, and callers that come while it runs share the next one; see barrierGap.
// The query also reads the rows that rows does not know yet; nil = none. Barrier
// fails after 5 s.
func (s *Store) Barrier(ctx context.Context, rows StreamRows) (Position, error) {
	if !s.Shared() {
		return s.Head(), nil
	}
	return s.barriers.wait(ctx, rows)
}

// barriers merges the calls of Barrier.
type barriers struct {
	store *Store

	mu      sync.Mutex    // guards the fields below; nothing is locked under it
	next    *barrierRound // has not begun; nil if there are no callers
	running bool
	closed  bool
	began   time.Time // of the last query
	busy    bool      // the last query had several callers, or callers came while it ran
	limit   time.Duration
	done    sync.WaitGroup
}

// barrierRound is one query and the callers that wait for it.
type barrierRound struct {
	callers int
	rows    StreamRows
	timer   *time.Timer // fires after barrierWait
	end     func(Position, error)
	done    chan struct{} // closed by end; pos and err are valid then
	pos     Position
	err     error
}

func newBarrierRound(rows StreamRows, limit time.Duration) *barrierRound {
	r := &barrierRound{rows: rows, done: make(chan struct{})}
	var once sync.Once
	r.end = func(pos Position, err error) {
		once.Do(func() {
			r.pos, r.err = pos, err
			close(r.done)
		})
	}
	r.timer = time.AfterFunc(limit, func() { r.end(0, fmt.Errorf("read the head of the stream: %w", context.DeadlineExceeded)) })
	return r
}

// timedOut reports whether its callers have given up.
func (r *barrierRound) timedOut() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

func (b *barriers) wait(ctx context.Context, rows StreamRows) (Position, error) {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return 0, ErrClosed
	}
	r := b.next
	if r == nil || r.timedOut() {
		r = newBarrierRound(rows, b.limit)
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

// run makes queries as long as there are callers.
func (b *barriers) run() {
	for r := b.nextRound(); r != nil; r = b.nextRound() {
		r.end(b.readHead(r.rows))
		r.timer.Stop()
		b.mu.Lock()
		b.busy = b.busy || b.next != nil
		b.mu.Unlock()
	}
}

// nextRound waits until the next query may begin, and returns the callers that share
// it; nil if there are none.
func (b *barriers) nextRound() *barrierRound {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.running = false
		return nil
	}
	if rest := barrierGap - time.Since(b.began); b.busy && rest > 0 {
		b.mu.Unlock()
		time.Sleep(rest)
		b.mu.Lock()
	}
	r := b.next // only this goroutine takes rounds, so it still exists
	b.next, b.began, b.busy = nil, time.Now(), r.callers > 1
	return r
}

func (b *barriers) readHead(to StreamRows) (head Position, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), barrierQuery) // for all callers, even if some give up
	defer cancel()
	b.store.metrics.barriers.Add(1)
	var rows []StreamRow
	known := Position(0)
	if to != nil {
		known = to.Known()
	}
	e := b.store.engine.(*postgresEngine)
	err = e.barrierConn.use(ctx, func(c *pgConn) (err error) {
		r := &Read{ctx: ctx, conn: c}
		if known > 0 {
			// The row at the known position comes first: it shows that nothing is missing.
			if rows, err = Query(r, selectRowsFrom, e.scanRowWithOrigin, known, barrierRowLimit+1); err != nil {
				return err
			}
			if len(rows) > 0 && len(rows) <= barrierRowLimit && rows[0].Pos == known {
				head = rows[len(rows)-1].Pos
				return nil
			}
			rows = nil
		}
		head, err = QueryOne(r, selectHead, Num[Position])
		return err
	})
	if err == nil && len(rows) > 1 {
		err = to.Add(ctx, known, head, rows[1:])
	}
	if err != nil {
		return 0, fmt.Errorf("read the head of the stream: %w", err)
	}
	b.store.sawHead(head)
	return head, nil
}

// close refuses new callers and waits for the query that runs.
func (b *barriers) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.done.Wait()
}
