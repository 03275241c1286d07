package server

import (
	"context"
	"log/slog"
	"time"
)

// housekeepingEvery is how often what has outlived its time is deleted. The
// shortest time that anything is kept so is a week.
const housekeepingEvery = time.Hour

// chore deletes what has outlived its time, in pieces that hold nobody up.
type chore struct {
	name string
	do   func(context.Context) error
}

// housekeeping does chores on every instance now and then: deletions by age, which do no harm twice. Nothing of it happens
// at start. What one instance should do alone, or must go on after a restart, is a [reader.Kind] with Every.
type housekeeping struct {
	chores []chore
	every  time.Duration
	log    *slog.Logger
}

// run goes on until the context ends. A chore that fails is tried again the next
// time: what it leaves lying costs room and nothing else.
func (h housekeeping) run(ctx context.Context) error {
	tick := time.NewTicker(h.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, c := range h.chores {
			begin := time.Now()
			if err := c.do(ctx); err != nil && ctx.Err() == nil {
				h.log.Warn("housekeeping", "chore", c.name, "took_ms", time.Since(begin).Milliseconds(), "err", err)
			}
		}
	}
}
