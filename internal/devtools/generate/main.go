// Command generate writes the files that are made from the Go source:
//
//	stoa.example.yaml      a sample of all settings
//	docs/settings.md       the manual of the settings
//	docs/metrics.md        the list of metrics
//	docs/spec-coverage.md  endpoint, handler, test; what is missing is named
//	docs/packages.md       every package: purpose, size, imports
//
// With -check it writes nothing and fails if a file is not what it would write.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"stoa/internal/devtools/source"
)

func main() {
	check := flag.Bool("check", false, "write nothing; fail if a file is out of date")
	flag.Parse()
	if err := run(*check); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(check bool) error {
	repo, err := source.Load()
	if err != nil {
		return err
	}
	settings, err := readSettings(repo)
	if err != nil {
		return err
	}
	coverage, err := coveragePage(repo)
	if err != nil {
		return err
	}
	var stale []error
	for _, f := range []struct{ name, text string }{
		{"stoa.example.yaml", sampleFile(settings)},
		{"docs/settings.md", settingsPage(settings)},
		{"docs/metrics.md", metricsPage(repo)},
		{"docs/spec-coverage.md", coverage},
		{"docs/packages.md", packagesPage(repo)},
	} {
		path := filepath.Join(repo.Root, f.name)
		is, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		switch {
		case string(is) == f.text:
		case check:
			stale = append(stale, fmt.Errorf("%s is not up to date: run 'make generate' and commit it", f.name))
		default:
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(path, []byte(f.text), 0o644); err != nil {
				return err
			}
			fmt.Println("wrote", f.name)
		}
	}
	return errors.Join(stale...)
}
