// Package storetest opens real stores for tests, on both engines.
//
// It owns temporary files and, if no PostgreSQL is given by the environment
// variable STOA_TEST_POSTGRES, a temporary cluster for the test process. It never
// skips: without the binaries of PostgreSQL a test fails and names the package to
// install. ENGINE=sqlite or ENGINE=postgres narrows a run.
package storetest

import (
	"os"
	"path/filepath"
	"testing"

	"stoa/internal/store"
)

// ServerName is the server name of the stores.
const ServerName = "stoa.test"

// Option changes the options with which stores are opened.
type Option func(*store.Options)

// Each runs a test on both engines, in parallel. open opens a store on the
// test's own empty database; called again it opens the same database again (on
// SQLite only after the store was closed). Stores are closed when the test ends.
func Each(t *testing.T, f func(t *testing.T, open func(...Option) *store.Store)) {
	t.Helper()
	for _, engine := range engines(t) {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			f(t, opener(t, URL(t, engine)))
		})
	}
}

// SQLite opens one store on SQLite, for tests that don't depend on the engine.
func SQLite(t testing.TB, options ...Option) *store.Store {
	t.Helper()
	return opener(t, URL(t, "sqlite"))(options...)
}

// Open opens one store on the engine.
func Open(t testing.TB, engine string, options ...Option) *store.Store {
	t.Helper()
	return opener(t, URL(t, engine))(options...)
}

// URL makes a database on the engine that belongs to no server yet, and returns
// its address.
func URL(t testing.TB, engine string) string {
	t.Helper()
	if engine == "postgres" {
		return postgresURL(t, false)
	}
	return EmptyURL(t, engine)
}

// EmptyURL makes a database without a schema.
func EmptyURL(t testing.TB, engine string) string {
	t.Helper()
	if engine == "postgres" {
		return postgresURL(t, true)
	}
	return filepath.Join(t.TempDir(), "stoa.db")
}

func engines(t testing.TB) []string {
	switch e := os.Getenv("ENGINE"); e {
	case "":
		return []string{"sqlite", "postgres"}
	case "sqlite", "postgres":
		return []string{e}
	default:
		t.Fatalf("ENGINE=%s: want sqlite or postgres", e)
		return nil
	}
}

func opener(t testing.TB, url string) func(...Option) *store.Store {
	return func(options ...Option) *store.Store {
		t.Helper()
		opt := store.Options{URL: url, ServerName: ServerName}
		for _, o := range options {
			o(&opt)
		}
		s, err := store.Open(t.Context(), opt)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
}
