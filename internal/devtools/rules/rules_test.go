package rules

import (
	"go/ast"
	"slices"
	"strings"
	"sync"
	"testing"

	"stoa/internal/devtools/source"
	"stoa/internal/devtools/spec"
)

var repository = sync.OnceValues(source.Load)

func load(t *testing.T) *source.Repository {
	t.Helper()
	repo, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

// ownModule says whether a package belongs to the server's module.
func ownModule(p *source.Package) bool {
	return !strings.HasPrefix(p.Dir, "test/differential") && !strings.HasPrefix(p.Dir, "test/peers")
}

func TestLayers(t *testing.T) {
	t.Parallel()
	for _, p := range load(t).Packages {
		if !ownModule(p) {
			continue
		}
		for _, f := range p.Files {
			if f.IsTest {
				continue
			}
			for _, to := range f.Imports() {
				if !strings.HasPrefix(to, "stoa/") {
					continue
				}
				if err := mayImport(p.Path, to); err != nil {
					t.Errorf("%s: %v", f.Name, err)
				}
			}
		}
	}
}

// What is for tests only must not get into the server.
func TestTestHelpersStayInTests(t *testing.T) {
	t.Parallel()
	for _, p := range load(t).Packages {
		if strings.HasSuffix(p.Path, "test") || strings.HasPrefix(p.Dir, "test/") {
			continue
		}
		for _, f := range p.Files {
			for _, to := range f.Imports() {
				if !f.IsTest && (to == "testing" || strings.HasPrefix(to, "stoa/") && strings.HasSuffix(to, "test")) {
					t.Errorf("%s imports %s, which is for tests", f.Name, to)
				}
			}
		}
	}
}

func TestLayerTable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, to string
		allowed  bool
	}{
		{"stoa/matrix/event", "stoa/matrix/id", true},
		{"stoa/matrix/event", "stoa/internal/store", false},
		{"stoa/internal/store", "stoa/matrix/id", true},
		{"stoa/internal/store", "stoa/internal/room", false},
		{"stoa/internal/clientsync", "stoa/internal/room", true},
		{"stoa/internal/room", "stoa/internal/clientsync", false},
		{"stoa/internal/room", "stoa/internal/reader", true},
		{"stoa/internal/reader", "stoa/internal/clientsync", false},
		{"stoa/internal/room", "stoa/internal/clientapi", false},
		{"stoa/internal/clientapi", "stoa/internal/webui", false},
		{"stoa/internal/clientapi", "stoa/internal/room", true},
		{"stoa/internal/room/visibility", "stoa/internal/room", true},
		{"stoa/internal/e2ee", "stoa/internal/e2ee/backup", true},
		{"stoa/internal/room", "stoa/internal/ops", false},
		{"stoa/cmd/stoa", "stoa/internal/ops", true},
		{"stoa/internal/ops", "stoa/internal/server", true},
		{"stoa/internal/server", "stoa/internal/clientapi", true},
		{"stoa/internal/server", "stoa/internal/ops", false},
		{"stoa/internal/clientapi", "stoa/internal/server", false},
		{"stoa/internal/ops", "stoa/internal/devtools/spec", false},
		{"stoa/elsewhere", "stoa/matrix/id", false},
	} {
		if err := mayImport(c.from, c.to); (err == nil) != c.allowed {
			t.Errorf("%s -> %s: %v", c.from, c.to, err)
		}
	}
}

func TestProtocolIsPure(t *testing.T) {
	t.Parallel()
	repo := load(t)
	for _, p := range repo.Packages {
		if !strings.HasPrefix(p.Path, "stoa/matrix/") || strings.HasSuffix(p.Path, "test") {
			continue
		}
		for _, f := range p.Files {
			if f.IsTest {
				continue
			}
			for _, to := range f.Imports() {
				root, _, _ := strings.Cut(to, "/")
				if why, ok := impure[to]; ok {
					t.Errorf("%s imports %s, but the protocol is pure: %s", f.Name, to, why)
				} else if root == "net" && to != "net/netip" && to != "net/http" {
					t.Errorf("%s imports %s, but the protocol is pure: it has no socket", f.Name, to)
				}
			}
			ast.Inspect(f.AST, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s starts a goroutine, but the protocol is pure: the caller decides what runs beside what", repo.Line(n))
				case *ast.SelectorExpr:
					x, ok := n.X.(*ast.Ident)
					if ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "NewTimer", "NewTicker", "AfterFunc"}, n.Sel.Name) {
						t.Errorf("%s asks the clock (time.%s), but the protocol is pure: take the time as an argument", repo.Line(n), n.Sel.Name)
					}
					if ok && x.Name == "http" && !strings.HasPrefix(n.Sel.Name, "Status") && !strings.HasPrefix(n.Sel.Name, "Method") {
						t.Errorf("%s uses http.%s, but the protocol is pure: only the names of statuses and methods may come from net/http", repo.Line(n), n.Sel.Name)
					}
				}
				return true
			})
		}
	}
}

func TestEveryPackageHasAComment(t *testing.T) {
	t.Parallel()
	for _, p := range load(t).Packages {
		var comments []string
		onlyTests := true
		for _, f := range p.Files {
			onlyTests = onlyTests && f.IsTest
			if f.AST.Doc != nil {
				comments = append(comments, f.Name)
			}
		}
		switch {
		case len(comments) == 0 && !onlyTests:
			t.Errorf("%s has no package comment: say what it is for, what it owns, what it never does, and the one invariant that matters", p.Dir)
		case len(comments) > 1:
			t.Errorf("%s has several package comments, in %s: keep one", p.Dir, strings.Join(comments, ", "))
		}
	}
}

func TestSpecReferencesExist(t *testing.T) {
	t.Parallel()
	repo := load(t)
	sections := spec.Sections()
	if len(sections) < 1000 {
		t.Fatalf("the index has %d sections only; make specindex", len(sections))
	}
	found := 0
	for _, p := range repo.Packages {
		for _, f := range p.Files {
			for _, group := range f.AST.Comments {
				for _, ref := range spec.References(group.Text()) {
					found++
					if !sections[ref] {
						t.Errorf("%s: the specification has no section %s", repo.Line(group), ref)
					}
				}
			}
		}
	}
	if found < 50 {
		t.Errorf("%d references found; the check does not see them", found)
	}
}
