package main

import (
	"go/ast"
	"path"
	"slices"
	"strings"

	"stoa/internal/devtools/source"
	"stoa/internal/devtools/spec"
)

// hole stands for a part of a path that is not known before a test runs.
const hole = "\x00"

// testFunction is a function of a package's tests: what it asks for itself, and
// whom it calls.
type testFunction struct {
	asks  map[int]bool // places in the list of endpoints
	calls map[string]bool
}

// findTests gives, for each endpoint, the names of the tests that ask for it.
func findTests(repo *source.Repository, endpoints []spec.Endpoint) map[int][]string {
	asked := map[int][]string{}
	for _, p := range repo.Packages {
		if strings.HasPrefix(p.Dir, "internal/devtools") {
			continue // the tests of these tools hold paths as examples and ask for nothing
		}
		functions := map[string]*testFunction{}
		known := p.Constants()
		for _, f := range p.Files {
			if !f.IsTest && !strings.HasPrefix(p.Dir, "test/") {
				continue
			}
			for _, decl := range f.AST.Decls {
				if fn, ok := decl.(*ast.FuncDecl); ok && fn.Body != nil {
					functions[fn.Name.Name] = readTest(fn, known, endpoints)
				}
			}
		}
		for name := range functions {
			if !strings.HasPrefix(name, "Test") && !strings.HasPrefix(name, "Fuzz") {
				continue
			}
			for i := range reached(functions, name) {
				asked[i] = append(asked[i], path.Base(p.Dir)+"."+name)
			}
		}
	}
	for i := range asked {
		slices.Sort(asked[i])
	}
	return asked
}

// reached gives the endpoints that a test asks for, itself or by its helpers.
func reached(functions map[string]*testFunction, name string) map[int]bool {
	all, seen, todo := map[int]bool{}, map[string]bool{}, []string{name}
	for len(todo) > 0 {
		fn := functions[todo[0]]
		here := todo[0]
		todo = todo[1:]
		if fn == nil || seen[here] {
			continue
		}
		seen[here] = true
		for i := range fn.asks {
			all[i] = true
		}
		for called := range fn.calls {
			todo = append(todo, called)
		}
	}
	return all
}

func readTest(fn *ast.FuncDecl, known map[string]string, endpoints []spec.Endpoint) *testFunction {
	t := &testFunction{asks: map[int]bool{}, calls: map[string]bool{}}
	for line := range strings.Lines(fn.Doc.Text()) {
		if list, ok := strings.CutPrefix(line, "Covers:"); ok {
			for _, id := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '.' }) {
				for i, e := range endpoints {
					if e.OperationID == id {
						t.asks[i] = true
					}
				}
			}
		}
	}
	var above []ast.Node // the nodes around the one being looked at
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		if n == nil {
			above = above[:len(above)-1]
			return false
		}
		descend := true
		switch n := n.(type) {
		case *ast.CallExpr:
			t.calls[functionName(n.Fun)] = true
		case ast.Expr:
			if text, ok := pathIn(n, known); ok {
				t.asksFor(text, methodAround(above), endpoints)
				descend = false
			}
		}
		if call, ok := n.(*ast.CallExpr); ok {
			if text, ok := pathIn(call, known); ok { // fmt.Sprintf("/rooms/%s/join", …)
				t.asksFor(text, methodAround(above), endpoints)
				descend = false
			}
		}
		if descend {
			above = append(above, n)
		}
		return descend
	})
	return t
}

func functionName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.IndexExpr:
		return functionName(e.X)
	}
	return ""
}

// pathIn reads an expression as the path of a request.
func pathIn(e ast.Expr, known map[string]string) (string, bool) {
	switch e.(type) {
	case *ast.BasicLit, *ast.BinaryExpr, *ast.CallExpr:
	default:
		return "", false
	}
	text, ok := source.Text(e, known, hole)
	if !ok || text == hole {
		return "", false
	}
	text, _, _ = strings.Cut(text, "?")
	for _, root := range []string{"/_matrix/", "/.well-known/"} {
		if at := strings.Index(text, root); at >= 0 {
			return text[at:], true
		}
	}
	text = strings.TrimPrefix(text, hole)
	return text, len(text) > 1 && text[0] == '/' && !strings.ContainsAny(text, " \n")
}

// methodAround finds the method that stands beside a path: in the call or the
// literal around it, or in the name of the function that is called.
func methodAround(above []ast.Node) string {
	for depth := 0; depth < 3 && depth < len(above); depth++ {
		n := above[len(above)-1-depth]
		for _, part := range partsOf(n) {
			if m := methodOf(part); m != "" {
				return m
			}
		}
		if call, ok := n.(*ast.CallExpr); ok {
			name := strings.ToUpper(functionName(call.Fun))
			for _, m := range httpMethods {
				if strings.HasPrefix(name, m) || strings.HasSuffix(name, m) {
					return m
				}
			}
		}
	}
	return ""
}

// asksFor notes the endpoints of a path. A path without /_matrix/ is taken as
// the end of one, behind the version. Without a method all of the path's count.
func (t *testFunction) asksFor(text, method string, endpoints []spec.Endpoint) {
	for i, e := range endpoints {
		if method != "" && method != e.Method {
			continue
		}
		full := e.Path
		if !strings.HasPrefix(text, "/_matrix/") && !strings.HasPrefix(text, "/.well-known/") {
			parts := strings.SplitN(full, "/", 5) // "", _matrix, client, v3, rest
			if len(parts) < 5 || parts[1] != "_matrix" {
				continue
			}
			full = "/" + parts[4]
		}
		if samePath(full, text) {
			t.asks[i] = true
		}
	}
}

// samePath compares an endpoint's path with one of a test: a value matches what
// is not empty, a literal only itself.
func samePath(endpoint, text string) bool {
	want, is := strings.Split(endpoint, "/"), strings.Split(text, "/")
	if len(want) != len(is) {
		return false
	}
	for i := range want {
		if strings.HasPrefix(want[i], "{") {
			if is[i] == "" {
				return false
			}
		} else if want[i] != is[i] {
			return false
		}
	}
	return true
}
