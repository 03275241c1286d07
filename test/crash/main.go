// Command crash proves that nothing acknowledged is lost: it kills the server,
// or the database under it, at random moments while clients send, starts it
// again and looks for what is missing, doubled, out of order or half done.
//
// It owns the processes that it starts, each with data in a temporary folder,
// and the ledger of what was acknowledged. It never reads the database itself:
// what clients see and what `stoa doctor store` says is all that counts.
//
// A page cache survives kill -9, so with -trace it also shows, by strace, that
// no 200 is written before the fdatasync behind its commit, and that this test
// fails on a build which leaves the fdatasync out.
package main

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"stoa/test/kit"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "crash: FAILED:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("crash", flag.ContinueOnError)
	binary := flags.String("binary", "bin/stoa", "the server under test")
	rounds := flags.Int("rounds", 200, "kills on each engine")
	engines := flags.String("engines", "sqlite,postgres", "engines to test")
	pgBin := flags.String("postgres-bin", "", "folder of PostgreSQL's programs, for the engine postgres")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the random moments")
	trace := flags.Bool("trace", false, "check by strace that answers follow their fdatasync")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *trace {
		if err := checkTrace(*binary); err != nil {
			return fmt.Errorf("trace: %w", err)
		}
	}
	for engine := range strings.SplitSeq(*engines, ",") {
		fmt.Printf("crash: %d rounds on %s, seed %d\n", *rounds, engine, *seed)
		if err := crashEngine(engine, *binary, *pgBin, *rounds, rand.New(rand.NewPCG(*seed, 1))); err != nil {
			return fmt.Errorf("%s, seed %d: %w", engine, *seed, err)
		}
	}
	return nil
}

// roundsOfOneDatabase bounds what each check has to read.
const roundsOfOneDatabase = 20

// totals are what all rounds of an engine add up to.
type totals struct {
	rounds, databaseKills, acknowledged, unknown, repeated int
	slowestStart                                           time.Duration
}

func crashEngine(engine, binary, pgBin string, rounds int, rnd *rand.Rand) error {
	var sum totals
	began := time.Now()
	for sum.rounds < rounds {
		if err := crashDatabase(engine, binary, pgBin, min(roundsOfOneDatabase, rounds-sum.rounds), rnd, &sum); err != nil {
			return err
		}
	}
	fmt.Printf("crash: %s: passed %d rounds (%d of them killed the database) in %v: %d sends acknowledged and none lost, %d of unknown outcome settled, %d transactions repeated, slowest start %v\n",
		engine, sum.rounds, sum.databaseKills, time.Since(began).Round(time.Second), sum.acknowledged, sum.unknown, sum.repeated, sum.slowestStart.Round(time.Millisecond))
	return nil
}

func newServer(binary, dir string) (*kit.Server, error) {
	return kit.NewServer("server", binary, dir, "STOA_SERVER_NAME=crash.test", "STOA_REGISTRATION=open", "STOA_LOG_LEVEL=info")
}

func startPostgres(bin string) (*kit.Postgres, error) {
	dir, err := os.MkdirTemp("", "stoa-crash-pg-")
	if err != nil {
		return nil, err
	}
	return kit.NewPostgres(bin, dir, "", "listen_addresses=", "shared_buffers=64MB", "log_min_messages=fatal")
}

// crashDatabase does some rounds on one new database.
func crashDatabase(engine, binary, pgBin string, rounds int, rnd *rand.Rand, sum *totals) (err error) {
	dir, err := os.MkdirTemp("", "stoa-crash-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			fmt.Fprintln(os.Stderr, "crash: the data are kept in", dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	srv, err := newServer(binary, dir)
	if err != nil {
		return err
	}
	var db *kit.Postgres
	if engine == "postgres" {
		if db, err = startPostgres(pgBin); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Remove()) }()
		srv.Settings = append(srv.Settings, "STOA_DATABASE="+db.URL())
	}
	if err := srv.Start(); err != nil {
		return err
	}
	defer srv.Kill()
	people, err := settle(srv)
	if err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	for n := range rounds {
		killDatabase := db != nil && n%4 == 3
		if err := people.round(srv, db, killDatabase, rnd, sum); err != nil {
			return fmt.Errorf("round %d: %w\nthe server's log:\n%s", sum.rounds+1, err, srv.Log())
		}
		sum.rounds++
		if killDatabase {
			sum.databaseKills++
		}
	}
	return nil
}
