package rules

import (
	"fmt"
	"go/ast"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"stoa/internal/devtools/source"
)

// Names, comments and documents use words that an engineer already knows. With -v
// the test prints how often each banned word occurs in names and in prose.
func TestBannedWords(t *testing.T) {
	t.Parallel()
	repo := load(t)
	inNames, inProse := map[string]int{}, map[string]int{}
	report := func(where, text string, prose bool) {
		for _, b := range bannedIn(text, prose) {
			kind := "the name " + text
			if prose {
				kind = "the text"
				inProse[b.word]++
			} else {
				inNames[b.word]++
			}
			t.Errorf("%s: %s has the word %q: say %s", where, kind, b.word, b.say)
		}
	}
	for _, p := range repo.Packages {
		if p.Path == "stoa/internal/devtools/rules" {
			continue // the list itself
		}
		for _, f := range p.Files {
			report(f.Name, strings.TrimSuffix(filepath.Base(f.Name), ".go"), false)
			declaredNames(f.AST, func(id *ast.Ident) { report(repo.Line(id), id.Name, isTestName(id.Name)) })
			for _, group := range f.AST.Comments {
				for _, c := range group.List {
					report(repo.Line(c), c.Text, true)
				}
			}
		}
	}
	for name, text := range documents(t, repo) {
		for i, line := range strings.Split(codeBlock.ReplaceAllStringFunc(text, onlyLines), "\n") {
			report(fmt.Sprintf("%s:%d", name, i+1), line, true)
		}
	}
	for _, b := range banned {
		t.Logf("%-10s %4d in names %4d in prose", b.word, inNames[b.word], inProse[b.word])
	}
}

// onlyLines keeps of a piece of code only where its lines end.
func onlyLines(code string) string { return strings.Repeat("\n", strings.Count(code, "\n")) }

// documents gives the text of every page for people, by its name.
func documents(t *testing.T, repo *source.Repository) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "deploy/*.md", "test/*/*.md", "*.example.yaml"} {
		files, err := filepath.Glob(filepath.Join(repo.Root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			name, err := filepath.Rel(repo.Root, file)
			if err != nil {
				t.Fatal(err)
			}
			all[filepath.ToSlash(name)] = string(text)
		}
	}
	if len(all) < 10 {
		t.Errorf("found %d documents only: %v", len(all), slices.Sorted(maps.Keys(all)))
	}
	return all
}

func TestWordsOf(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"onHTTPHandOver":    "on http hand over",
		"Handler":           "handler",
		"hands2":            "hands",
		"TestX_keeps_names": "test x keeps names",
		"userIDs":           "user i ds",
		"LimitURL":          "limit url",
	} {
		if got := strings.Join(wordsOf(name), " "); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestBannedIn(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text  string
		prose bool
		want  string
	}{
		{"handedOver", false, "handed"},
		{"handler", false, ""},
		{"IsWorldReadable", false, ""},
		{"worldOfTests", false, "world"},
		{"the room is told of it", true, ""},
		{"a glimpse of the room", true, "glimpse"},
		{"the metric `stoa_glimpse_total` stays", true, ""},
		{"column world_readable", true, ""},
	} {
		got := ""
		for _, b := range bannedIn(tc.text, tc.prose) {
			got += b.word
		}
		if got != tc.want {
			t.Errorf("%q: got %q, want %q", tc.text, got, tc.want)
		}
	}
}

// Two names that differ only by case are one name to a reader.
func TestNamesDifferByMoreThanCase(t *testing.T) {
	t.Parallel()
	repo := load(t)
	for _, p := range repo.Packages {
		byName := map[string][]*ast.File{} // a folder holds a package and its external tests
		for _, f := range p.Files {
			if !strings.HasSuffix(f.Name, "/export_test.go") { // it exports names under their own
				byName[f.AST.Name.Name] = append(byName[f.AST.Name.Name], f.AST)
			}
		}
		for _, files := range byName {
			for _, pair := range sameButForCase(files) {
				t.Errorf("%s: %s and %s differ only by case", repo.Line(pair[1]), pair[0].Name, pair[1].Name)
			}
		}
	}
}
