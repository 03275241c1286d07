package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The contract of migrations (docs/decisions/schema.md): a migration only adds, so that
// instances of the previous release continue to work. Its header names the oldest
// program that works with the new schema:
//
//	-- compatible: 0013
//
// 0013 is the newest migration that this program knows. The table meta has both
// numbers, and each program compares them with its own when it opens the database.

//go:embed migrations/*.sql
var migrationFiles embed.FS

var (
	// ErrTooOld says that the schema of the database requires a newer program.
	ErrTooOld = errors.New("store: this program is too old for the database")
	// ErrOldInstances says that a migration must wait, because instances are running that
	// its changes would break.
	ErrOldInstances = errors.New("store: instances are running that the new schema would break")
)

// migrator is a connection inside the transaction of the migrations.
type migrator interface {
	conn
	script(sql string) error
}

const createMigrations = `CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied_ts BIGINT NOT NULL)`

var (
	selectMigrations = Prepare(`SELECT name FROM migrations`)
	insertMigration  = Prepare(`INSERT INTO migrations (name, applied_ts) VALUES ($1, $2)`)
	setMeta          = Prepare(`INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`)
)

// Names in meta.
const (
	metaSchema     = "schema"            // number of the newest applied migration
	metaCompatible = "schema_compatible" // number of the newest migration that a program must know
)

// migration is one file, NNNN_subject.sql. If the engines differ too much for the
// markers, NNNN_subject.postgres.sql replaces it on PostgreSQL.
type migration struct {
	name       string // NNNN_subject
	number     int64
	compatible int64 // the newest migration that a program must know to work after this one
	text       string
}

var compatibleLine = regexp.MustCompile(`(?m)^-- compatible: ([0-9]{4})$`)

// migrations reads the files for a dialect, in order.
func migrations(files fs.FS, d dialect) ([]migration, error) {
	paths, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	slices.Sort(paths)
	var list []migration
	for _, path := range paths {
		m := migration{name: strings.TrimSuffix(strings.TrimPrefix(path, "migrations/"), ".sql")}
		if strings.HasSuffix(m.name, ".postgres") {
			continue
		}
		if d == dialectPostgres {
			if own := strings.TrimSuffix(path, ".sql") + ".postgres.sql"; slices.Contains(paths, own) {
				path = own
			}
		}
		text, err := fs.ReadFile(files, path)
		if err != nil {
			return nil, err
		}
		m.text = schemaMarkers[d].Replace(string(text))
		if m.number, err = migrationNumber(m.name); err != nil {
			return nil, err
		}
		header := compatibleLine.FindStringSubmatch(m.text)
		if header == nil {
			return nil, fmt.Errorf("migration %s has no line '-- compatible: NNNN'", m.name)
		}
		if m.compatible, err = migrationNumber(header[1]); err != nil || m.compatible > m.number {
			return nil, fmt.Errorf("migration %s is compatible with %s, a later one", m.name, header[1])
		}
		if len(list) > 0 && m.number <= list[len(list)-1].number {
			return nil, fmt.Errorf("migrations %s and %s have one number", list[len(list)-1].name, m.name)
		}
		list = append(list, m)
	}
	if len(list) == 0 {
		return nil, errors.New("there are no migrations")
	}
	return list, nil
}

func migrationNumber(name string) (int64, error) {
	number, _, _ := strings.Cut(name, "_")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("migration %s has no number", name)
	}
	return n, nil
}

// NewestMigration is the number of the newest migration that this program knows.
func NewestMigration() (int64, error) {
	list, err := migrations(migrationFiles, dialectPostgres)
	if err != nil {
		return 0, err
	}
	return list[len(list)-1].number, nil
}

// schema is the schema of a database.
type schema struct {
	number     int64 // of the newest applied migration; 0 = empty
	compatible int64 // the newest migration that a program must know
	applied    map[string]bool
}

