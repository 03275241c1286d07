// Command complement reads what a run of the conformance suite printed (go tool test2json) and compares the tests that
// passed with test/complement/passing.txt. Fewer are a failure; more are named, so that they can be added. The list only
// grows: a test of internal/devtools/rules compares it with all earlier commits.
//
// scripts/complement runs it. The folder _deployment holds the code that the suite needs to start servers without containers.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
)

const passingFile = "test/complement/passing.txt"

// result is one line of go tool test2json.
type result struct {
	Action, Package, Test string
}

func main() {
	output := flag.String("output", "", "what go tool test2json printed")
	update := flag.Bool("update", false, "add the names of the tests that passed to "+passingFile)
	flag.Parse()
	if err := run(*output, *update); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(output string, update bool) error {
	passed, failed, packages, err := read(output)
	if err != nil {
		return err
	}
	want, err := passing()
	if err != nil {
		return err
	}
	var notRun []string
	for _, name := range want {
		if !packages[packageOf(name)] {
			notRun = append(notRun, name)
		}
	}
	want = slices.DeleteFunc(want, func(name string) bool { return !packages[packageOf(name)] })
	top := func(names []string) (n int) {
		for _, name := range names {
			if !strings.Contains(testOf(name), "/") {
				n++
			}
		}
		return n
	}
	fmt.Printf("passed %d (top level %d), failed %d (top level %d)\n", len(passed), top(passed), len(failed), top(failed))
	for _, name := range failed {
		if !strings.Contains(testOf(name), "/") {
			fmt.Println("failed:", name)
		}
	}
	if update { // names that passed before stay in the list, and fail below
		all := slices.Compact(slices.Sorted(slices.Values(slices.Concat(want, passed, notRun))))
		if err := os.WriteFile(passingFile, []byte(strings.Join(all, "\n")+"\n"), 0o644); err != nil {
			return err
		}
	}
	for _, name := range passed {
		if _, listed := slices.BinarySearch(want, name); !listed && !update {
			fmt.Println("passes now and is not in the list (-update adds it):", name)
		}
	}
	var lost []string
	for _, name := range want {
		if _, does := slices.BinarySearch(passed, name); !does {
			lost = append(lost, name)
		}
	}
	if len(lost) > 0 {
		return fmt.Errorf("%d tests passed before and don't now:\n%s", len(lost), strings.Join(lost, "\n"))
	}
	return nil
}

// A name is a package and a test: tests/csapi TestLogin/parallel/…
func packageOf(name string) string { p, _, _ := strings.Cut(name, " "); return p }
func testOf(name string) string    { _, t, _ := strings.Cut(name, " "); return t }

func read(output string) (passed, failed []string, packages map[string]bool, err error) {
	file, err := os.Open(output)
	if err != nil {
		return nil, nil, nil, err
	}
	defer file.Close()
	packages = map[string]bool{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 64<<20) // a test that fails prints the log of its server
	for lines.Scan() {
		var r result
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, nil, nil, fmt.Errorf("%s: %w", output, err)
		}
		packages[r.Package] = true
		if r.Test == "" {
			continue
		}
		switch r.Action {
		case "pass":
			passed = append(passed, r.Package+" "+r.Test)
		case "fail":
			failed = append(failed, r.Package+" "+r.Test)
		}
	}
	if len(passed) == 0 && lines.Err() == nil {
		return nil, nil, nil, fmt.Errorf("%s names no test that passed: the suite did not run", output)
	}
	slices.Sort(passed)
	slices.Sort(failed)
	return passed, failed, packages, lines.Err()
}

func passing() ([]string, error) {
	text, err := os.ReadFile(passingFile)
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n"), nil
}
