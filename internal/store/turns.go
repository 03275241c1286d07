package store

import "time"

// Several instances that commit wait for one another at the lock of the stream,
// which is held until a commit is durable. A group that is cut before that wait is
// small, and every group costs the same: so an instance that finds others writing
// waits first, and cuts its group when its turn has come. The turn is a courtesy on
// which nothing relies: who does not get it in time goes on without.

// turns is what the committer knows of others that commit.
type turns struct {
	// among is higher the more of the newest groups had one of another instance
	// right before them, from 0 to amongMost.
	among int
	mine  Position  // the end of the newest group made here
	taken bool      // this session may hold the turn
	since time.Time // when it got the turn
	long  bool      // the turn of this group lasted too long
	open  bool      // a transaction was begun while waiting for the turn
}

const (
	amongMost = 32
	// amongOthers is from where on groups wait for their turn.
	amongOthers = 16
	// turnMost is how long a turn lasts at most where turns are worth it. On a machine that is busy with other things a group
	// takes ten times as long, most of it waiting for a core; others would have to wait for that, and commit 10 groups a
	// second in all.
	turnMost = 50 * time.Millisecond
)

// made notes a group that is committed.
func (t *turns) made(g *group) {
	long := t.long
	t.taken, t.long = false, false
	if len(g.stream) == 0 {
		return
	}
	switch {
	case long:
		t.among = 0
	case g.prev != t.mine:
		t.among = min(t.among+1, amongMost)
	default:
		t.among = max(t.among-1, 0)
	}
	t.mine = g.last
}

var (
	// turnPatience bounds the wait for an instance that was stopped within its turn.
	turnPatience = stmt(`SET LOCAL lock_timeout = '100ms'`)
	usualTimeout = stmt(`SET LOCAL lock_timeout = DEFAULT`)
	lockOfTurn   = stmt(`SELECT pg_advisory_lock($1::int, $2::int)`)
	// unlockAll gives the turn back: it is the only lock of the session. Those of the
	// transaction, as that of the stream, stay.
	unlockAll = stmt(`SELECT pg_advisory_unlock_all()`)
)

// await waits for the turn, if others commit too.
func (e *postgresEngine) await() bool {
	if e.turns.among < amongOthers || e.ready() != nil { // begin meets the same error, and tells it
		return false
	}
	if err := e.takeTurn(); err != nil {
		e.opt.Log.Debug("commit without a turn", "err", err)
		e.turns.among = 0 // somebody's turn is a long one
		e.abort()
		return false
	}
	e.turns.open, e.turns.since = true, time.Now()
	return true
}

func (e *postgresEngine) takeTurn() error {
	c := e.c
	if err := c.prepare(beginTx, turnPatience, usualTimeout, lockOfTurn, unlockAll, rollback); err != nil {
		return err
	}
	e.turns.taken = true // until it is given back, or the connection is gone
	p := c.pipe()
	p.call(beginTx, nil)
	p.call(turnPatience, nil)
	p.call(lockOfTurn, nil, lockSpace, lockTurn)
	p.call(usualTimeout, nil)
	_, err := p.run()
	return err
}

// leaveTurn gives the turn back, if this session has it.
func (e *postgresEngine) leaveTurn() {
	if !e.turns.taken {
		return
	}
	e.turns.taken = false
	if _, err := e.c.exec(unlockAll, e.c.scratch()); err != nil {
		e.drop()
	}
}