func readSchema(m migrator, r *Read) (schema, error) {
	s := schema{applied: map[string]bool{}}
	if err := m.script(createMigrations); err != nil {
		return s, err
	}
	err := QueryEach(r, selectMigrations, func(row *Row) error {
		name := row.Text()
		s.applied[name] = true
		n, err := migrationNumber(name)
		s.number = max(s.number, n)
		return err
	})
	if err != nil || s.number == 0 {
		return s, err
	}
	text, err := QueryOne(r, selectMeta, (*Row).Text, metaCompatible)
	if errors.Is(err, ErrNotFound) {
		return s, nil // from before the contract
	}
	if err != nil {
		return s, err
	}
	if s.compatible, err = strconv.ParseInt(text, 10, 64); err != nil {
		return s, fmt.Errorf("meta %s: %w", metaCompatible, err)
	}
	return s, nil
}

// allows reports whether a program that knows migrations up to newest may work.
func (s schema) allows(newest int64) error {
	if newest >= s.compatible {
		return nil
	}
	return fmt.Errorf("%w: it knows the schema up to %04d; the database has %04d, which asks for a program that knows %04d",
		ErrTooOld, newest, s.number, s.compatible)
}

// migrate applies the missing migrations, in order, in one transaction. It ignores
// migrations in the database that this program does not know, as long as the program may
// work with them.
func migrate(ctx context.Context, s *Store) error {
	known, err := migrations(s.opt.Migrations, s.engine.dialect())
	if err != nil {
		return err
	}
	return s.engine.migrate(ctx, func(m migrator) error {
		tx := &Tx{Read{ctx: ctx, conn: m}}
		was, err := readSchema(m, &tx.Read)
		if err != nil {
			return err
		}
		if err := was.allows(known[len(known)-1].number); err != nil {
			return err
		}
		is := was
		for _, next := range known {
			if was.applied[next.name] {
				continue
			}
			if err := was.noOlderInstance(tx, s.Shared(), next); err != nil {
				return err
			}
			if err := m.script(next.text); err != nil {
				return fmt.Errorf("migration %s: %w", next.name, err)
			}
			if _, err := tx.Exec(insertMigration, next.name, s.opt.Clock().UnixMilli()); err != nil {
				return err
			}
			is.number, is.compatible = max(is.number, next.number), max(is.compatible, next.compatible)
		}
		if is.number == was.number && is.compatible == was.compatible {
			return nil
		}
		if _, err := tx.Exec(setMeta, metaSchema, strconv.FormatInt(is.number, 10)); err != nil {
			return err
		}
		_, err = tx.Exec(setMeta, metaCompatible, strconv.FormatInt(is.compatible, 10))
		return err
	})
}

// firstShared is the first migration with which instances announce themselves.
const firstShared = 13

// noOlderInstance refuses a migration that would break a running instance.
func (s schema) noOlderInstance(tx *Tx, shared bool, next migration) error {
	if !shared || s.number < firstShared {
		return nil
	}
	old, err := Query(&tx.Read, selectOlderInstances, (*Row).Text, next.compatible)
	if err != nil || len(old) == 0 {
		return err
	}
	return fmt.Errorf("%w: migration %s needs programs that know %04d, and these do not: %s",
		ErrOldInstances, next.name, next.compatible, strings.Join(old, ", "))
}

var selectOlderInstances = Prepare(`SELECT name FROM instances WHERE expires_ts > ` + databaseNow + ` AND schema < $1 ORDER BY lease LIMIT 100`)

// CheckSchema returns ErrTooOld if the database has come to require a newer program since
// it was opened. An instance calls it after it has announced itself: from then on no
// other instance applies a migration that would break it.
func (s *Store) CheckSchema(ctx context.Context) error {
	known, err := migrations(s.opt.Migrations, s.engine.dialect())
	if err != nil {
		return err
	}
	return s.engine.migrate(ctx, func(m migrator) error {
		is, err := readSchema(m, &Read{ctx: ctx, conn: m})
		if err != nil {
			return err
		}
		return is.allows(known[len(known)-1].number)
	})
}
