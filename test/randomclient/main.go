// Command randomclient proves that what clients compute from /sync is what the server knows.
//
// It starts a server and plays some users with several devices each: a random, seeded sequence of acts (rooms, memberships,
// messages, state, redactions, profiles, receipts, account data, restarts) and of /sync calls with random filters. Each device
// keeps what a real client would compute from its answers. After every answer the program compares that with /state,
// /joined_members, /messages, /joined_rooms, and at the end of a seed with a fresh initial sync.
//
// A seed decides everything that is done. The program writes down every answer, with the parts that chance decides (IDs, times,
// tokens) replaced by names in the order in which they come up; with -compare the same seeds run against two binaries and the
// first answer that differs is printed.
//
// It owns the servers that it starts, each with data in a temporary folder. It never reads their databases. Every
// mismatch fails the run, unless it is reported as a fault that is known.
package main

import (
	"errors"
	"flag"
	"fmt"
	"hash"
	"hash/fnv"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// perServer is how many seeds one server serves before a new one starts: a database of a bounded size.
const perServer = 50

type options struct {
	binary, other, engine, transcripts string
	steps                              int
	verbose, strict                    bool
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "randomclient: FAILED:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	var o options
	flags := flag.NewFlagSet("randomclient", flag.ContinueOnError)
	flags.StringVar(&o.binary, "stoa", "bin/stoa", "the server under test")
	flags.StringVar(&o.other, "compare", "", "a second server, whose answers to the same seeds have to be the same")
	engines := flags.String("engine", "sqlite,postgres", "engines to test; postgres needs STOA_TEST_POSTGRES (scripts/with-postgres)")
	first := flags.Uint64("first", 1, "the first seed")
	seeds := flags.Uint64("seeds", 300, "the number of seeds")
	one := flags.Uint64("seed", 0, "run this seed alone")
	flags.IntVar(&o.steps, "steps", 60, "acts and syncs of a seed")
	flags.BoolVar(&o.verbose, "v", false, "print every request with its answer")
	flags.BoolVar(&o.strict, "strict", false, "fail on known faults too")
	flags.StringVar(&o.transcripts, "transcripts", "", "a folder to write the transcript of each seed to")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *one != 0 {
		*first, *seeds = *one, 1
	}
	var errs []error
	for engine := range strings.SplitSeq(*engines, ",") {
		o.engine = engine
		if err := o.runEngine(*first, *seeds); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", engine, err))
		}
	}
	return errors.Join(errs...)
}

// results is what all seeds of an engine add up to.
type results struct {
	known    map[string][]uint64 // name of a fault to the seeds that show it
	failed   []uint64
	differ   []uint64
	answers  hash.Hash64 // of all answers
	requests int
	slowest  time.Duration
	slow     uint64 // the slowest seed
}

func (o *options) runEngine(first, seeds uint64) error {
	sum := results{known: map[string][]uint64{}, answers: fnv.New64a()}
	began := time.Now()
	for from := first; from < first+seeds; from += perServer {
		if err := o.runBatch(from, min(perServer, first+seeds-from), &sum); err != nil {
			return err
		}
	}
	took := time.Since(began)
	fmt.Printf("randomclient: %s: %d seeds from %d in %v, %v each (slowest %v, seed %d), %d requests, answers %016x\n", o.engine, seeds, first, took.Round(time.Second),
		(took / time.Duration(seeds)).Round(time.Millisecond), sum.slowest.Round(time.Millisecond), sum.slow, sum.requests, sum.answers.Sum64())
	for _, name := range slices.Sorted(maps.Keys(sum.known)) {
		list := sum.known[name]
		fmt.Printf("randomclient: %s: known: %-24s %4d times in %d seeds, first in seed %d\n", o.engine, name, len(list), len(slices.Compact(slices.Clone(list))), list[0])
	}
	switch {
	case len(sum.failed) > 0:
		return fmt.Errorf("mismatches in seeds %v", sum.failed)
	case len(sum.differ) > 0:
		return fmt.Errorf("other answers in seeds %v", sum.differ)
	case o.strict && len(sum.known) > 0:
		return errors.New("known faults, and -strict is set")
	}
	return nil
}

// runBatch runs some seeds on one server, or on one of each binary.
func (o *options) runBatch(first, seeds uint64, sum *results) error {
	binaries := []string{o.binary}
	if o.other != "" {
		binaries = append(binaries, o.other)
	}
	var servers []*server
	for _, binary := range binaries {
		srv, err := newServer(binary, o.engine)
		if err != nil {
			return err
		}
		defer srv.remove()
		if err := srv.start(); err != nil {
			return err
		}
		servers = append(servers, srv)
	}
	for seed := first; seed < first+seeds; seed++ {
		var played []*model
		for i, srv := range servers {
			began := time.Now()
			w := newModel(srv, seed, o)
			err := w.play()
			if err != nil {
				return fmt.Errorf("seed %d, %s: %w\nthe server's log:\n%s", seed, binaries[i], err, srv.lastLog())
			}
			played = append(played, w)
			if took := time.Since(began); took > sum.slowest {
				sum.slowest, sum.slow = took, seed
			}
			sum.requests += int(w.requests.Load())
			if err := o.writeTranscript(i, seed, w); err != nil {
				return err
			}
		}
		sum.judge(o, seed, played)
	}
	return nil
}

// judge prints what was found in a seed, and adds it up.
func (t *results) judge(o *options, seed uint64, played []*model) {
	w := played[0]
	fmt.Fprintf(t.answers, "%016x", w.transcript.hash())
	for _, f := range w.faults {
		if f.known != "" {
			t.known[f.known] = append(t.known[f.known], seed)
		}
		if f.known == "" || o.verbose {
			fmt.Printf("randomclient: %s: seed %d: %s\n", o.engine, seed, f)
		}
	}
	if w.unknown() > 0 {
		t.failed = append(t.failed, seed)
	}
	if len(played) == 2 {
		if diff := firstDifference(played[0].transcript, played[1].transcript); diff != "" {
			fmt.Printf("randomclient: %s: seed %d: the answers differ\n%s", o.engine, seed, diff)
			t.differ = append(t.differ, seed)
		}
	}
}

func (o *options) writeTranscript(n int, seed uint64, w *model) error {
	if o.transcripts == "" {
		return nil
	}
	name := filepath.Join(o.transcripts, fmt.Sprintf("%s-%d-%c", o.engine, seed, 'a'+rune(n)))
	return os.WriteFile(name, []byte(strings.Join(w.transcript.lines, "\n")+"\n"), 0o600)
}
