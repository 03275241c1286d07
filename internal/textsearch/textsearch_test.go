package textsearch

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestFold(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                  "",
		"Étoilé":            "etoile",
		"E\u0301toile":      "etoile",
		"Straße":            "strasse",
		"STRASSE":           "strasse",
		"İstanbul":          "istanbul",
		"ISTANBUL":          "istanbul",
		"Ａｎｎａ":              "anna",
		"ﬁne":               "fine",
		"ΣΊΣΥΦΟΣ":           "σισυφοσ",
		"王小明":               "王小明",
		"김민수":               "김민수",
		"Ångström & Müller": "angstrom & muller",
		"Łukasz Øre":        "lukasz ore",
		"Işık":              "isik",
		"ガラス が":             "ガラス が",
		"हिन्दी":            "हिन्दी",
		"Йога":              "иога",
	} {
		if got := Fold(text); got != want {
			t.Errorf("Fold(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestWords_and_suffixes(t *testing.T) {
	t.Parallel()
	if got := Words(Fold("Anna-Lena O'Neil 2")); !slices.Equal(got, []string{"anna", "lena", "o", "neil", "2"}) {
		t.Errorf("words are %q", got)
	}
	if got := Suffixes("anna", "Ana"); !slices.Equal(got, []string{"a", "ana", "anna", "na", "nna"}) {
		t.Errorf("suffixes are %q", got)
	}
	if got := Suffixes("王小明"); !slices.Equal(got, []string{"小明", "明", "王小明"}) {
		t.Errorf("suffixes are %q", got)
	}
	if got := Suffixes(strings.Repeat("x", 1000), strings.Repeat("y ", 1000)); len(got) != maxWord+1 {
		t.Errorf("%d suffixes of a long word and many words", len(got))
	}
	for term, want := range map[string]string{"": "", "!?": "", "a%n": "a", "de la Cruz": "cruz", "o'neil": "neil"} {
		if got := Key(Fold(term)); got != want {
			t.Errorf("Key(%q) = %q, want %q", term, got, want)
		}
	}
}

func FuzzSuffixes(f *testing.F) {
	f.Add("Anna Étoilé 王")
	f.Fuzz(func(t *testing.T, text string) {
		key := Key(Fold(text))
		found := key == ""
		for _, s := range Suffixes(text) {
			if !utf8.ValidString(s) && utf8.ValidString(text) || s == "" {
				t.Errorf("a suffix of %q is %q", text, s)
			}
			found = found || strings.HasPrefix(s, key)
		}
		if !found {
			t.Errorf("%q is not found by its key %q", text, key)
		}
	})
}
