// Command rolling upgrades a cluster under load, from the build of an earlier
// commit to that of this one and back, and counts what clients notice: no send
// and no sync may fail.
//
// It owns the instances, the balancer and the users. It never helps the users:
// they have one address, that of the balancer, and never try again.
//
// The newer build has a migration that the older does not know, so a schema change
// lies in between, and the way back leads to a database newer than the program.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"stoa/test/kit/database"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "rolling: FAILED:", err)
		os.Exit(1)
	}
}

// names of the instances, as many as the balancer's example has.
var names = []string{"a", "b", "c"}

// build is one program.
type build struct{ label, binary string }

func run(args []string) (err error) {
	flags := flag.NewFlagSet("rolling", flag.ContinueOnError)
	from := flags.String("from", "", "the older program")
	to := flags.String("to", "", "the newer program")
	balancer := flags.String("balancer", "deploy/haproxy.cfg", "configuration of HAProxy")
	postgres := flags.String("postgres", os.Getenv("STOA_TEST_POSTGRES"), "URL of a PostgreSQL server's database postgres")
	users := flags.Int("users", 20, "users that send and sync")
	pause := flags.Duration("pause", 500*time.Millisecond, "between a user's sends, at most; half of it on average")
	calm := flags.Duration("calm", 4*time.Second, "load before, between and after the upgrades")
	if err := flags.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "stoa-rolling-")
	if err != nil {
		return err
	}
	c := &cluster{dir: dir, config: *balancer}
	defer func() {
		c.kill()
		if err != nil {
			fmt.Fprintln(os.Stderr, "rolling: the logs are kept in", dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	ctx := context.Background()
	if c.database, err = database.New(ctx, *postgres, fmt.Sprintf("rolling_%d", os.Getpid())); err != nil {
		return err
	}
	older, newer := build{"older", *from}, build{"newer", *to}
	if err := c.start(older); err != nil {
		return err
	}
	t, err := settle(c.address, *users, *pause)
	if err != nil {
		return fmt.Errorf("prepare users and rooms: %w", err)
	}
	stop := t.begin()
	err = c.there(ctx, t, older, newer, *calm)
	stop()
	return errors.Join(err, t.report(), t.check(), c.doctor(older, newer))
}

// there is the way there and back.
func (c *cluster) there(ctx context.Context, t *population, older, newer build, calm time.Duration) error {
	before, err := c.schema(ctx)
	if err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return t.phase("older alone", calm) },
		func() error { return c.replaceAll(t, "upgrade", newer) },
		func() error { return t.phase("newer alone", calm) },
		func() error { return c.replaceAll(t, "way back", older) },
		func() error { return t.phase("older on the newer schema", calm) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	after, err := c.schema(ctx)
	if err != nil {
		return err
	}
	if before == after {
		return fmt.Errorf("the schema is %s on both sides: there was no change in between", after)
	}
	fmt.Printf("rolling: schema %s before, %s after\n", before, after)
	return nil
}

// schema is what the database says of itself.
func (c *cluster) schema(ctx context.Context) (number string, err error) {
	conn, err := pgx.Connect(ctx, c.database)
	if err != nil {
		return "", err
	}
	err = conn.QueryRow(ctx, "SELECT value FROM meta WHERE name = 'schema'").Scan(&number)
	return number, errors.Join(err, conn.Close(ctx))
}

// doctor has each program look at the store that both have written.
func (c *cluster) doctor(builds ...build) error {
	for _, b := range builds {
		doctor := *c.instances[0]
		doctor.Binary, doctor.Data = b.binary, filepath.Join(c.dir, "doctor")
		if _, err := doctor.Run("doctor", "store"); err != nil {
			return fmt.Errorf("%s: %w", b.label, err)
		}
	}
	return nil
}
