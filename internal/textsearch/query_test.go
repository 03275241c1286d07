package textsearch

import (
	"slices"
	"strings"
	"testing"
)

func TestTokens(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"":                            nil,
		"Hello, world!":               {"hel", "world"},
		"Meetings, meeting — met":     {"meet", "met"},
		"東京都に行く":                      {"く", "に行", "京都", "東京", "行く", "都に"},
		"MP3 v1.19":                   {"19", "mp3", "v1"},
		"Müller müller MULLER":        {"mul"},
		"สวัสดี":                      pairs("สวัสดี"),
		"mixed 漢字 text":               {"mix", "text", "字", "漢字"},
		"running":                     {"run"},
		"haus häuser":                 {"haus"},
		strings.Repeat("a1 ", 20_000): {"a1"},
	} {
		got := Tokens(text)
		slices.Sort(want)
		if !slices.Equal(got, slices.Compact(want)) {
			t.Errorf("Tokens(%.40q) = %q, want %q", text, got, want)
		}
	}
	var many strings.Builder
	for i := range 5000 {
		many.WriteString(string(rune('a'+i%26)) + string(rune('0'+i/26%10)) + strings.Repeat("x", i/260) + " ")
	}
	if n := len(Tokens(many.String())); n > maxTokens {
		t.Errorf("%d tokens of one text", n)
	}
}

func TestQuery(t *testing.T) {
	t.Parallel()
	const yes, no = true, false
	for _, c := range []struct {
		term, text string
		open       bool
		want       bool
		found      string // space between
	}{
		{"hello", "Hello, world", no, yes, "Hello"},
		{"world hello", "Hello, world", no, yes, "world Hello"},
		{"hello moon", "Hello, world", no, no, ""},
		{"meeting", "two meetings today", no, yes, "meetings"},
		{"meet", "meeting at 9", no, yes, "meeting"},
		{"univ", "University", no, no, ""},
		{"univ", "University", yes, yes, "University"},
		{"univ*", "University", no, yes, "University"},
		{"universitie*", "universities", no, yes, "universities"},
		{"universiti", "universities", yes, yes, "universities"},
		{"uber", "Über", no, yes, "Über"},
		{"京都", "東京都に行く", no, yes, "京都"},
		{"京", "東京都に行く", no, yes, "京"},
		{"く", "東京都に行く", no, yes, "く"},
		{"京に", "東京都に行く", no, no, ""},
		{"한국", "대한민국 한국어", no, yes, "한국"},
		{`"good morning"`, "Good morning, all", no, yes, "Good morning"},
		{`"good morning"`, "morning, good all", no, no, ""},
		{`"good mornings"`, "Good morning, all", no, no, ""},
		{`good "unfinished`, "unfinished and good", no, yes, "good unfinished"},
		{"city", "cities", no, yes, "cities"},
		{"v1.19", "spec v1.19 is out", no, yes, "v1 19"},
	} {
		q := Parse(c.term, c.open)
		_, found, got := q.Match(c.text)
		if got != c.want || strings.Join(found, " ") != c.found {
			t.Errorf("%q in %q: %v %q, want %v %q", c.term, c.text, got, found, c.want, c.found)
		}
		if got && !covers(Tokens(c.text), q.Tokens()) {
			t.Errorf("%q matches %q, but the index %q has not all of %v", c.term, c.text, Tokens(c.text), q.Tokens())
		}
	}
	if !Parse(`!? "" "..."`, true).IsEmpty() || !Parse("", true).IsEmpty() {
		t.Error("a term without words is not empty")
	}
	if n := len(Parse(strings.Repeat("a b c ", 1000), false).Tokens()); n > maxParts {
		t.Errorf("%d tokens of one term", n)
	}
}

// covers reports whether an index with some tokens leads to all that are looked up.
func covers(index []string, tokens []Token) bool {
	for _, token := range tokens {
		if !slices.ContainsFunc(index, func(s string) bool { return s == token.Text || token.Prefix && strings.HasPrefix(s, token.Text) }) {
			return false
		}
	}
	return true
}

func TestQuery_ranks(t *testing.T) {
	t.Parallel()
	q := Parse("exam dates", false)
	texts := []string{ // best first
		"exam dates",
		"the exam dates are out, see the page of the faculty for all of the exam dates",
		"dates of the exam",
		"dating examen",
	}
	last := 100.0
	for _, text := range texts {
		score, _, ok := q.Match(text)
		if !ok || score >= last {
			t.Errorf("%q has the score %.3f after %.3f (%v)", text, score, last, ok)
		}
		last = score
	}
}

// FuzzQuery: the index leads to each text that matches, and tokens are what the full-text
// engines take for one word.
func FuzzQuery(f *testing.F) {
	f.Add("Hello wörld 京都", "京 hel", true)
	f.Add("running cities", `"running" citi*`, false)
	f.Fuzz(func(t *testing.T, text, term string, open bool) {
		tokens := Tokens(text)
		q := Parse(term, open)
		for _, s := range tokens {
			if s == "" || len(segment(s)) == 0 {
				t.Errorf("token %q of %q", s, text)
			}
		}
		for _, s := range q.Tokens() {
			if s.Text == "" {
				t.Errorf("an empty token of %q", term)
			}
		}
		if _, _, ok := q.Match(text); ok && !covers(tokens, q.Tokens()) && len(tokens) < maxTokens {
			t.Errorf("%q matches %q, but of the tokens %v not all are in %q", term, text, q.Tokens(), tokens)
		}
	})
}
