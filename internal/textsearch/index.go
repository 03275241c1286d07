package textsearch

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Bounds of what is indexed of a message, and of what is looked up.
const (
	maxText   = 32 << 10 // bytes of a text that are read
	maxTokens = 2000     // tokens of a text
	maxTerm   = 512      // bytes of a search term
	maxParts  = 16       // words of a search term
)

// word is a piece of a text. In scripts that don't put spaces between words it is a whole
// run of characters.
type word struct {
	text   string // as it was written (NFC)
	folded string
	run    bool // of a script without spaces between words
}

// runs are the scripts that are written without spaces between words, and Hangul, whose
// words have many endings. Texts in them are found by pairs of characters.
var runs = []*unicode.RangeTable{
	unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar,
}

const (
	separates = iota
	spells    // letters, marks and digits
	flows     // characters of the scripts in runs
)

func kindOf(r rune, before int) int {
	switch {
	case r < utf8.RuneSelf:
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' {
			return spells
		}
		return separates
	case unicode.IsMark(r), r == 'ー':
		return before // belongs to the character before it
	case unicode.In(r, runs...):
		return flows
	case unicode.IsLetter(r), unicode.IsDigit(r):
		return spells
	}
	return separates
}

// segment splits a text into words.
func segment(text string) (words []word) {
	if len(text) > maxText {
		text = text[:maxText]
	}
	text = norm.NFKC.String(strings.ToValidUTF8(text, " "))
	kind, from := separates, 0
	add := func(to int) {
		if kind != separates && from < to {
			words = append(words, word{text: text[from:to], folded: Fold(text[from:to]), run: kind == flows})
		}
	}
	for i, r := range text {
		if k := kindOf(r, kind); k != kind {
			add(i)
			kind, from = k, i
		}
	}
	add(len(text))
	return words
}

// Tokens returns the tokens under which a text is found, sorted, each once: the stem of
// each word, and each pair of neighbouring characters in scripts without spaces. A token
// consists of letters, marks and digits.
func Tokens(text string) []string {
	var tokens []string
	for _, w := range segment(text) {
		if len(tokens) >= maxTokens {
			break
		}
		if w.run {
			tokens = append(tokens, pairs(w.folded)...)
		} else {
			tokens = append(tokens, stem(w.folded))
		}
	}
	slices.Sort(tokens)
	tokens = slices.Compact(tokens)
	return tokens[:min(len(tokens), maxTokens)]
}

// characters splits a run into its characters, each with its marks.
func characters(run string) (list []string) {
	from := 0
	for i, r := range run {
		if i > from && !unicode.IsMark(r) {
			list, from = append(list, run[from:i]), i
		}
	}
	return append(list, run[from:])
}

// pairs returns the pairs of neighbouring characters of a run, and its last character, so
// that each character begins a token.
func pairs(run string) (list []string) {
	all := characters(run)
	for i := range all {
		pair := all[i]
		if i+1 < len(all) {
			pair += all[i+1]
		}
		list = append(list, prefix(pair, maxWord))
	}
	return list
}

// minStem is the least length of a stem, in letters.
const minStem = 3

// endings are what inflected words of European languages end in. Which language a word is
// of does not matter: words are compared by their stems on both sides.
var endings = [...]string{"ing", "es", "ed", "en", "er", "em", "n"}

// stem removes a plural s, one more ending and vowels at the end from a folded word:
// "meetings", "meeting" and "meet" have one stem, as have "city" and "cities". Words with
// digits, and short ones, stay.
func stem(folded string) string {
	folded = prefix(folded, maxWord)
	if strings.ContainsFunc(folded, unicode.IsDigit) {
		return folded
	}
	stem := folded
	if s, ok := strings.CutSuffix(stem, "s"); ok && utf8.RuneCountInString(s) > minStem && !strings.HasSuffix(s, "s") && !strings.HasSuffix(s, "u") && !strings.HasSuffix(s, "i") {
		stem = s
	}
	for _, ending := range endings {
		s, ok := strings.CutSuffix(stem, ending)
		if !ok || utf8.RuneCountInString(s) < minStem || !strings.ContainsAny(s, "aeiouyаеиоуыэюяαειου") {
			continue
		}
		stem = s
		break
	}
	return trimEnd(stem)
}

// trimEnd removes vowels and one of two equal letters from the end of a stem.
func trimEnd(stem string) string {
	for utf8.RuneCountInString(stem) > minStem && strings.ContainsRune("aeioy", rune(stem[len(stem)-1])) {
		stem = stem[:len(stem)-1]
	}
	if n := len(stem); n > minStem && stem[n-1] == stem[n-2] { // running
		stem = stem[:n-1]
	}
	return stem
}
