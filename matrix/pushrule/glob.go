package pushrule

import (
	"strings"
	"unicode/utf8"
)

// glob is a compiled glob-style pattern. It matches folded text (see fold) and never goes back: the time is that of a few
// searches for the pieces between the stars, one behind the other.
//
// Spec: appendices#glob-style-matching
type glob struct {
	// text is the folded pattern. verbatim says that stars and question marks in it stand for themselves.
	text     string
	verbatim bool
	// segments are what stands between stars, so there is one more of them than stars. Only the first and the last may be empty.
	segments []segment
}

// segment is text between stars. It always matches the same number of characters.
type segment struct {
	text string
	// characters is nil if the text stands for itself.
	characters *characters
}

// characters is a segment with question marks as a machine that follows all matches at once: bit i of a state says that the
// first i+1 characters match those that end here.
type characters struct {
	count int
	// any has the bits of question marks; of has these and those of a character, for each that the text has.
	any states
	of  map[rune]states
}

// states has a bit for each character of the longest pattern.
type states [MaxPatternLength / 64]uint64

// fold is the case folding of all matching that the specification calls case-insensitive.
func fold(s string) string { return strings.ToLower(s) }

// compileGlob compiles a pattern that is not longer than MaxPatternLength.
func compileGlob(pattern string) *glob {
	text := fold(pattern)
	parts := strings.Split(text, "*")
	g := &glob{text: text, segments: make([]segment, 0, len(parts))}
	for i, part := range parts {
		if part == "" && i > 0 && i < len(parts)-1 {
			continue
		}
		g.segments = append(g.segments, segment{part, compileCharacters(part)})
	}
	return g
}

// compileLiteral makes a pattern that matches a text and nothing else.
func compileLiteral(text string) *glob {
	text = fold(text)
	return &glob{text: text, verbatim: strings.ContainsAny(text, "*?"), segments: []segment{{text: text}}}
}

func compileCharacters(text string) *characters {
	if strings.IndexByte(text, '?') < 0 {
		return nil
	}
	c := &characters{of: map[rune]states{}}
	for _, r := range text {
		if r == '?' {
			c.any[c.count/64] |= 1 << (c.count % 64)
		}
		c.count++
	}
	i := 0
	for _, r := range text {
		if r != '?' {
			s, known := c.of[r]
			if !known {
				s = c.any
			}
			s[i/64] |= 1 << (i % 64)
			c.of[r] = s
		}
		i++
	}
	return c
}

// literal returns the text that is the only one to match, if there is but one.
func (g *glob) literal() (string, bool) {
	if len(g.segments) == 1 && g.segments[0].characters == nil {
		return g.segments[0].text, true
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
		if at = s.find(text, at, anywhere, anywhere); at < 0 {
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
		return g.text != "" && g.segments[0].find(text, 0, wordStart, wordEnd) >= 0
	}
	at := g.segments[0].find(text, 0, wordStart, anywhere)
	if at < 0 {
		return false
	}
	for _, s := range g.segments[1 : len(g.segments)-1] {
		if at = s.find(text, at, anywhere, anywhere); at < 0 {
			return false
		}
	}
	last := g.segments[len(g.segments)-1]
	return last.text == "" || last.find(text, at, anywhere, wordEnd) >= 0
}

// boundary reports whether a match may start, or end, at an offset of a text.
type boundary func(text string, at int) bool

// find returns the end of the first match that starts at or after from and whose start and end are allowed; -1 if there is
// none.
func (s segment) find(text string, from int, startOK, endOK boundary) int {
	if s.characters != nil {
		return s.characters.find(text, from, startOK, endOK)
	}
	for at := from; at <= len(text); at++ {
		for at < len(text) && !startOK(text, at) {
			at++
		}
		next := strings.Index(text[at:], s.text)
		if next < 0 {
			return -1
		}
		at += next
		if end := at + len(s.text); startOK(text, at) && endOK(text, end) {
			return end
		}
	}
	return -1
}

// find does the same for a segment with question marks.
func (c *characters) find(text string, from int, startOK, endOK boundary) int {
	var state states
	words := (c.count + 63) / 64
	last := c.count - 1
	for at := from; at < len(text); {
		r, size := utf8.DecodeRuneInString(text[at:])
		matching, known := c.of[r]
		if !known {
			matching = c.any
		}
		carry := uint64(0)
		if startOK(text, at) {
			carry = 1
		}
		for i := range words {
			state[i], carry = (state[i]<<1|carry)&matching[i], state[i]>>63
		}
		at += size
		if state[last/64]>>(last%64)&1 == 1 && endOK(text, at) {
			return at
		}
	}
	return -1
}

// end returns where a match that starts at a place ends, or -1.
func (s segment) end(text string, at int) int {
	if s.characters == nil {
		if !strings.HasPrefix(text[at:], s.text) {
			return -1
		}
		return at + len(s.text)
	}
	for _, want := range s.text {
		got, size := utf8.DecodeRuneInString(text[at:])
		if size == 0 || want != '?' && want != got {
			return -1
		}
		at += size
	}
	return at
}

// startBefore returns the only place where a match that ends with the text could start, or -1.
func (s segment) startBefore(text string) int {
	if s.characters == nil {
		return len(text) - len(s.text)
	}
	at := len(text)
	for range s.characters.count {
		_, size := utf8.DecodeLastRuneInString(text[:at])
		if size == 0 {
			return -1
		}
		at -= size
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
