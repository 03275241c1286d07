package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sync/errgroup"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
)

// release are the migrations of a release: those of this program, and later ones.
func release(t *testing.T, later map[string]string) storetest.Option {
	t.Helper()
	files := fstest.MapFS{}
	paths, err := filepath.Glob("migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[path] = &fstest.MapFile{Data: []byte(text)}
	}
	for name, text := range later {
		files["migrations/"+name+".sql"] = &fstest.MapFile{Data: []byte(text)}
	}
	return func(o *store.Options) { o.Migrations = files }
}

// The next releases, as this one may meet their databases.
const more = "-- compatible: 0013\nCREATE TABLE more (n BIGINT NOT NULL);"

var (
	expands   = map[string]string{"9001_more": more}
	contracts = map[string]string{"9001_more": more, "9002_less": "-- compatible: 9001\nALTER TABLE more ADD COLUMN m BIGINT NOT NULL DEFAULT 0;"}
)

// TestSchema: law 11. Whoever opens a database finds a schema that it can work
// with, or is told that it can't.
func TestSchema(t *testing.T) {
	t.Parallel()
	open := func(url string, o ...storetest.Option) (*store.Store, error) {
		opt := store.Options{URL: url, ServerName: storetest.ServerName}
		for _, f := range o {
			f(&opt)
		}
		return store.Open(t.Context(), opt)
	}
	must := func(t *testing.T, url string, o ...storetest.Option) {
		t.Helper()
		s, err := open(url, o...)
		if err != nil {
			t.Fatal(err)
		}
		closeStore(t, s)
	}
	for _, engine := range []string{"sqlite", "postgres"} {
		if e := os.Getenv("ENGINE"); e != "" && e != engine {
			continue
		}
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			t.Run("an older program works on with what only adds", func(t *testing.T) {
				t.Parallel()
				url := storetest.EmptyURL(t, engine)
				must(t, url)
				must(t, url, release(t, expands))
				s, err := open(url)
				if err != nil {
					t.Fatal(err)
				}
				newRoom(t, s, "!a:stoa.test")
				if err := s.Script(t.Context(), "INSERT INTO more (n) VALUES (1)"); err != nil {
					t.Error("the newer schema is gone:", err)
				}
				closeStore(t, s)
				must(t, url, release(t, expands))
			})
			t.Run("a program that is too old says so and changes nothing", func(t *testing.T) {
				t.Parallel()
				url := storetest.EmptyURL(t, engine)
				must(t, url, release(t, contracts))
				for range 2 {
					_, err := open(url)
					if !errors.Is(err, store.ErrTooOld) || !strings.Contains(err.Error(), "9002") || !strings.Contains(err.Error(), "9001") {
						t.Fatal(err)
					}
				}
				must(t, url, release(t, expands))
				must(t, url, release(t, contracts))
			})
			t.Run("a database of an older program is migrated, one from before the contract too", func(t *testing.T) {
				t.Parallel()
				url := storetest.EmptyURL(t, engine)
				s, err := open(url)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Script(t.Context(), "DELETE FROM meta WHERE name LIKE 'schema%'"); err != nil {
					t.Fatal(err)
				}
				closeStore(t, s)
				must(t, url, release(t, contracts))
				if _, err := open(url); !errors.Is(err, store.ErrTooOld) {
					t.Error(err)
				}
			})
			t.Run("a program learns that the schema left it behind while it started", func(t *testing.T) {
				t.Parallel()
				if engine == "sqlite" {
					return // its file has one owner, so that nobody else can migrate it
				}
				url := storetest.EmptyURL(t, engine)
				s, err := open(url)
				if err != nil {
					t.Fatal(err)
				}
				defer closeStore(t, s)
				if err := s.CheckSchema(t.Context()); err != nil {
					t.Fatal(err)
				}
				must(t, url, release(t, contracts))
				if err := s.CheckSchema(t.Context()); !errors.Is(err, store.ErrTooOld) {
					t.Error(err)
				}
			})
			t.Run("a migration without its header is refused", func(t *testing.T) {
				t.Parallel()
				for _, text := range []string{"CREATE TABLE a (n BIGINT)", "-- compatible: 9002\n", "-- compatible: soon\n"} {
					if _, err := open(storetest.EmptyURL(t, engine), release(t, map[string]string{"9001_a": text})); err == nil {
						t.Errorf("%q was taken", text)
					}
				}
			})
		})
	}
}

