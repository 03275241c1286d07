package store

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// barrierGap is how far apart the queries of barriers begin when several
	// callers want one.
	barrierGap = time.Millisecond
	// gapTaken is how many times as long as the last query took the gap is, if that
	// is more, up to gapMost: on a busy machine there are fewer, which more share. As
	// long as fewHurried at most of those who share one are not patient it would keep
	// those waiting and spare next to nothing.
	gapTaken   = 4
	fewHurried = 2
	gapMost    = 10 * time.Millisecond
	// patientGap is the same as long as nobody waits who is not patient.
	patientGap = 5 * time.Millisecond
	// crowdedGap is that if patientCrowd callers have shared the last query.
	crowdedGap   = 15 * time.Millisecond
	patientCrowd = 10
	// barrierLoad is how long after two callers have shared a query the gap is
	// kept. Callers that come one after another need not wait for it.
	barrierLoad = 100 * time.Millisecond
	// barrierPatience ends a query that the database does not answer, and
	// roundPatience the wait of those who share one, whatever it is that it or the
	// one before it waits for.
	barrierPatience = 3 * time.Second
	roundPatience   = 5 * time.Second
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
// costs nothing. On PostgreSQL all who wait share one query, on a connection of
// its own, and under load at most one begins in a millisecond. The query takes the
// rows along that the glance does not know; nil = none does. For patient callers
// alone it begins less often. After 5 s it fails.
func (s *Store) Barrier(ctx context.Context, glance Glance, patient bool) (Position, error) {
	if !s.IsPostgres() {
		return s.Head(), nil
	}
	return s.barriers.wait(ctx, glance, patient)
}

// barriers merges the calls of Barrier.
type barriers struct {
	store *Store

	mu       sync.Mutex    // guards what follows; nothing is locked under it
	next     *barrierRound // has not begun; nil if nobody waits
	running  bool
	closed   bool
	began    time.Time     // of the last query
	took     time.Duration // by the last query
	shared   time.Time     // when callers shared one last
	crowded  bool          // patientCrowd callers shared the last
	hurried  int           // how many of those who did were not patient
	hurry    chan struct{} // capacity 1: somebody has come who is not patient
	done     sync.WaitGroup
	patience time.Duration // roundPatience
}

// barrierRound is one query and those who wait for it.
type barrierRound struct {
	callers int
	hurried int // how many of them are not patient
	glance  Glance
	done    chan struct{}
	late    *time.Timer // ends it after roundPatience
	end     func(Position, error)
	pos     Position
	err     error
}

func newBarrierRound(glance Glance, patience time.Duration) *barrierRound {
	r := &barrierRound{glance: glance, done: make(chan struct{})}
	var once sync.Once
	r.end = func(pos Position, err error) {
		once.Do(func() {
			r.pos, r.err = pos, err
			close(r.done)
		})
	}
	r.late = time.AfterFunc(patience, func() { r.end(0, fmt.Errorf("read the head of the stream: %w", context.DeadlineExceeded)) })
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

func (b *barriers) wait(ctx context.Context, glance Glance, patient bool) (Position, error) {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return 0, ErrClosed
	}
	r := b.next
	if r == nil || r.isLate() {
		r = newBarrierRound(glance, b.patience)
		b.next = r
	}
	r.callers++
	if !patient {
		r.hurried++
	}
	if !patient && r.hurried == 1 {
		select {
		case b.hurry <- struct{}{}:
		default:
		}
	}
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
	for b.await() {
		b.mu.Lock()
		r := b.next
		b.next, b.began = nil, time.Now()
		if r.callers > 1 {
			b.shared = b.began
		}
		b.crowded, b.hurried = r.callers >= patientCrowd, r.hurried
		b.mu.Unlock()
		r.end(b.ask(r.glance))
		r.late.Stop()
		b.took = time.Since(b.began) // nobody else changes the two
	}
}

// await waits until the next query should begin: those who come meanwhile share it.
// It is false if nobody waits for one.
func (b *barriers) await() bool {
	for {
		b.mu.Lock()
		if b.next == nil {
			b.running = false
			b.mu.Unlock()
			return false
		}
		now, gap := time.Now(), time.Duration(0)
		if b.next.callers > 1 || now.Sub(b.shared) < barrierLoad {
			switch {
			case b.next.hurried > 0 && max(b.next.hurried, b.hurried) <= fewHurried:
				gap = barrierGap
			case b.next.hurried > 0:
				gap = max(barrierGap, min(gapTaken*b.took, gapMost))
			case b.crowded:
				gap = crowdedGap
			default:
				gap = patientGap
			}
		}
		pause := b.began.Add(gap).Sub(now)
		b.mu.Unlock()
		if pause <= 0 {
			return true
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-b.hurry:
			t.Stop()
		}
	}
}

func (b *barriers) ask(glance Glance) (head Position, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), barrierPatience) // of all who wait, whoever goes
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
			if rows, err = query(r, selectGlance, e.scanNews, known, glanceRows+1); err != nil {
				return err
			}
			if len(rows) > 0 && len(rows) <= glanceRows && rows[0].Pos == known {
				head = rows[len(rows)-1].Pos
				return nil
			}
			rows = nil
		}
		head, err = queryOne(r, selectHead, num[Position])
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
