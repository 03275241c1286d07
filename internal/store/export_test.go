package store

import (
	"context"
	"errors"
)

// Script runs SQL past everything that guards the store, to break it.
func (s *Store) Script(ctx context.Context, sql string) error {
	sql = schemaMarkers[s.engine.dialect()].Replace(sql)
	return s.engine.migrate(ctx, func(m migrator) error { return m.script(sql) })
}

// ResolveLast asks PostgreSQL for the fate of the last group as if its
// connection had been lost, and returns the head before it, its rows and the error.
func (s *Store) ResolveLast() (Position, []StreamRow, error) {
	g := &s.committer.g
	err := s.engine.(*postgresEngine).resolve(g, errors.New("lost"))
	return g.prev, g.stream, err
}
