// Command mutants proves that the tests find the faults that matter most in this server: a read that is older than it may be,
// a wake-up that is lost, a parked request that is dropped.
//
// Each mutant is an overlay of files in which it replaces a text (table.go). Its test has to pass on the true sources and to
// fail on the mutant. It changes nothing in the repository. A text that is not there any more, a mutant that does not compile
// and a mutant that survives are failures.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// testLimit ends a test that waits for what a mutant has lost.
const testLimit = 60 * time.Second

func main() {
	only := flag.String("only", "", "a regular expression for the names of mutants to try")
	flag.Parse()
	if err := run(*only); err != nil {
		fmt.Fprintln(os.Stderr, "mutants: FAILED:", err)
		os.Exit(1)
	}
}

func run(only string) error {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "stoa-mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	passed := map[string]bool{} // tests that pass on the true sources
	var errs []error
	for _, m := range mutants {
		if !wanted.MatchString(m.name) {
			continue
		}
		if err := m.try(dir, passed); err != nil {
			fmt.Printf("mutants: %-24s %v\n", m.name, err)
			errs = append(errs, errors.New(m.name))
		}
	}
	return errors.Join(errs...)
}

// try says nil if the mutant is caught by its test.
func (m *mutant) try(dir string, passed map[string]bool) error {
	overlay, err := m.overlay(filepath.Join(dir, m.name))
	if err != nil {
		return err
	}
	if key := m.pkg + m.test; !passed[key] {
		if out, err := m.runTest(""); err != nil {
			return fmt.Errorf("its test fails on the true sources: %w\n%s", err, out)
		}
		passed[key] = true
	}
	began := time.Now()
	out, err := m.runTest(overlay)
	switch {
	case err == nil:
		return fmt.Errorf("SURVIVES %s of %s (%s)", m.test, m.pkg, m.breaks)
	case !m.isCaught(out):
		return fmt.Errorf("its test does not run: %w\n%s", err, out)
	}
	fmt.Printf("mutants: %-24s caught by %s of %s in %.0f s\n", m.name, strings.Trim(m.test, "^$"), m.pkg, time.Since(began).Seconds())
	return nil
}

// isCaught says that the test itself failed, or waited for too long.
func (m *mutant) isCaught(out string) bool {
	name := strings.Trim(m.test, "^$")
	return strings.Contains(out, "--- FAIL: "+name) || strings.Contains(out, "panic: test timed out") && strings.Contains(out, "\t"+name) ||
		strings.Contains(out, "panic: ") && strings.Contains(out, name)
}

// overlay writes the changed files and the list that names them.
func (m *mutant) overlay(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	changed := map[string]string{}
	for _, e := range m.edits {
		file, err := filepath.Abs(e.path)
		if err != nil {
			return "", err
		}
		text, ok := changed[file]
		if !ok {
			read, err := os.ReadFile(file)
			if err != nil {
				return "", err
			}
			text = string(read)
		}
		if n := strings.Count(text, e.was); n != 1 {
			return "", fmt.Errorf("%s says %q %d times, want once: look for what it says now, and name it in test/mutants/table.go", e.path, e.was, n)
		}
		changed[file] = strings.Replace(text, e.was, e.is, 1)
	}
	replace := map[string]string{}
	for file, text := range changed {
		copied := filepath.Join(dir, fmt.Sprintf("%d-%s", len(replace), filepath.Base(file)))
		if err := os.WriteFile(copied, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[file] = copied
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	list := filepath.Join(dir, "overlay.json")
	return list, os.WriteFile(list, text, 0o600)
}

// runTest runs the mutant's test, on the true sources if there is no overlay.
func (m *mutant) runTest(overlay string) (string, error) {
	args := []string{"test", "-count=1", "-timeout", testLimit.String(), "-run", m.test}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	out, err := exec.Command("go", append(args, "./"+m.pkg)...).CombinedOutput()
	if err == nil && strings.Contains(string(out), "no tests to run") {
		err = errors.New("there is no such test")
	}
	return string(out), err
}
