package rules

import (
	"strings"
	"testing"

	"stoa/internal/devtools/source"
)

// What outgrows a reader's memory is cut: a package, a type, a function.
func TestSizes(t *testing.T) {
	t.Parallel()
	repo := load(t)
	needed := map[string]bool{}
	hold := func(name, what string, is, most int, do string) {
		if is <= most {
			return
		}
		if needed[name] = true; tooLarge[name] == "" {
			t.Errorf("%s has %d %s, more than %d: %s, or give a reason in internal/devtools/rules/sizes.go", name, is, what, most, do)
		}
	}
	for _, p := range repo.Packages {
		if strings.HasPrefix(p.Dir, "test/") || repo.Nested(p) {
			continue
		}
		hold(p.Path, "lines without tests", repo.Lines(p), maxPackageLines, "cut it along what its files are about")
		methods := map[string]int{}
		for _, f := range p.Functions() {
			name := p.Path + "." + f.Name.Name
			if of := source.Receiver(f); of != "" {
				methods[of]++
				name = p.Path + "." + of + "." + f.Name.Name
			}
			hold(name, "lines", repo.Length(f), maxFunctionLines, "name its steps")
		}
		for of, n := range methods {
			hold(p.Path+"."+of, "methods", n, maxTypeMethods, "give some of them a type or a package of their own")
		}
	}
	for name := range tooLarge {
		if !needed[name] {
			t.Errorf("%s is as small as it should be: take it out of the exceptions in internal/devtools/rules/sizes.go", name)
		}
	}
}
