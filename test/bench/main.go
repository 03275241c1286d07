// Command bench measures the server against floors taken in the same run and
// prints one line a figure: name, value, unit, ratio to its floor, and whether
// the target is met.
//
// It starts the server, the floors and the clients as processes of their own,
// prints what the clients took of the machine, and writes its data sets through
// package room in large groups. It never judges by the clock of another run:
// absolute targets hold for a bare net/http floor of 30,000 requests/s and
// scale with it below that.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 4 && args[0] == "floor" {
		return runFloor(args[1], args[2], args[3])
	}
	if len(args) == 2 && args[0] == "load" {
		return runLoad(args[1])
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("only", "", "comma-separated names of the benchmarks to run: "+strings.Join(benchmarkNames(), ", "))
	binary := flags.String("binary", "bin/stoa", "the server under test")
	postgres := flags.String("postgres", "", "postgres:// URL of an empty database to measure sends and starts on; without it those lines are not printed")
	seconds := flags.Float64("seconds", 10, "length of each measurement under load")
	profiles := flags.String("profiles", "", "a folder for CPU profiles of the instances of cluster.sends")
	if err := flags.Parse(args); err != nil {
		return err
	}
	b, err := newBench(*binary, *postgres, *seconds)
	if err != nil {
		return err
	}
	defer b.close()
	b.profiles = *profiles
	return b.run(*only)
}
