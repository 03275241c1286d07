package main

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"

	"stoa/internal/devtools/source"
	"stoa/internal/devtools/spec"
)

// coveragePage says of every endpoint of the client-server API which function
// serves it and which tests ask for it.
func coveragePage(repo *source.Repository) (string, error) {
	endpoints, err := spec.Endpoints()
	if err != nil {
		return "", err
	}
	routes := findRoutes(repo)
	asked := findTests(repo, endpoints)

	served, tested := 0, 0
	var tables, missing strings.Builder
	matched := map[int]bool{}
	file := ""
	for i, e := range endpoints {
		if e.File != file {
			file = e.File
			fmt.Fprintf(&tables, "\n## %s\n\n| endpoint | handler | tests |\n|---|---|---|\n", strings.ReplaceAll(file, "_", " "))
		}
		handler, tests := "**missing**", "–"
		for j, r := range routes {
			if r.method == e.Method && shape(r.pattern) == shape(e.Path) {
				handler = "`" + r.handler + "`"
				matched[j] = true
			}
		}
		if handler != "**missing**" {
			served++
			tests = "**no test**"
			if len(asked[i]) > 0 {
				tested++
				tests = shownTests(asked[i])
			}
		} else {
			fmt.Fprintf(&missing, "- `%s %s`%s\n", e.Method, e.Path, deprecated(e))
		}
		fmt.Fprintf(&tables, "| `%s %s`%s | %s | %s |\n", e.Method, e.Path, deprecated(e), handler, tests)
	}

	var b strings.Builder
	fmt.Fprintf(&b, `# Coverage of the client-server API

Made by `+"`make generate`"+` from the pinned index of the specification v1.19
(`+"`internal/devtools/spec`"+`), the lists of routes in the code, and the paths that tests ask for.
A test is named when it, or a helper that it calls, holds the path, or when its comment says
`+"`Covers:`"+` with the endpoint's operation ID.

Served: **%d of %d** endpoints; %d of these have a test that names them.
`, served, len(endpoints), tested)
	if missing.Len() > 0 {
		b.WriteString("\n## Missing\n\nAnswered with 404 `M_UNRECOGNIZED`:\n\n" + missing.String())
	}
	b.WriteString(tables.String())
	var others strings.Builder
	for j, r := range routes {
		if !matched[j] {
			fmt.Fprintf(&others, "| `%s %s` | `%s` |\n", r.method, r.pattern, r.handler)
		}
	}
	if others.Len() > 0 {
		b.WriteString("\n## Served besides\n\nNot in the list of the specification, or another form of an endpoint that is.\n\n| route | handler |\n|---|---|\n" + others.String())
	}
	return b.String(), nil
}

func deprecated(e spec.Endpoint) string {
	if e.Deprecated {
		return " (deprecated)"
	}
	return ""
}

// shownTests names at most three tests.
func shownTests(tests []string) string {
	const most = 3
	text := "`" + strings.Join(tests[:min(most, len(tests))], "`, `") + "`"
	if len(tests) > most {
		text += fmt.Sprintf(" and %d more", len(tests)-most)
	}
	return text
}

// shape is a path with the names of its values left out.
func shape(p string) string {
	parts := strings.Split(p, "/")
	for i, part := range parts {
		if strings.HasPrefix(part, "{") {
			parts[i] = "{}"
		}
	}
	return strings.Join(parts, "/")
}

// foundRoute is a line of a list of routes.
type foundRoute struct{ method, pattern, handler string }

// findRoutes looks for expressions that hold a method, a pattern and a function,
// in this order: the lines of the lists of routes.
func findRoutes(repo *source.Repository) []foundRoute {
	var all []foundRoute
	for _, p := range repo.Packages {
		if !strings.HasPrefix(p.Dir, "internal/") || strings.HasPrefix(p.Dir, "internal/devtools") || p.Dir == "internal/httpkit" {
			continue
		}
		known := p.Constants()
		for _, f := range p.Files {
			if f.IsTest {
				continue
			}
			ast.Inspect(f.AST, func(n ast.Node) bool {
				parts := routeParts(n)
				for i := 0; i+2 < len(parts); i++ {
					method := methodOf(parts[i])
					if method == "" {
						continue
					}
					pattern, ok := source.Text(parts[i+1], known, "")
					if !ok || !strings.HasPrefix(pattern, "/") {
						continue
					}
					all = append(all, foundRoute{method, pattern, path.Base(p.Dir) + "." + functionOf(parts[i+2])})
					return false
				}
				return true
			})
		}
	}
	slices.SortFunc(all, func(a, b foundRoute) int {
		return strings.Compare(a.pattern+" "+a.method, b.pattern+" "+b.method)
	})
	return all
}

// routeParts gives the parts of an expression in the order method, pattern, handler.
// A composite literal with field names may hold other fields, in any order.
func routeParts(n ast.Node) []ast.Expr {
	lit, ok := n.(*ast.CompositeLit)
	if !ok {
		return partsOf(n)
	}
	fields := map[string]ast.Expr{}
	for _, e := range lit.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			return partsOf(n)
		}
		if key, ok := kv.Key.(*ast.Ident); ok {
			fields[key.Name] = kv.Value
		}
	}
	if fields["Method"] == nil || fields["Pattern"] == nil || fields["Handler"] == nil {
		return nil
	}
	return []ast.Expr{fields["Method"], fields["Pattern"], fields["Handler"]}
}

// partsOf gives the arguments of a call or the values of a composite literal.
func partsOf(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.CallExpr:
		return n.Args
	case *ast.CompositeLit:
		var values []ast.Expr
		for _, e := range n.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok {
				e = kv.Value
			}
			values = append(values, e)
		}
		return values
	}
	return nil
}

var httpMethods = []string{"GET", "PUT", "POST", "DELETE", "HEAD", "PATCH"}

// methodOf reads "GET" or http.MethodGet.
func methodOf(e ast.Expr) string {
	text, _ := source.Text(e, nil, "")
	if s, ok := e.(*ast.SelectorExpr); ok {
		text = strings.ToUpper(strings.TrimPrefix(s.Sel.Name, "Method"))
	}
	if slices.Contains(httpMethods, text) {
		return text
	}
	return ""
}

// functionOf finds the name of the function that a handler is made of: the
// method value a.sendEvent in httpkit.Adapt(a.sendEvent).
func functionOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.Ident:
		return e.Name
	case *ast.CallExpr:
		if len(e.Args) > 0 {
			if name := functionOf(e.Args[len(e.Args)-1]); name != "" {
				return name
			}
		}
		return functionOf(e.Fun)
	case *ast.FuncLit:
		return "(inline)"
	case *ast.IndexExpr:
		return functionOf(e.X)
	}
	return ""
}
