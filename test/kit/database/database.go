// Package database makes PostgreSQL databases for a run and drops them.
//
// It is apart from kit because of what it imports. It never writes into a database.
package database

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/jackc/pgx/v5"
)

// Exec runs one statement on a connection of its own.
func Exec(ctx context.Context, cluster, statement string) error {
	c, err := pgx.Connect(ctx, cluster)
	if err != nil {
		return err
	}
	if _, err = c.Exec(ctx, statement); err != nil {
		err = fmt.Errorf("%s: %w", statement, err)
	}
	return errors.Join(err, c.Close(ctx))
}

// New makes an empty database in a cluster, whose URL is of another one there.
func New(ctx context.Context, cluster, name string) (address string, err error) {
	if cluster == "" {
		return "", errors.New("a PostgreSQL cluster is needed (STOA_TEST_POSTGRES)")
	}
	if err := Exec(ctx, cluster, "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	return URL(cluster, name)
}

// Drop drops a database with whoever is connected to it.
func Drop(ctx context.Context, cluster, name string) error {
	return Exec(ctx, cluster, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
}

// URL is that of another database of a cluster.
func URL(cluster, name string) (string, error) {
	u, err := url.Parse(cluster)
	if err != nil {
		return "", err
	}
	u.Path = "/" + name
	return u.String(), nil
}
