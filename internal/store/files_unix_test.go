//go:build unix

package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"stoa/internal/store"
	"stoa/internal/store/storetest"
)

// modes fails for each file of a folder that others than its owner may use.
func modes(t *testing.T, dir string, want ...string) {
	t.Helper()
	for _, name := range want {
		is, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if is.Mode().Perm() != 0o600 {
			t.Errorf("%s is %v", name, is.Mode())
		}
	}
}

// The umask of this process is the usual one, 022, or a stricter one: what is made 0600 here is made so explicitly.
func TestSQLiteFilesAreOfTheirOwnerAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func() *store.Store {
		t.Helper()
		s, err := store.Open(t.Context(), store.Options{URL: filepath.Join(dir, "stoa.db"), ServerName: storetest.ServerName})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	modes(t, dir, "stoa.db", "stoa.db-wal", "stoa.db-shm", "stoa.db.lock")
	if err := s.Copy(t.Context(), filepath.Join(dir, "copy.db")); err != nil {
		t.Fatal(err)
	}
	modes(t, dir, "copy.db")
	if err := s.Copy(t.Context(), filepath.Join(dir, "copy.db")); err == nil {
		t.Error("a copy was written over another")
	}
	modes(t, dir, "copy.db")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// As an earlier release left them.
	for _, name := range []string{"stoa.db", "stoa.db.lock"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s = open()
	modes(t, dir, "stoa.db", "stoa.db-wal", "stoa.db-shm", "stoa.db.lock")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
