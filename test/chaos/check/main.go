// Command check reads the history of a chaos run and says whether the promises
// of the server were kept: nothing acknowledged lost or doubled, one order for
// everyone, nobody going backwards, keys given once, to-device messages exactly
// once, refusals clear and repeatable, clients back within seconds.
//
// It owns the rules, each a named check that prints a counterexample, and
// nothing else: it talks to no server.
//
// Invariant: a history that lacks what a rule needs fails it; a rule never
// passes for want of evidence.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"stoa/test/chaos/history"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "chaos-check: FAILED:", err)
		os.Exit(1)
	}
}

// shownBreaches is how many counterexamples of a check are printed.
const shownBreaches = 5

func run(args []string) error {
	flags := flag.NewFlagSet("chaos-check", flag.ContinueOnError)
	broken := flags.Bool("broken", false, "the server was broken: fail unless something stored or shown is wrong")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("one argument is needed: the file of a history")
	}
	f, err := os.Open(flags.Arg(0))
	if err != nil {
		return err
	}
	defer f.Close()
	records, err := history.Read(f)
	if err != nil {
		return fmt.Errorf("%s: %w", flags.Arg(0), err)
	}
	h, err := index(records)
	if err != nil {
		return fmt.Errorf("%s: %w", flags.Arg(0), err)
	}
	fmt.Println("chaos-check:", h.summary())
	for _, line := range h.figures() {
		fmt.Println("chaos-check:", line)
	}
	var failed, unsafe []string
	for _, c := range checks {
		breaches := c.find(h)
		if len(breaches) == 0 {
			fmt.Printf("chaos-check: ok    %-20s %s\n", c.name, c.promise)
			continue
		}
		failed = append(failed, c.name)
		if !c.progress {
			unsafe = append(unsafe, c.name)
		}
		fmt.Printf("chaos-check: WRONG %-20s %s: %d times\n", c.name, c.promise, len(breaches))
		for _, b := range breaches[:min(len(breaches), shownBreaches)] {
			fmt.Println("chaos-check:      ", b)
		}
	}
	if *broken {
		if len(unsafe) == 0 {
			return errors.New("it was not found out that the server is broken")
		}
		fmt.Println("chaos-check: the server is broken, as was said: it shows in", strings.Join(unsafe, ", "))
		return nil
	}
	if len(failed) > 0 {
		return fmt.Errorf("seed %d broke: %s", h.seed, strings.Join(failed, ", "))
	}
	return nil
}
