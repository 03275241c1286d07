package room

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"stoa/internal/store"
)

// While a room moves to another home, several instances write it, each for a
// moment. Somebody wins each round, but a writer may lose many in a row; it
// pauses for a random time in between, so that others get through and so does it.
const (
	// contestTime is how long a change is built again that loses against others.
	contestTime = 5 * time.Second
	// contestPause bounds a pause.
	contestPause = 50 * time.Millisecond
)

// maxTries is how often is tried what fails only if something else came in between
// each time.
const maxTries = 3

// contest calls f until it gives something else than store.ErrConflict, or
// contestTime has passed.
func (rs *Rooms) contest(ctx context.Context, f func() error) error {
	err := f()
	if !errors.Is(err, store.ErrConflict) {
		return err // nearly always: it pays for no timer
	}
	ctx, cancel := context.WithTimeout(ctx, contestTime)
	defer cancel()
	limit := time.Duration(0) // the first repetition comes at once
	for errors.Is(err, store.ErrConflict) {
		select {
		case <-ctx.Done():
			return err
		case <-time.After(rand.N(limit + 1)):
		}
		limit = min(2*limit+time.Millisecond, contestPause)
		rs.metrics.rebuilt.Add(1)
		err = f()
	}
	return err
}
