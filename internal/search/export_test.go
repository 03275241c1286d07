package search

import "context"

// Sweep runs the job that removes what has gone.
func (s *Search) Sweep(ctx context.Context) error { return s.sweep(ctx) }

var TextOf = textOf
