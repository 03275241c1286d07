package main

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"

	"stoa/internal/devtools/source"
)

type metric struct{ name, help, pkg string }

// metricsPage lists what is registered under a name that begins with "stoa_":
// texts in calls (name, then help) and in options (Name:, Help:).
func metricsPage(repo *source.Repository) string {
	var all []metric
	for _, p := range repo.Packages {
		if !strings.HasPrefix(p.Dir, "internal/") || strings.HasPrefix(p.Dir, "internal/devtools") {
			continue
		}
		known := p.Constants()
		for _, f := range p.Files {
			if f.IsTest {
				continue
			}
			ast.Inspect(f.AST, func(n ast.Node) bool {
				if name, help, ok := metricOf(n, known); ok {
					all = append(all, metric{name, help, strings.TrimPrefix(p.Dir, "internal/")})
				}
				return true
			})
		}
	}
	slices.SortFunc(all, func(a, b metric) int { return strings.Compare(a.name, b.name) })
	all = slices.Compact(all)
	var b strings.Builder
	b.WriteString(`# Metrics

Generated from the Go source by ` + "`make generate`" + `. The admin listener (setting ` + "`admin_listen`" + `) serves
the metrics on ` + "`/metrics`" + ` in Prometheus format, together with those of the Go runtime and
the process. Times are in seconds, sizes in bytes.

| metric | package | meaning |
|---|---|---|
`)
	for _, m := range all {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", m.name, m.pkg, strings.ReplaceAll(m.help, "|", "\\|"))
	}
	return b.String()
}

func metricOf(n ast.Node, known map[string]string) (name, help string, ok bool) {
	var texts []ast.Expr
	switch n := n.(type) {
	case *ast.CallExpr:
		texts = n.Args
	case *ast.CompositeLit:
		byKey := map[string]ast.Expr{}
		for _, e := range n.Elts {
			if kv, isKV := e.(*ast.KeyValueExpr); isKV {
				if key, isIdent := kv.Key.(*ast.Ident); isIdent {
					byKey[key.Name] = kv.Value
				}
			}
		}
		if byKey["Name"] == nil || byKey["Help"] == nil {
			texts = n.Elts // a table of {name, help, …}
		} else {
			texts = []ast.Expr{byKey["Name"], byKey["Help"]}
		}
	}
	for i := 0; i+1 < len(texts); i++ {
		name, ok1 := source.Text(texts[i], known, "")
		help, ok2 := source.Text(texts[i+1], known, "")
		if ok1 && ok2 && strings.HasPrefix(name, "stoa_") && strings.Contains(help, " ") {
			return name, help, true
		}
	}
	return "", "", false
}
