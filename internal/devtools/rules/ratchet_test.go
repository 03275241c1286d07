package rules

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// noLonger names what once passed or was served and is meant to be gone, with the reason: a test that the suite renamed,
// an endpoint that the specification took back.
var noLonger = map[string]string{}

var servedRow = regexp.MustCompile("^\\| `([A-Z]+ /[^`]*)` \\| `[^|]*` \\| `")

// Every name that a committed version of these lists ever had must still be in it: the conformance tests that pass, and
// the endpoints that are served and tested.
func TestListsOnlyGrow(t *testing.T) {
	t.Parallel()
	root := load(t).Root
	if _, err := os.Stat(filepath.Join(root, ".git")); err != nil {
		t.Skip("not run: this is no git checkout, so there are no earlier lists")
	}
	for file, name := range map[string]func(line string) string{
		"test/complement/passing.txt": func(line string) string { return line },
		"docs/spec-coverage.md": func(line string) string {
			if row := servedRow.FindStringSubmatch(line); row != nil {
				return row[1]
			}
			return ""
		},
	} {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		// The lines that any commit added; in a shallow clone, those of its oldest commit and later ones.
		history, err := exec.Command("git", "-C", root, "log", "-p", "--format=", "--", file).Output()
		if err != nil {
			t.Fatalf("git log of %s: %v", file, err)
		}
		for _, lost := range lostNames(string(text), string(history), name) {
			if noLonger[lost] == "" {
				t.Errorf("%s had %q in an earlier commit and has it no more: mend it, or give a reason in noLonger (internal/devtools/rules/ratchet_test.go)", file, lost)
			}
		}
	}
}

// lostNames gives the names that a history of patches added and that the text does not have, each once.
func lostNames(text, history string, name func(line string) string) (lost []string) {
	has := map[string]bool{"": true}
	for line := range strings.Lines(text) {
		has[name(strings.TrimSuffix(line, "\n"))] = true
	}
	for line := range strings.Lines(history) {
		added, ok := strings.CutPrefix(line, "+")
		if !ok || strings.HasPrefix(added, "++ ") {
			continue
		}
		if n := name(strings.TrimSuffix(added, "\n")); !has[n] {
			has[n] = true
			lost = append(lost, n)
		}
	}
	return lost
}

func TestLostNames(t *testing.T) {
	t.Parallel()
	history := "--- /dev/null\n+++ b/passing.txt\n@@ -0,0 +1,2 @@\n+tests TestA\n+tests TestB\n--- a/passing.txt\n+++ b/passing.txt\n-tests TestB\n+tests TestC\n"
	whole := func(line string) string { return line }
	if got := strings.Join(lostNames("tests TestA\ntests TestC\n", history, whole), ", "); got != "tests TestB" {
		t.Errorf("lost: %q, want tests TestB", got)
	}
	if got := lostNames("tests TestA\ntests TestB\ntests TestC\n", history, whole); len(got) > 0 {
		t.Errorf("lost of a list that only grew: %q", got)
	}
}
