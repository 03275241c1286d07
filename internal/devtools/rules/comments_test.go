package rules

import (
	"go/ast"
	"go/token"
	"regexp"
	"strings"
	"testing"
)

// inCamelCase is a word that can only be a name of Go.
var inCamelCase = regexp.MustCompile(`^[A-Za-z]*[a-z][A-Z][A-Za-z]*$`)

// A comment that begins with the name of something begins with the name of what it
// stands above: names change, and comments are left behind.
func TestCommentsBeginWithTheNameOfWhatTheyDescribe(t *testing.T) {
	t.Parallel()
	for _, p := range load(t).Packages {
		for _, f := range p.Files {
			for _, decl := range f.AST.Decls {
				for name, doc := range described(decl) {
					first, _, _ := strings.Cut(strings.TrimSpace(doc.Text()), " ")
					if first = strings.TrimRight(first, ",.:"); inCamelCase.MatchString(first) && first != name && first != "PostgreSQL" {
						t.Errorf("%s: the comment of %s begins with %s", f.Name, name, first)
					}
				}
			}
		}
	}
}

// described gives the names that a declaration makes, with their comments.
func described(decl ast.Decl) map[string]*ast.CommentGroup {
	all := map[string]*ast.CommentGroup{}
	switch d := decl.(type) {
	case *ast.FuncDecl:
		all[d.Name.Name] = d.Doc
	case *ast.GenDecl:
		if len(d.Specs) > 1 || d.Tok == token.IMPORT {
			return all // a comment above a group may be about all of it
		}
		switch s := d.Specs[0].(type) {
		case *ast.TypeSpec:
			all[s.Name.Name] = d.Doc
		case *ast.ValueSpec:
			if len(s.Names) == 1 {
				all[s.Names[0].Name] = d.Doc
			}
		}
	}
	for name, doc := range all {
		if doc == nil {
			delete(all, name)
		}
	}
	return all
}
