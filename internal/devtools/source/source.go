// Package source reads the repository's own Go files, for the checks and the
// generated pages.
//
// It owns how files are found and how a text that is put together from
// constants is read. It never writes, and knows nothing of what is looked for.
package source

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Package is the Go files of one folder.
type Package struct {
	Path  string // import path in the module, as "stoa/internal/room"
	Dir   string // folder in the repository, as "internal/room"
	Files []*File
}

// File is one parsed Go file.
type File struct {
	Name   string // in the repository, as "internal/room/send.go"
	IsTest bool
	AST    *ast.File
}

// Repository is all Go files of the repository.
type Repository struct {
	Root     string
	Fset     *token.FileSet
	Packages []*Package // by path
}

// Root finds the repository from the working directory upwards.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module stoa\n") {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod of the module stoa here or above")
		}
		dir = up
	}
}

// Load parses all Go files of the repository, those of nested modules too.
func Load() (*Repository, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	repo := &Repository{Root: root, Fset: token.NewFileSet()}
	byDir := map[string]*Package{}
	err = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if file != root && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || slices.Contains([]string{"testdata", "node_modules", "bin", "data"}, name)) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(repo.Fset, file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		dir := path.Dir(rel)
		p := byDir[dir]
		if p == nil {
			p = &Package{Path: path.Join("stoa", dir), Dir: dir}
			byDir[dir] = p
			repo.Packages = append(repo.Packages, p)
		}
		p.Files = append(p.Files, &File{Name: rel, IsTest: strings.HasSuffix(name, "_test.go"), AST: parsed})
		return nil
	})
	slices.SortFunc(repo.Packages, func(a, b *Package) int { return strings.Compare(a.Path, b.Path) })
	return repo, err
}

// Imports gives the paths that a file imports.
func (f *File) Imports() []string {
	var all []string
	for _, spec := range f.AST.Imports {
		if text, err := strconv.Unquote(spec.Path.Value); err == nil {
			all = append(all, text)
		}
	}
	return all
}

// Line says where a node stands, for people.
func (r *Repository) Line(n ast.Node) string {
	at := r.Fset.Position(n.Pos())
	rel, err := filepath.Rel(r.Root, at.Filename)
	if err != nil {
		rel = at.Filename
	}
	return fmt.Sprintf("%s:%d", filepath.ToSlash(rel), at.Line)
}

// Constants gives the text constants of a package.
func (p *Package) Constants() map[string]string {
	known := map[string]string{}
	for range 3 { // constants may be made of others, in any order
		for _, f := range p.Files {
			for _, decl := range f.AST.Decls {
				g, ok := decl.(*ast.GenDecl)
				if !ok || g.Tok != token.CONST {
					continue
				}
				for _, spec := range g.Specs {
					v := spec.(*ast.ValueSpec)
					for i, name := range v.Names {
						if i < len(v.Values) {
							if text, ok := Text(v.Values[i], known, ""); ok {
								known[name.Name] = text
							}
						}
					}
				}
			}
		}
	}
	return known
}

// Text reads an expression that is put together from texts and constants. What
// is not known is replaced by unknown; if that is empty, the result is not ok.
func Text(e ast.Expr, known map[string]string, unknown string) (text string, ok bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			text, err := strconv.Unquote(e.Value)
			return text, err == nil
		}
	case *ast.ParenExpr:
		return Text(e.X, known, unknown)
	case *ast.Ident:
		if text, ok := known[e.Name]; ok {
			return text, true
		}
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			left, ok1 := Text(e.X, known, unknown)
			right, ok2 := Text(e.Y, known, unknown)
			return left + right, ok1 && ok2
		}
	case *ast.CallExpr: // fmt.Sprintf and its like: what it formats is not known
		if unknown != "" && len(e.Args) > 0 {
			if format, ok := Text(e.Args[0], known, ""); ok && strings.Contains(format, "%") {
				return replaceVerbs(format, unknown), true
			}
		}
	}
	return unknown, unknown != ""
}

func replaceVerbs(format, by string) string {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] == '%' && i+1 < len(format) && strings.IndexByte("sdvqx", format[i+1]) >= 0 {
			b.WriteString(by)
			i++
			continue
		}
		b.WriteByte(format[i])
	}
	return b.String()
}
