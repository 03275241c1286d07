package docs

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"stoa/internal/devtools/source"
	"stoa/internal/ops"
)

// readPages reads all Markdown files of the repository.
func readPages(t *testing.T) (root string, pages map[string]*page) {
	t.Helper()
	root, err := source.Root()
	if err != nil {
		t.Fatal(err)
	}
	pages = map[string]*page{}
	err = filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "bin" || entry.Name() == "data" || entry.Name() == "node_modules"):
			return fs.SkipDir
		case filepath.Ext(file) != ".md":
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, file)
		name = filepath.ToSlash(name)
		pages[name] = parse(name, string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return root, pages
}

func TestLinksResolve(t *testing.T) {
	t.Parallel()
	root, pages := readPages(t)
	checked := 0
	for _, p := range pages {
		for _, l := range p.links {
			if strings.Contains(l.target, "://") || strings.HasPrefix(l.target, "mailto:") {
				continue
			}
			checked++
			file, anchor, hasAnchor := strings.Cut(l.target, "#")
			to := p.name
			if file != "" {
				to = path.Join(path.Dir(p.name), file)
			}
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(to))); err != nil {
				t.Errorf("%s:%d: the link to %s leads nowhere", p.name, l.line, l.target)
			} else if hasAnchor && (pages[to] == nil || !pages[to].anchors[anchor]) {
				t.Errorf("%s:%d: %s has no heading for #%s", p.name, l.line, to, anchor)
			}
		}
	}
	if checked < 50 {
		t.Errorf("only %d links were found", checked)
	}
}

// Commands in blocks for a shell must exist with their flags, and so must those in running
// text that begin with the program's name.
func TestCommandsExist(t *testing.T) {
	t.Parallel()
	root, pages := readPages(t)
	targets := readTargets(t, root)
	found := map[string]int{}
	for _, p := range pages {
		check := func(line int, code string, isProse bool) {
			for _, words := range commandsOf(code) {
				var err error
				switch words[0] {
				case "stoa", "bin/stoa":
					found["stoa"]++
					err = checkStoa(words[1:], isProse)
				case "make":
					found["make"]++
					err = targets.check(words[1:])
				}
				if err != nil {
					t.Errorf("%s:%d: %s: %v", p.name, line, code, err)
				}
			}
		}
		for _, b := range p.blocks {
			if b.language != "sh" {
				continue
			}
			for i, line := range b.code {
				check(b.line+i, line, false)
			}
		}
		for _, s := range p.spans {
			check(s.line, s.code, true)
		}
	}
	if found["stoa"] < 30 || found["make"] < 20 {
		t.Errorf("only these commands were found: %v", found)
	}
}

func TestExamplesOfCommandsExist(t *testing.T) {
	t.Parallel()
	checked := 0
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for example := range strings.Lines(c.Example) {
			for _, words := range commandsOf(strings.TrimSpace(example)) {
				checked++
				if words[0] != "stoa" {
					t.Errorf("%s --help: %s does not begin with stoa", c.CommandPath(), example)
				} else if err := checkStoa(words[1:], false); err != nil {
					t.Errorf("%s --help: %s: %v", c.CommandPath(), example, err)
				}
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(ops.Commands())
	if checked < 15 {
		t.Errorf("only %d examples were found", checked)
	}
}

// checkStoa parses a command line with the program's own commands. In prose arguments may
// be left out.
func checkStoa(args []string, isProse bool) error {
	args = slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return arg == "--help" }) // every command has it
	c, rest, err := ops.Commands().Find(args)
	if err != nil {
		return err
	}
	if err := c.ParseFlags(rest); err != nil {
		return err
	}
	if c.HasSubCommands() {
		if c.Flags().NArg() > 0 {
			return errors.New("there is no such command")
		}
		return nil
	}
	if isProse && c.Flags().NArg() == 0 {
		return nil
	}
	return c.ValidateArgs(c.Flags().Args())
}

// targets are what make can make, and the variables it takes.
type targets struct{ names, variables map[string]bool }

var (
	targetPattern   = regexp.MustCompile(`(?m)^([a-z][a-z-]*):`)
	variablePattern = regexp.MustCompile(`\b([A-Z]{2,})\b`)
)

func readTargets(t *testing.T, root string) targets {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	all := targets{map[string]bool{}, map[string]bool{}}
	for _, m := range targetPattern.FindAllStringSubmatch(string(text), -1) {
		all.names[m[1]] = true
	}
	for _, m := range variablePattern.FindAllStringSubmatch(string(text), -1) {
		all.variables[m[1]] = true
	}
	return all
}

func (all targets) check(args []string) error {
	for _, arg := range args {
		variable, _, isVariable := strings.Cut(arg, "=")
		switch {
		case isVariable && !all.variables[variable]:
			return errors.New("the Makefile has no variable " + variable)
		case !isVariable && !all.names[arg]:
			return errors.New("the Makefile has no target " + arg)
		}
	}
	return nil
}

func TestParse(t *testing.T) {
	t.Parallel()
	p := parse("a.md", "# One `x`, two\n## Same\n## Same\n[a](b.md#c) `[no](no.md)` ![i](i.png)\n```sh run\necho\n```\n")
	for _, anchor := range []string{"one-x-two", "same", "same-1"} {
		if !p.anchors[anchor] {
			t.Errorf("no anchor %s in %v", anchor, p.anchors)
		}
	}
	if len(p.links) != 2 || p.links[0] != (link{4, "b.md#c"}) || p.links[1].target != "i.png" {
		t.Errorf("links: %v", p.links)
	}
	if len(p.blocks) != 1 || !p.blocks[0].run || p.blocks[0].language != "sh" || p.blocks[0].line != 6 {
		t.Errorf("blocks: %v", p.blocks)
	}
}

func TestCommandsOf(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		`stoa user list`: "stoa user list",
		`runuser -u stoa -- env A=b stoa --config "a b" x  # c`: "stoa --config a b x",
		`systemctl stop stoa && stoa version`:                   "systemctl stop stoa / stoa version",
		`A='b c' bin/stoa serve >log`:                           "bin/stoa serve / log",
		`# stoa`:                                                "",
	} {
		var got []string
		for _, words := range commandsOf(line) {
			got = append(got, strings.Join(words, " "))
		}
		if strings.Join(got, " / ") != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}
