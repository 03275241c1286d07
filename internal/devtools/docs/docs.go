// Package docs checks the documents of the repository: links and anchors resolve, the
// commands in them exist, and blocks marked as runnable succeed on a real server.
//
// It owns how Markdown is read for these checks and the mark: a block that begins with
// "```sh run" is run, the blocks of a page in their order on one server. It never writes
// a document and never judges its text.
//
// The invariant that matters: a check that finds nothing to check fails, so that a change
// of form can't turn it off.
package docs

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// page is a Markdown file as the checks need it.
type page struct {
	name    string // in the repository, as "docs/cluster.md"
	links   []link
	anchors map[string]bool
	blocks  []block
	spans   []codeSpan // inline code
}

type link struct {
	line   int
	target string
}

// block is a fenced block of code.
type block struct {
	line     int // of its first line of code
	language string
	run      bool // it is marked as runnable
	code     []string
}

type codeSpan struct {
	line int
	code string
}

var (
	linkPattern     = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	codeSpanPattern = regexp.MustCompile("`([^`]+)`")
)

// parse reads a page.
func parse(name, text string) *page {
	p := &page{name: name, anchors: map[string]bool{}}
	var open *block
	for i, line := range strings.Split(text, "\n") {
		switch rest, isFence := strings.CutPrefix(line, "```"); {
		case isFence && open == nil:
			language, mark, _ := strings.Cut(rest, " ")
			open = &block{line: i + 2, language: language, run: mark == "run"}
		case isFence:
			p.blocks = append(p.blocks, *open)
			open = nil
		case open != nil:
			open.code = append(open.code, line)
		default:
			p.parseProse(i+1, line)
		}
	}
	return p
}

// parseProse reads a line outside of blocks. Links and spans don't reach over its end.
func (p *page) parseProse(number int, line string) {
	if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
		p.addAnchor(title)
	}
	for _, m := range linkPattern.FindAllStringSubmatch(codeSpanPattern.ReplaceAllString(line, "code"), -1) {
		p.links = append(p.links, link{number, m[1]})
	}
	for _, m := range codeSpanPattern.FindAllStringSubmatch(line, -1) {
		p.spans = append(p.spans, codeSpan{number, m[1]})
	}
}

// addAnchor notes the anchor that GitHub gives a heading.
func (p *page) addAnchor(title string) {
	slug := strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
			return unicode.ToLower(r)
		default:
			return -1
		}
	}, title)
	unique := slug
	for n := 1; p.anchors[unique]; n++ {
		unique = slug + "-" + strconv.Itoa(n)
	}
	p.anchors[unique] = true
}

// commandsOf splits a line for a shell into simple commands, each a list of words,
// without comments, assignments before the command, and the wrappers env and runuser.
// It knows as much of a shell as the documents use.
func commandsOf(line string) [][]string {
	var all [][]string
	for _, words := range split(line) {
		for len(words) > 0 {
			switch {
			case words[0] == "env", strings.Contains(words[0], "=") && !strings.HasPrefix(words[0], "-"):
				words = words[1:]
				continue
			case words[0] == "runuser" && len(words) > 3 && words[3] == "--":
				words = words[4:]
				continue
			}
			all = append(all, words)
			break
		}
	}
	return all
}

// split cuts a line into words, and these into commands at ;, |, && and at redirections
// of output, whose target is left out.
func split(line string) [][]string {
	var all [][]string
	var words []string
	var word strings.Builder
	var quote rune
	begun := false
	end := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, begun = r, true
		case r == ' ' || r == '\t':
			end()
		case r == '#' && !begun:
			end()
			return append(all, words)
		case r == ';' || r == '|' || r == '&' || r == '>' || r == '<':
			end()
			all, words = append(all, words), nil
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	end()
	return append(all, words)
}
