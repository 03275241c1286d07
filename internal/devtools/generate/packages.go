package main

import (
	"fmt"
	"go/doc"
	"slices"
	"strings"

	"stoa/internal/devtools/source"
)

// Lines and exported names are rounded up to these, so that few commits change the page.
const (
	roundLines = 100
	roundNames = 10
)

// packagesPage lists the packages of the module, those of other modules in the repository apart.
func packagesPage(repo *source.Repository) string {
	var b strings.Builder
	b.WriteString(`# Packages

Generated from the Go source by ` + "`make generate`" + `. Lines include comments but not tests, rounded up to the
next 100. Exported names are types, functions, methods, constants and variables, rounded up to the next 10. Imports are those of this
module, without ` + "`internal/`" + ` and ` + "`matrix/`" + `. ` + "`internal/devtools/rules/sizes.go`" + ` sets the maximum size of a
package, a type and a function.

| package | what it is for | lines | exported | imports |
|---|---|---:|---:|---|
`)
	for _, p := range repo.Packages {
		if p.OnlyTests() || repo.Nested(p) {
			continue
		}
		fmt.Fprintf(&b, "| `%s` | %s | %d | %d | %s |\n", p.Dir, purpose(p), roundUp(repo.Lines(p), roundLines),
			roundUp(len(p.Exported()), roundNames), strings.Join(ownImports(p), " "))
	}
	return b.String()
}

// purpose is the first sentence of a package comment, without the name of the package.
func purpose(p *source.Package) string {
	text := new(doc.Package).Synopsis(p.Doc())
	words := strings.SplitN(text, " ", 3)
	if len(words) == 3 && (words[0] == "Package" || words[0] == "Command") {
		text = words[2]
	}
	return strings.ReplaceAll(text, "|", "\\|")
}

// ownImports are the packages of this module that a package imports, tests apart.
func ownImports(p *source.Package) (all []string) {
	for _, f := range p.Files {
		if f.IsTest {
			continue
		}
		for _, path := range f.Imports() {
			if own, ok := strings.CutPrefix(path, "stoa/"); ok {
				own = strings.TrimPrefix(own, "internal/")
				all = append(all, strings.TrimPrefix(own, "matrix/"))
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }
