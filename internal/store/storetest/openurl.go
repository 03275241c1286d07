package storetest

import (
	"testing"

	"stoa/internal/store"
)

// OpenURL opens a store on an address that URL gave: on PostgreSQL, one of several instances on it. It is closed when the
// test ends.
func OpenURL(t testing.TB, url string, options ...Option) *store.Store {
	t.Helper()
	return opener(t, url)(options...)
}
