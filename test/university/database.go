package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"stoa/test/kit"
	"stoa/test/kit/database"

	"github.com/jackc/pgx/v5"
)

// template is the database that each run gets a copy of.
type template struct {
	cluster, name string   // of PostgreSQL
	file          string   // of SQLite
	rooms         []string // IDs, by their place in the plan
	took          time.Duration
	bytes         int64
}

// planVersion is part of the template's name: raise it when the plan makes others
// of the same numbers.
const planVersion = 2

// prepare writes the template, or finds it. One of SQLite is written into dir.
func prepare(ctx context.Context, o options, p *plan, dir string) (*template, error) {
	if o.engine == engineSQLite {
		return prepareFile(ctx, p, filepath.Join(dir, "template.db"))
	}
	t := &template{cluster: o.postgres, name: fmt.Sprintf("stoa_%s_v%d_%d_%d_%d", o.load.name, planVersion, p.people, p.online, p.history)}
	c, err := pgx.Connect(ctx, o.postgres)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }() // nothing is under way on it
	if err := t.find(ctx, c); err != nil {
		return nil, err
	}
	if t.rooms == nil || o.fresh {
		begin := time.Now()
		if err := database.Drop(ctx, t.cluster, t.name); err != nil {
			return nil, err
		}
		if _, err := database.New(ctx, t.cluster, t.name); err != nil {
			return nil, err
		}
		if t.rooms, err = seed(ctx, t.url(t.name), p); err != nil {
			return nil, err
		}
		t.took = time.Since(begin)
		if err := t.keep(ctx); err != nil {
			return nil, err
		}
		progress("seed: written in %.0f s", t.took.Seconds())
	}
	if len(t.rooms) != len(p.rooms) {
		return nil, fmt.Errorf("database %s has %d rooms and not %d: write it anew (-fresh)", t.name, len(t.rooms), len(p.rooms))
	}
	return t, c.QueryRow(ctx, "SELECT pg_database_size($1)", t.name).Scan(&t.bytes)
}

// prepareFile writes the template as a SQLite file.
func prepareFile(ctx context.Context, p *plan, file string) (t *template, err error) {
	begin := time.Now()
	t = &template{file: file}
	if t.rooms, err = seed(ctx, file, p); err != nil {
		return nil, err
	}
	t.took = time.Since(begin)
	progress("seed: written in %.0f s", t.took.Seconds())
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	t.bytes = info.Size()
	return t, nil
}

// copyFile copies a file that nobody has open.
func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// find reads what keep wrote, if the database is there and complete.
func (t *template) find(ctx context.Context, cluster *pgx.Conn) (err error) {
	var exists bool
	if err := cluster.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", t.name).Scan(&exists); err != nil || !exists {
		return err
	}
	c, err := pgx.Connect(ctx, t.url(t.name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	if err := c.QueryRow(ctx, "SELECT to_regclass('university.rooms') IS NOT NULL").Scan(&exists); err != nil || !exists {
		return err
	}
	var seconds float64
	if err := c.QueryRow(ctx, "SELECT seconds FROM university.seed").Scan(&seconds); err != nil {
		return err
	}
	t.took = time.Duration(seconds * float64(time.Second))
	rows, err := c.Query(ctx, "SELECT room_id FROM university.rooms ORDER BY n")
	if err != nil {
		return err
	}
	t.rooms, err = pgx.CollectRows(rows, pgx.RowTo[string])
	return err
}

// keep notes what the server's tables don't say: which room is which, and how long
// it took. It is the last thing to be written.
func (t *template) keep(ctx context.Context) (err error) {
	c, err := pgx.Connect(ctx, t.url(t.name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	if _, err := c.Exec(ctx, "VACUUM (ANALYZE)"); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "CREATE SCHEMA university; CREATE TABLE university.rooms (n INT PRIMARY KEY, room_id TEXT); CREATE TABLE university.seed (seconds FLOAT8)")
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO university.seed VALUES ($1)", t.took.Seconds()); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "INSERT INTO university.rooms SELECT n - 1, id FROM unnest($1::text[]) WITH ORDINALITY AS x (id, n)", t.rooms)
		return err
	})
}

// copied makes a database for a run, whose folder is dir.
func (t *template) copied(ctx context.Context, dir, run string) (address string, drop func(), err error) {
	if t.file != "" {
		address = filepath.Join(dir, "stoa.db")
		return address, func() {}, copyFile(address, t.file)
	}
	name := fmt.Sprintf("%s_%s_%d", t.name, run, os.Getpid())
	// Nothing is written to the log of the copy but that there is one.
	if err := database.Exec(ctx, t.cluster, "CREATE DATABASE "+name+" TEMPLATE "+t.name+" STRATEGY FILE_COPY"); err != nil {
		return "", nil, err
	}
	drop = func() {
		if err := database.Drop(context.WithoutCancel(ctx), t.cluster, name); err != nil {
			progress("drop %s: %v", name, err)
		}
	}
	return t.url(name), drop, nil
}

// url is that of another database of the cluster.
func (t *template) url(name string) string {
	address, err := database.URL(t.cluster, name)
	if err != nil {
		return t.cluster // pgx has taken it before, so it is one
	}
	return address
}

// postmaster is the process whose children are the cluster's, if it runs here.
func postmaster(ctx context.Context, cluster string) (pid int, err error) {
	c, err := pgx.Connect(ctx, cluster)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	var backend int
	if err := c.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&backend); err != nil {
		return 0, err
	}
	return kit.Parent(backend)
}
