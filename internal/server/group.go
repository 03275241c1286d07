package server

import (
	"errors"
	"sync"
)

// errorGroup runs functions concurrently and collects their errors.
type errorGroup struct {
	wg    sync.WaitGroup
	mu    sync.Mutex // guards errs and first
	errs  []error
	first chan error // capacity 1
}

func (g *errorGroup) run(f func() error) {
	failed := g.channel()
	g.wg.Go(func() {
		err := f()
		if err == nil {
			return
		}
		g.mu.Lock()
		g.errs = append(g.errs, err)
		g.mu.Unlock()
		select {
		case failed <- err:
		default: // the first failure was already reported
		}
	})
}

func (g *errorGroup) channel() chan error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.first == nil {
		g.first = make(chan error, 1)
	}
	return g.first
}

// failed returns a channel with the first error.
func (g *errorGroup) failed() <-chan error { return g.channel() }

// wait waits for all functions and returns their errors.
func (g *errorGroup) wait() error {
	g.wg.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	return errors.Join(g.errs...)
}
