package pushrule

import (
	"strings"
	"unicode/utf8"
)

// glob is a compiled glob-style pattern. It matches folded text (see fold) in time proportional to the text's length times
// the longest piece without a star, and never goes back.
//
// Spec: appendices#glob-style-matching
type glob struct {
	// text is the folded pattern. verbatim says that stars and question marks in it stand for themselves.
	text     string
	verbatim bool
	// segments are what stands between stars, so there is one more of them than stars. Only the first and the last may be empty.
	segments []segment
}

// segment is text between stars, cut at its question marks: "a?b" is ["a" "b"]. It always matches the same number of characters.
type segment []string

// fold is the case folding of all matching that the specification calls case-insensitive.
func fold(s string) string { return strings.ToLower(s) }

func compileGlob(pattern string) *glob {
	text := fold(pattern)
	parts := strings.Split(text, "*")
	g := &glob{text: text, segments: make([]segment, 0, len(parts))}
	for i, part := range parts {
		if part == "" && i > 0 && i < len(parts)-1 {
			continue
		}
		g.segments = append(g.segments, strings.Split(part, "?"))
	}
	return g
}

// compileLiteral makes a pattern that matches a text and nothing else.
func compileLiteral(text string) *glob {
	text = fold(text)
	return &glob{text: text, verbatim: strings.ContainsAny(text, "*?"), segments: []segment{{text}}}
}

// literal returns the text that is the only one to match, if there is but one.
func (g *glob) literal() (string, bool) {
	if len(g.segments) == 1 && len(g.segments[0]) == 1 {
		return g.segments[0][0], true
	}
	return "", false
}

// matches says whether the pattern matches the whole of a folded text.
func (g *glob) matches(text string) bool {
	first, last := g.segments[0], g.segments[len(g.segments)-1]
	at := first.end(text, 0)
	if len(g.segments) == 1 {
		return at == len(text)
	}
	if at < 0 {
		return false
	}
	for _, s := range g.segments[1 : len(g.segments)-1] {
		if _, at = s.find(text, at, anywhere, anywhere); at < 0 {
			return false
		}
	}
	start := last.startBefore(text)
	return start >= at && last.end(text, start) == len(text)
}

// matchesWords says whether the pattern matches a piece of a folded text that starts and ends at a word boundary. The piece
// is not empty, unless the text is.
//
// A boundary may lie beside the piece or be its own first or last character: "c++" is found in "c++11".
//
// Spec: client-server-api#conditions-1
func (g *glob) matchesWords(text string) bool {
	if text == "" {
		return g.matches(text)
	}
	if len(g.segments) == 1 {
		if g.text == "" {
			return false
		}
		_, end := g.segments[0].find(text, 0, wordStart, wordEnd)
		return end >= 0
	}
	_, at := g.segments[0].find(text, 0, wordStart, anywhere)
	if at < 0 {
		return false
	}
	for _, s := range g.segments[1 : len(g.segments)-1] {
		if _, at = s.find(text, at, anywhere, anywhere); at < 0 {
			return false
		}
	}
	last := g.segments[len(g.segments)-1]
	if len(last) == 1 && last[0] == "" {
		return true
	}
	_, at = last.find(text, at, anywhere, wordEnd)
	return at >= 0
}

// find returns the first place at or after from where the segment matches and both ends are allowed; -1, -1 if there is none.
func (s segment) find(text string, from int, startOK, endOK func(string, int) bool) (start, end int) {
	for at := from; at <= len(text); at++ {
		if s[0] != "" {
			next := strings.Index(text[at:], s[0])
			if next < 0 {
				return -1, -1
			}
			at += next
		}
		if !startOK(text, at) || at < len(text) && !utf8.RuneStart(text[at]) {
			continue
		}
		if end := s.end(text, at); end >= 0 && endOK(text, end) {
			return at, end
		}
	}
	return -1, -1
}

// end returns where a match that starts at a place ends, or -1.
func (s segment) end(text string, at int) int {
	for i, piece := range s {
		if i > 0 {
			if at == len(text) {
				return -1
			}
			_, size := utf8.DecodeRuneInString(text[at:])
			at += size
		}
		if !strings.HasPrefix(text[at:], piece) {
			return -1
		}
		at += len(piece)
	}
	return at
}

// startBefore returns the only place where a match that ends with the text could start, or -1.
func (s segment) startBefore(text string) int {
	at := len(text)
	for i := len(s) - 1; i >= 0; i-- {
		if at -= len(s[i]); at < 0 {
			return -1
		}
		if i > 0 {
			if at == 0 {
				return -1
			}
			_, size := utf8.DecodeLastRuneInString(text[:at])
			at -= size
		}
	}
	return at
}

func anywhere(string, int) bool { return true }

func wordStart(text string, at int) bool {
	return at == 0 || !isWord(text[at-1]) || at < len(text) && !isWord(text[at])
}

func wordEnd(text string, at int) bool {
	return at == len(text) || !isWord(text[at]) || at > 0 && !isWord(text[at-1])
}

// isWord says whether a byte is no word boundary.
//
// Spec: client-server-api#conditions-1
func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}
