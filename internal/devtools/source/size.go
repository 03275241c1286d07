package source

import (
	"go/ast"
	"os"
	"path/filepath"
	"slices"
)

// Nested says whether a package belongs to a module of its own inside the repository.
func (r *Repository) Nested(p *Package) bool {
	for dir := p.Dir; dir != "."; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(r.Root, dir, "go.mod")); err == nil {
			return true
		}
	}
	return false
}

// Doc is the comment of the package, "" if it has none.
func (p *Package) Doc() string {
	for _, f := range p.Files {
		if f.AST.Doc != nil {
			return f.AST.Doc.Text()
		}
	}
	return ""
}

// Lines counts the lines of the package's files, tests apart.
func (r *Repository) Lines(p *Package) (n int) {
	for _, f := range p.Files {
		if !f.IsTest {
			n += r.Fset.File(f.AST.Pos()).LineCount()
		}
	}
	return n
}

// Length counts the lines of a function, its comment apart.
func (r *Repository) Length(f *ast.FuncDecl) int {
	return r.Fset.Position(f.End()).Line - r.Fset.Position(f.Pos()).Line + 1
}

// Functions gives the functions and methods of a package, tests apart.
func (p *Package) Functions() (all []*ast.FuncDecl) {
	for _, f := range p.Files {
		for _, d := range f.AST.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && !f.IsTest {
				all = append(all, fn)
			}
		}
	}
	return all
}

// Receiver is the type that a function is a method of, "" for none.
func Receiver(f *ast.FuncDecl) string {
	if f.Recv == nil || len(f.Recv.List) == 0 {
		return ""
	}
	t := f.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

// Exported gives the exported names of a package, tests apart: Name, or Type.Method.
func (p *Package) Exported() (all []string) {
	add := func(prefix string, names ...*ast.Ident) {
		for _, n := range names {
			if n.IsExported() {
				all = append(all, prefix+n.Name)
			}
		}
	}
	for _, f := range p.Files {
		if f.IsTest {
			continue
		}
		for _, d := range f.AST.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if of := Receiver(d); of == "" {
					add("", d.Name)
				} else if ast.IsExported(of) {
					add(of+".", d.Name)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					switch s := s.(type) {
					case *ast.TypeSpec:
						add("", s.Name)
					case *ast.ValueSpec:
						add("", s.Names...)
					}
				}
			}
		}
	}
	slices.Sort(all)
	return all
}

// OnlyTests says whether a package has nothing but tests.
func (p *Package) OnlyTests() bool {
	return !slices.ContainsFunc(p.Files, func(f *File) bool { return !f.IsTest })
}
