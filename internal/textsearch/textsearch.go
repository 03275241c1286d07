// Package textsearch makes texts comparable for searches: by people, who type without accents, in any case, and only the
// beginning or a part of a word.
//
// It owns the rules by which two texts count as the same and by which a text falls into words. It knows no tables.
//
// The invariant that matters: what is stored of a text and what is looked up pass through the same functions. A change of
// the rules means that indexes are built anew.
package textsearch

import (
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Bounds of what is indexed of one text.
const (
	maxWords = 16
	maxWord  = 32 // runes
)

// spellings are letters that people type without what makes them special, and that no decomposition knows.
var spellings = strings.NewReplacer("ł", "l", "ø", "o", "đ", "d", "ħ", "h", "ı", "i", "æ", "ae", "œ", "oe", "þ", "th", "ð", "d")

// Fold gives a text as it is compared: compatibility forms (NFKC), without case, and without the diacritics of Latin, Greek
// and Cyrillic letters. "Étoilé" is "etoile", "STRASSE" and "Straße" are "strasse", "Ａ" is "a". Marks of other scripts
// are part of their letters and stay.
func Fold(text string) string {
	text = cases.Fold().String(norm.NFKC.String(text))
	return spellings.Replace(norm.NFC.String(strings.Map(func(r rune) rune {
		if r >= 0x300 && r <= 0x36f {
			return -1
		}
		return r
	}, norm.NFD.String(text))))
}

// Words gives the words of a folded text: letters, their marks and digits without anything between them. Each is limited to 32 runes;
// there are at most 16.
func Words(folded string) []string {
	words := strings.FieldsFunc(folded, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsDigit(r) })
	words = words[:min(len(words), maxWords)]
	for i, w := range words {
		words[i] = prefix(w, maxWord)
	}
	return words
}

func prefix(s string, runes int) string {
	for i := range s {
		if runes == 0 {
			return s[:i]
		}
		runes--
	}
	return s
}

// Suffixes gives all ends of the words of some texts, sorted, each once. A part of a word is the beginning of one of them,
// so that a range of sorted suffixes finds it.
func Suffixes(texts ...string) []string {
	var all []string
	for _, text := range texts {
		for _, w := range Words(Fold(text)) {
			for i := range w {
				all = append(all, w[i:])
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Key gives the part of a folded search term by which an index is asked: its longest word, "" if it has none.
func Key(folded string) string {
	key := ""
	for _, w := range Words(folded) {
		if len(w) > len(key) {
			key = w
		}
	}
	return key
}
