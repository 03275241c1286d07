package store

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// ErrClocks says that the clocks of this machine and of the database disagree, so that
// nothing may be deleted because of its age.
var ErrClocks = errors.New("store: the clocks of this machine and of the database disagree")

const (
	// clockTolerance is the greatest allowed difference between the clocks.
	clockTolerance = time.Minute
	// clockEvery is the interval at which an instance reads the database's time. It
	// adjusts its clock if that differs by clockStep, and ignores answers that took
	// longer than clockTrip.
	clockEvery = time.Minute
	clockStep  = 250 * time.Millisecond
	clockTrip  = time.Second
)

// databaseClock estimates the database's clock: the time at the last read plus the time
// since then. Its zero value is the local clock, which is SQLite's.
type databaseClock struct {
	local   func() time.Time
	log     *slog.Logger
	anchor  atomic.Pointer[clockAnchor]
	differs atomic.Bool
}

// clockAnchor is one moment on both clocks.
type clockAnchor struct{ local, database time.Time }

func (c *databaseClock) now() time.Time {
	a := c.anchor.Load()
	if a == nil {
		return c.local()
	}
	return a.database.Add(c.local().Sub(a.local)) // steps of the local clock have no effect
}

// skew is the time by which the local clock is ahead.
func (c *databaseClock) skew() time.Duration {
	if c.anchor.Load() == nil {
		return 0
	}
	return c.local().Round(0).Sub(c.now())
}

var selectNow = Prepare(`SELECT {{now}}`)

// ask reads the database's time if that is due.
func (c *databaseClock) ask(read *Read) error {
	before := c.local()
	old := c.anchor.Load()
	if old != nil && before.Sub(old.local) < clockEvery {
		return nil
	}
	ms, err := QueryOne(read, selectNow, (*Row).Int)
	if err != nil {
		return fmt.Errorf("ask the database for the time: %w", err)
	}
	took := c.local().Sub(before)
	if old != nil && took > clockTrip {
		return nil
	}
	a := &clockAnchor{local: before.Add(took / 2), database: time.UnixMilli(ms)}
	if old != nil && a.database.Sub(old.database.Add(a.local.Sub(old.local))).Abs() < clockStep {
		a.database = old.database.Add(a.local.Sub(old.local)) // keep the estimate, and only record the read
	}
	c.anchor.Store(a)
	skew := c.skew()
	switch differs := skew.Abs() > clockTolerance; {
	case differs && !c.differs.Swap(true):
		c.log.Warn("the clocks of this machine and of the database disagree; set both (NTP). Until they agree nothing is deleted by its age", "err", c.check())
	case !differs && c.differs.Swap(false):
		c.log.Info("the clocks of this machine and of the database agree again")
	}
	return nil
}

// Now is the time of the database's clock, on which all instances agree. On SQLite it is
// Options.Clock.
func (s *Store) Now() time.Time { return s.clock.now() }

// CheckClocks returns ErrClocks if the clocks of this machine and of the database
// disagree. Nothing tells which one is wrong, and rows deleted because of a wrong age are
// lost.
func CheckClocks(s *Store) error { return s.clock.check() }

func (c *databaseClock) check() error {
	if skew := c.skew(); skew.Abs() > clockTolerance {
		return fmt.Errorf("%w: this machine's is %v ahead", ErrClocks, skew.Round(time.Second))
	}
	return nil
}
