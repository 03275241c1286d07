package rules

import (
	"go/ast"
	"slices"
	"strings"
	"testing"

	"stoa/internal/devtools/source"
)

// Each table has one package with the SQL that writes it.
func TestTableOwners(t *testing.T) {
	t.Parallel()
	repo := load(t)
	tables, err := tablesOfMigrations(repo.Root)
	if err != nil {
		t.Fatal(err)
	}
	if len(tables) < 40 {
		t.Errorf("found %d tables only: do the migrations look different?", len(tables))
	}
	tables = append(tables, "migrations") // made by the engine itself
	for _, table := range tables {
		if homesOf(table) == nil {
			t.Errorf("table %s has no owner: name the package with its SQL, and who may write it, in the table owners", table)
		}
	}
	for _, o := range owners {
		if !slices.Contains(tables, o.table) {
			t.Errorf("owners names the table %s, which no migration makes", o.table)
		}
	}
	found := 0
	for _, p := range repo.Packages {
		if !hasSQL(p) || !strings.HasPrefix(p.Path, internalPath) {
			continue
		}
		in := strings.TrimPrefix(p.Path, internalPath)
		if !isIn(in, "store") {
			t.Errorf("%s prepares statements: SQL is in packages below internal/store", p.Path)
		}
		for name, tables := range statementsOf(p) {
			for table := range tables {
				found++
				if _, ok := ownersOf(table, in); !ok {
					t.Errorf("%s.%s writes table %s, whose SQL is in %s: move the statement there", p.Path, name, table,
						strings.Join(homesOf(table), " and "))
				}
			}
		}
	}
	if found < 120 {
		t.Errorf("found %d statements that write only: are they written differently?", found)
	}
}

// Each table has one package that calls what writes it, but for those that owners
// and functionOwners name with a reason.
func TestTableWriters(t *testing.T) {
	t.Parallel()
	repo := load(t)
	all := map[string]writes{}
	for _, p := range repo.Packages {
		if in := strings.TrimPrefix(p.Path, internalPath); hasSQL(p) && in != "store" {
			all[in] = statementsOf(p)
			spread(p, all[in])
		}
	}
	for name := range functionOwners {
		in, function, _ := strings.Cut(name, ".")
		if len(all[in][function]) == 0 {
			t.Errorf("functionOwners names %s, which writes nothing, or is not there", name)
		}
	}
	calls := 0
	for _, p := range repo.Packages {
		if !ownModule(p) {
			continue
		}
		for _, f := range p.Files {
			if f.IsTest || isIn(p.Path, "stoa/test") || p.Path == "stoa/internal/clientsync/synctest" {
				continue // synctest writes what its tests are about, and nothing but tests imports it
			}
			calls += checkCalls(t, repo, p, f, all)
		}
	}
	if calls < 100 {
		t.Errorf("found %d calls that write only", calls)
	}
}

func checkCalls(t *testing.T, repo *source.Repository, p *source.Package, f *source.File, all map[string]writes) (calls int) {
	names := importNames(f, all)
	ast.Inspect(f.AST, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		if table, ok := engineWrites[sel.Sel.Name]; ok && p.Path != "stoa/internal/store" {
			calls++
			by, _ := ownersOf(table, "store")
			if !slices.Contains(by, strings.TrimPrefix(p.Path, internalPath)) {
				t.Errorf("%s: %s calls %s, which writes a room's row, and only package room may: ask it for what you want of the room",
					repo.Line(sel), p.Path, sel.Sel.Name)
			}
		}
		in := names[x.Name]
		tables := all[in][sel.Sel.Name]
		if in == "" || len(tables) == 0 {
			return true
		}
		calls++
		if err := mayWrite(p.Path, in, sel.Sel.Name, tables); err != nil {
			t.Errorf("%s: %v", repo.Line(sel), err)
		}
		return true
	})
	return calls
}

// A test that looks at all statements sees those of every package.
func TestAllStatementsAreSeen(t *testing.T) {
	t.Parallel()
	repo := load(t)
	var seen []string
	for _, p := range repo.Packages {
		if p.Path == "stoa/internal/store/storetest/tables" {
			for _, f := range p.Files {
				seen = append(seen, f.Imports()...)
			}
		}
	}
	for _, p := range repo.Packages {
		if strings.HasPrefix(p.Path, "stoa/internal/store/") && hasSQL(p) && !slices.Contains(seen, p.Path) {
			t.Errorf("%s is missing from store/storetest/tables, so that TestPlans and others look past its statements: import it there", p.Path)
		}
	}
}

func TestMayWrite(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		from, in, function, table string
		want                      bool
	}{
		{"stoa/internal/room", "store/roomdb", "AddEvent", "events", true},
		{"stoa/internal/clientsync", "store/roomdb", "AddEvent", "events", false},
		{"stoa/internal/account", "store/userdb", "DeleteDevice", "devices", true},
		{"stoa/internal/auth", "store/userdb", "DeleteDevice", "devices", false},
		{"stoa/internal/store/userdb", "store/keydb", "DeleteKeysOfUser", "device_keys", true},
	} {
		err := mayWrite(tc.from, tc.in, tc.function, map[string]bool{tc.table: true})
		if (err == nil) != tc.want {
			t.Errorf("%s calls %s.%s: %v", tc.from, tc.in, tc.function, err)
		}
	}
}
