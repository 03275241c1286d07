package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migrator is a connection inside the transaction of the migrations.
type migrator interface {
	conn
	script(sql string) error
}

const createMigrations = `CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied_ts BIGINT NOT NULL)`

var (
	selectMigration = stmt(`SELECT name FROM migrations WHERE name = $1`)
	insertMigration = stmt(`INSERT INTO migrations (name, applied_ts) VALUES ($1, $2)`)
)

// migrations are the names of the files for a dialect, in order. A name is
// NNNN_subject; where the engines differ too much for the markers, NNNN_subject.postgres.sql
// takes the place of NNNN_subject.sql there.
func migrations(d dialect) ([]string, error) {
	files, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var names []string
	for _, f := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(f, "migrations/"), ".sql")
		if !strings.HasSuffix(name, ".postgres") {
			names = append(names, name)
		}
	}
	return names, nil
}

func migrationText(d dialect, name string) (string, error) {
	if d == dialectPostgres {
		text, err := migrationFiles.ReadFile("migrations/" + name + ".postgres.sql")
		if err == nil {
			return string(text), nil
		}
	}
	text, err := migrationFiles.ReadFile("migrations/" + name + ".sql")
	return schemaMarkers[d].Replace(string(text)), err
}

// migrate applies the migrations that the database does not have, in order, in
// one transaction.
func (s *Store) migrate(ctx context.Context) error {
	d := s.engine.dialect()
	names, err := migrations(d)
	if err != nil {
		return err
	}
	return s.engine.migrate(ctx, func(m migrator) error {
		if err := m.script(createMigrations); err != nil {
			return err
		}
		r := &Read{ctx: ctx, conn: m}
		for _, name := range names {
			_, err := queryOne(r, selectMigration, (*Row).Text, name)
			if err == nil {
				continue
			}
			if err != ErrNotFound {
				return err
			}
			text, err := migrationText(d, name)
			if err != nil {
				return err
			}
			if err := m.script(text); err != nil {
				return fmt.Errorf("migration %s: %w", name, err)
			}
			tx := &Tx{*r}
			if _, err := tx.exec(insertMigration, name, millis(s.opt.Clock())); err != nil {
				return err
			}
		}
		return nil
	})
}
