// Package rules holds the repository to its own rules, as ordinary tests: which
// package may import which, which package writes which table, that every package
// says what it is for, how large things may be, which words names and texts may not
// use, and that every reference to the specification names a section that exists.
//
// It owns the table of layers, the table owners and the list of banned words. It never
// changes a file. Each failure gives the reason of its rule.
package rules

import (
	"fmt"
	"slices"
	"strings"
)

// layer is a height in the picture of docs/ARCHITECTURE.md: imports go down
// only, and within a layer only where siblings allow it.
type layer struct {
	name     string
	packages []string // beginnings of import paths
	below    []string // layers that may be imported
	siblings []string // packages of the same layer that may be imported; "*" for all
	why      string
}

var layers = []layer{
	{
		name:     "protocol",
		packages: []string{"stoa/matrix/"},
		siblings: []string{"*"},
		why:      "matrix/ is a library of pure functions: it knows no server, so that it can be fuzzed, compared and run a thousand times",
	},
	{
		name: "ground",
		packages: []string{
			"stoa/internal/store", "stoa/internal/bus", "stoa/internal/blob", "stoa/internal/fedclient", "stoa/internal/httpkit",
			"stoa/internal/telemetry", "stoa/internal/config", "stoa/internal/token", "stoa/internal/timeline", "stoa/internal/packed", "stoa/internal/stablehash", "stoa/internal/thumbnail", "stoa/internal/textsearch",
			"stoa/internal/who", "stoa/internal/cache", "stoa/internal/email", "stoa/internal/sealed", "stoa/internal/parking", "stoa/internal/outbound",
		},
		below:    []string{"protocol"},
		siblings: []string{"*"},
		why:      "ground packages serve the domain and know nothing of it: move what both need down, or read it by position from the stream",
	},
	{
		name:     "domain",
		packages: []string{"stoa/internal/"}, // all that no other layer has
		below:    []string{"ground", "protocol"},
		siblings: []string{"stoa/internal/room", "stoa/internal/history", "stoa/internal/account", "stoa/internal/auth", "stoa/internal/reader", "stoa/internal/streamcache"},
		why:      "domain packages import sideways only towards room, history, account, auth, reader and streamcache: declare the small interface that is needed, and read reactions from the stream",
	},
	{
		name:     "edges",
		packages: []string{"stoa/internal/clientapi", "stoa/internal/fedapi", "stoa/internal/adminapi", "stoa/internal/mediaapi", "stoa/internal/webui"},
		below:    []string{"domain", "ground", "protocol"},
		why:      "an HTTP edge parses, calls one function and answers; edges share nothing but what lies below them",
	},
	{
		name:     "wiring",
		packages: []string{"stoa/internal/server"},
		below:    []string{"edges", "domain", "ground", "protocol"},
		why:      "server puts everything together, and only commands and tests start one",
	},
	{
		name:     "commands",
		packages: []string{"stoa/internal/ops", "stoa/cmd/"},
		below:    []string{"wiring", "edges", "domain", "ground", "protocol"},
		siblings: []string{"stoa/internal/ops"},
		why:      "nothing knows of ops but cmd/stoa",
	},
	{
		name:     "tools",
		packages: []string{"stoa/internal/devtools/", "stoa/test/"},
		below:    []string{"commands", "wiring", "edges", "domain", "ground", "protocol"},
		siblings: []string{"*"},
		why:      "tools and tests look at everything and nothing may depend on them",
	},
}

// layerOf gives the layer of an import path: the one with the longest beginning.
func layerOf(path string) (found layer, ok bool) {
	longest := -1
	for _, l := range layers {
		for _, p := range l.packages {
			if isIn(path, p) && len(p) > longest {
				found, longest = l, len(p)
			}
		}
	}
	return found, longest >= 0
}

// isIn says whether a path is the package, or below the folder, of a beginning.
func isIn(path, beginning string) bool {
	if strings.HasSuffix(beginning, "/") {
		return strings.HasPrefix(path, beginning)
	}
	return path == beginning || strings.HasPrefix(path, beginning+"/")
}

// mayImport says why a package may not import another; nil if it may.
func mayImport(from, to string) error {
	upper, ok := layerOf(from)
	if !ok {
		return fmt.Errorf("%s is in no layer: add it to the table in internal/devtools/rules", from)
	}
	lower, ok := layerOf(to)
	if !ok {
		return fmt.Errorf("%s imports %s, which is in no layer", from, to)
	}
	if upper.name == lower.name {
		family := func(p string) bool { return isIn(from, p) && isIn(to, p) }
		if slices.Contains(upper.siblings, "*") || slices.ContainsFunc(upper.siblings, func(s string) bool { return isIn(to, s) }) ||
			slices.ContainsFunc(topPackages(from), family) {
			return nil
		}
		return fmt.Errorf("%s (%s) imports its sibling %s: %s", from, upper.name, to, upper.why)
	}
	if slices.Contains(upper.below, lower.name) {
		return nil
	}
	return fmt.Errorf("%s (%s) imports %s (%s), and imports go down only: %s", from, upper.name, to, lower.name, lower.why)
}

// topPackages gives the package of stoa/internal in which a path lies, so that
// a package may import its own inner ones.
func topPackages(path string) []string {
	parts := strings.Split(path, "/")
	if len(parts) < 3 {
		return nil
	}
	return []string{strings.Join(parts[:3], "/")}
}

// impure are the packages that pure code may not know, with the reason.
var impure = map[string]string{
	"os":           "it has no disk and no environment",
	"io/fs":        "it has no disk",
	"net":          "it has no socket",
	"log":          "it has no log",
	"log/slog":     "it has no log",
	"database/sql": "it has no database",
	"context":      "it waits for nothing",
	"math/rand":    "same input, same output",
	"math/rand/v2": "same input, same output",
	"crypto/rand":  "same input, same output",
	"os/exec":      "it starts nothing",
}