// A migration that running instances would not survive waits until they are gone.
func TestSchemaWaitsForOlderInstances(t *testing.T) {
	t.Parallel()
	url := storetest.EmptyURL(t, "postgres")
	s, err := store.Open(t.Context(), store.Options{URL: url, ServerName: storetest.ServerName})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	leases, err := s.Leases()
	if err != nil {
		t.Fatal(err)
	}
	defer leases.Close()
	schema, err := store.NewestMigration()
	if err != nil {
		t.Fatal(err)
	}
	lease, err := leases.Take(t.Context(), store.Instance{Name: "old", Schema: schema}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	newer := func(o storetest.Option) error {
		opt := store.Options{URL: url, ServerName: storetest.ServerName}
		o(&opt)
		s, err := store.Open(t.Context(), opt)
		if err == nil {
			closeStore(t, s)
		}
		return err
	}
	if err := newer(release(t, contracts)); !errors.Is(err, store.ErrOldInstances) || !strings.Contains(err.Error(), "old") {
		t.Error(err)
	}
	if err := s.Script(t.Context(), "SELECT * FROM more"); err == nil {
		t.Error("a part of the migrations stayed")
	}
	if err := newer(release(t, expands)); err != nil {
		t.Error(err)
	}
	if err := leases.End(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	if err := newer(release(t, contracts)); err != nil {
		t.Error(err)
	}
}

// A migration that has to wait for a table does not stop those who use it for long,
// and goes on when it is free.
func TestMigrateTriesAgainWhenTablesAreBusy(t *testing.T) {
	t.Parallel()
	url := storetest.EmptyURL(t, "postgres")
	s, err := store.Open(t.Context(), store.Options{URL: url, ServerName: storetest.ServerName, SnapshotLimit: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	reader, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := roomdb.RoomByNum(reader, 1); !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	later := map[string]string{"9001_wide": "-- compatible: 0013\nALTER TABLE rooms ADD COLUMN wide BIGINT"}
	var g errgroup.Group
	g.Go(func() error {
		opt := store.Options{URL: url, ServerName: storetest.ServerName}
		release(t, later)(&opt)
		s, err := store.Open(t.Context(), opt)
		if err != nil {
			return err
		}
		return s.Close()
	})
	// A write of the table gets through while the migration waits.
	newRoom(t, s, "!a:stoa.test")
	reader.Close()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	newRoom(t, s, "!b:stoa.test")
}

// Programs of two releases write the same tables: what names no columns breaks
// once one has more of them.
func TestStatementsNameTheirColumns(t *testing.T) {
	t.Parallel()
	star := regexp.MustCompile(`SELECT\s+(\w+\.)?\*\s+FROM\s+(\w+)`)
	insert := regexp.MustCompile(`INSERT INTO (\w+)\s+(VALUES|SELECT)`)
	with := regexp.MustCompile(`(\w+) AS (MATERIALIZED )?\(`)
	texts := store.Texts()
	if len(texts) < statements {
		t.Errorf("%d statements, there were %d: is a package missing from storetest/tables?", len(texts), statements)
	}
	for _, sql := range texts {
		own := map[string]bool{}
		for _, m := range with.FindAllStringSubmatch(sql, -1) {
			own[m[1]] = true
		}
		for _, m := range star.FindAllStringSubmatch(sql, -1) {
			if !own[m[2]] {
				t.Errorf("names no columns: %s", sql)
			}
		}
		if insert.MatchString(sql) {
			t.Errorf("names no columns: %s", sql)
		}
	}
}
