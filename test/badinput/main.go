// Command badinput sends malformed requests to every endpoint that is served:
// made from the specification's schemas, each broken in one stated way. Every
// answer must be a 4xx with the right errcode; nothing may be stored, and no
// handler may panic.
//
// It owns the server that it starts and the requests that it makes. It never
// breaks what the specification says to ignore (unknown keys, say), and never
// sends what is right, so that nothing it does has an effect.
package main

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"stoa/internal/devtools/spec"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "badinput: FAILED:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("badinput", flag.ContinueOnError)
	binary := flags.String("binary", "bin/stoa", "the server under test")
	each := flags.Int("n", 300, "requests for each endpoint")
	only := flags.String("only", "", "part of the path of the endpoints to test; all if empty")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the random choices")
	if err := flags.Parse(args); err != nil {
		return err
	}
	requests, err := spec.Requests()
	if err != nil {
		return err
	}
	fixture, err := open(*binary)
	if err != nil {
		return err
	}
	defer fixture.close()
	t := &tester{fixture: fixture, rnd: rand.New(rand.NewPCG(*seed, 1)), each: *each, kinds: map[string]int{}}
	fmt.Printf("badinput: %d requests for each endpoint, seed %d\n", *each, *seed)
	for _, r := range slices.Concat(requests, unstable()) {
		if !strings.Contains(r.Path, *only) {
			continue
		}
		if err := t.endpoint(r); err != nil {
			return err
		}
	}
	return t.report()
}

// tester counts what was sent and what was answered wrongly.
type tester struct {
	fixture *fixture
	rnd     *rand.Rand
	each    int

	sent, endpoints int
	kinds           map[string]int
	nothing         []string // endpoints at which nothing can be malformed
	wrong           []string
}

// endpoint sends the malformed requests of one endpoint.
func (t *tester) endpoint(r spec.Request) error {
	name := r.Method + " " + r.Path
	served, err := t.fixture.serves(r)
	if err != nil || !served {
		return err
	}
	breakers := breakersOf(r, t.fixture)
	if len(breakers) == 0 {
		t.nothing = append(t.nothing, name)
		return nil
	}
	t.endpoints++
	before, err := t.fixture.counters()
	if err != nil {
		return err
	}
	found := map[string]int{} // what was wrong, and how often
	for i := range t.each {
		// Each way once, then by chance.
		b := breakers[i%len(breakers)]
		if i >= len(breakers) {
			b = breakers[t.rnd.IntN(len(breakers))]
		}
		call := b.make(t.rnd)
		t.sent++
		t.kinds[b.kind]++
		if problem, err := t.fixture.judge(call, b); err != nil {
			return fmt.Errorf("%s, %s: %w", name, b.what, err)
		} else if problem != "" {
			found[b.kind+": "+b.what+": "+problem]++
		}
	}
	after, err := t.fixture.settled(before)
	if err != nil {
		return err
	}
	if after.changes != before.changes {
		found[fmt.Sprintf("%v changes were stored", after.changes-before.changes)]++
	}
	if after.panics != before.panics {
		found[fmt.Sprintf("%v handlers panicked", after.panics-before.panics)]++
	}
	for problem, times := range found {
		t.wrong = append(t.wrong, fmt.Sprintf("%s: %s (%d times)", name, problem, times))
	}
	return t.fixture.logInAgain()
}

func (t *tester) report() error {
	fmt.Printf("badinput: %d malformed requests to %d endpoints\n", t.sent, t.endpoints)
	for _, kind := range sortedKeys(t.kinds) {
		fmt.Printf("badinput:   %6d %s\n", t.kinds[kind], kind)
	}
	for _, name := range t.nothing {
		fmt.Println("badinput: nothing can be malformed at", name)
	}
	if len(t.wrong) == 0 {
		fmt.Println("badinput: passed: each was refused with a 4xx and the right errcode, and nothing was stored")
		return nil
	}
	slices.Sort(t.wrong)
	for _, line := range t.wrong {
		fmt.Println("badinput: WRONG:", line)
	}
	return errors.New(fmt.Sprint(len(t.wrong), " kinds of malformed requests were answered wrongly, see above"))
}

func sortedKeys[V any](m map[string]V) []string {
	all := make([]string, 0, len(m))
	for key := range m {
		all = append(all, key)
	}
	slices.Sort(all)
	return all
}
