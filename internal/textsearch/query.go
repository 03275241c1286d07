package textsearch

import (
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// Token is a token of the index, or with Prefix the beginning of one.
type Token struct {
	Text   string
	Prefix bool
}

// Query is a search term. Each of its words must be in a text, in any order: the word or
// another form of it. A word that ends in * stands for all words with that beginning. A
// part in double quotes must be in the text as it is.
type Query struct {
	parts []part
	whole string // the folded term, for the rank
}

// part is one word of a query, or a quoted phrase.
type part struct {
	words  []word // more than one: a phrase
	prefix bool   // the last word may go on
	phrase bool
}

// Parse reads a search term, of which it reads 512 bytes and 16 words. With open, the last
// word may go on, as with *.
func Parse(term string, open bool) Query {
	if len(term) > maxTerm {
		term = strings.ToValidUTF8(term[:maxTerm], "")
	}
	var q Query
	var whole []string
	for i, piece := range strings.Split(term, `"`) {
		if i%2 == 1 { // in quotes
			if words := segment(piece); len(words) > 0 {
				q.parts = append(q.parts, part{words: words, phrase: true})
			}
		} else {
			for _, field := range strings.Fields(piece) {
				words := segment(field)
				for n, w := range words {
					last := n == len(words)-1
					q.parts = append(q.parts, part{words: []word{w}, prefix: last && strings.HasSuffix(field, "*")})
				}
			}
		}
	}
	q.parts = q.parts[:min(len(q.parts), maxParts)]
	for _, p := range q.parts {
		for _, w := range p.words {
			whole = append(whole, w.folded)
		}
	}
	q.whole = strings.Join(whole, " ")
	if n := len(q.parts); open && n > 0 && !q.parts[n-1].phrase && !q.parts[n-1].words[0].run {
		q.parts[n-1].prefix = true
	}
	return q
}

// IsEmpty reports whether there is nothing to look up.
func (q Query) IsEmpty() bool { return len(q.parts) == 0 }

// Tokens returns the tokens that the index must have for a text. A text with all of them
// may match; Match decides.
func (q Query) Tokens() (tokens []Token) {
	for _, p := range q.parts {
		for _, w := range p.words {
			switch {
			case w.run:
				all := characters(w.folded)
				if len(all) == 1 {
					tokens = append(tokens, Token{prefix(all[0], maxWord), true})
					continue
				}
				for _, pair := range pairs(w.folded)[:len(all)-1] {
					tokens = append(tokens, Token{pair, false})
				}
			case p.prefix:
				tokens = append(tokens, Token{openStem(w.folded), true})
			default:
				tokens = append(tokens, Token{stem(w.folded), false})
			}
		}
	}
	slices.SortFunc(tokens, func(a, b Token) int { return strings.Compare(a.Text, b.Text) })
	return slices.Compact(tokens)
}

// openStem returns a beginning that the stems of all words with a given beginning have: a
// stem lacks the end of its word, which may be a part of the given letters.
func openStem(folded string) string {
	folded = prefix(folded, maxWord)
	keep := max(utf8.RuneCountInString(folded)-len("ings"), minStem)
	return trimEnd(prefix(folded, keep))
}

// Scores of a word of the text, by how it fits a word of the query.
const (
	scoreExact     = 1
	scoreBeginning = 0.7
	scoreStem      = 0.6
	scoreWhole     = 1 // more if the text has the whole query in one place
)

// Match reports whether a text matches, how well (higher is better), and which words of it
// do, as they are written there.
func (q Query) Match(text string) (score float64, found []string, ok bool) {
	words := segment(text)
	folded := make([]string, len(words))
	for i, w := range words {
		folded[i] = w.folded
	}
	line := " " + strings.Join(folded, " ") + " "
	for _, p := range q.parts {
		best := 0.0
		for i := range words {
			if s, n := p.at(words[i:]); s > 0 {
				best = max(best, s)
				for _, w := range words[i : i+n] {
					found = appendOnce(found, p.shown(w))
				}
			}
		}
		if best == 0 {
			return 0, nil, false
		}
		score += best
	}
	score /= float64(len(q.parts))
	if len(q.parts) > 1 && strings.Contains(line, " "+q.whole+" ") {
		score += scoreWhole
	}
	return score / (1 + math.Log(1+float64(len(words)))/10), found, true
}

// maxFound bounds the words that Match returns for one text.
const maxFound = 16

func appendOnce(list []string, s string) []string {
	if len(list) >= maxFound || slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// shown is the part of a word of the text to highlight.
func (p part) shown(w word) string {
	if w.run && len(p.words) == 1 {
		return p.words[0].text
	}
	return w.text
}

// at reports how well the part fits the beginning of some words of a text, 0 for not at
// all, and how many of them it takes.
func (p part) at(words []word) (score float64, n int) {
	if len(words) < len(p.words) {
		return 0, 0
	}
	score = scoreExact
	for i, w := range p.words {
		s := p.fits(w, words[i], i == len(p.words)-1)
		if s == 0 {
			return 0, 0
		}
		score = min(score, s)
	}
	return score, len(p.words)
}

func (p part) fits(w, text word, last bool) float64 {
	switch {
	case w.run != text.run:
		return 0
	case w.run:
		if strings.Contains(text.folded, w.folded) {
			return scoreExact
		}
		return 0
	case w.folded == text.folded:
		return scoreExact
	case p.phrase:
		return 0
	case p.prefix && last && strings.HasPrefix(text.folded, w.folded):
		return scoreBeginning
	case stem(w.folded) == stem(text.folded):
		return scoreStem
	}
	return 0
}
