package pushrule

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// regexpOf makes a regular expression of a pattern, which must be folded.
func regexpOf(pattern string) string {
	var b strings.Builder
	for _, r := range pattern {
		switch r {
		case '*':
			b.WriteString("(?s:.*)")
		case '?':
			b.WriteString("(?s:.)")
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	return b.String()
}

// matchesWordsSlowly tries every piece of a text.
func matchesWordsSlowly(pattern, text string) bool {
	re := regexp.MustCompile("^" + regexpOf(pattern) + "$")
	if text == "" {
		return re.MatchString("")
	}
	for start := range text {
		for end := start + 1; end <= len(text); end++ {
			if end < len(text) && !utf8.RuneStart(text[end]) {
				continue
			}
			if wordStart(text, start) && wordEnd(text, end) && re.MatchString(text[start:end]) {
				return true
			}
		}
	}
	return false
}

func TestGlob(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		// The example of event_match.
		{"lunc?*", "Lunch plans", true},
		{"lunc?*", "LUNCH", true},
		{"lunc?*", " lunch", false},
		{"lunc?*", "lunc", false},
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"?", "", false},
		{"?", "é", true},
		{"??", "é", false},
		{"*?", "日本", true},
		{"a*b*c", "aXbXbc", true},
		{"a*bc", "abcb", false},
		{"ab*ba", "aba", false},
		{"a**b", "ab", true},
		{"*a?", "aaab", true},
		{"a.c", "abc", false},
		{"ÀB", "àb", true},
	} {
		if got := compileGlob(c.pattern).matches(fold(c.text)); got != c.want {
			t.Errorf("%q and %q: %v", c.pattern, c.text, got)
		}
	}
}

func TestGlobInWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		// The example of event_match on content.body.
		{"ex*ple", "An example event.", true},
		{"ex*ple", "exple", true},
		{"ex*ple", "An exciting triple-whammy", true},
		{"ex*ple", "An apple", false},
		{"cake", "pancake", false},
		{"cake", "cakes", false},
		{"cake", "Cake!", true},
		{"cake", "a_cake", false},
		{"cake", "cake_", false},
		{"cake", "pancake cake", true},
		{"cake*lie", "cake is a lie", true},
		{"cake*lie", "cake is a lier", false},
		{"c++", "I like C++11", true},
		{"c++", "abc++", false},
		{"@room", "hello@room", true},
		{"日本", "これは日本です", true},
		{"caf", "café", true}, // only ASCII letters, digits and _ are no boundary
		{"t?a", "tea time", true},
		{"?ea", "weak tea", true},
		{"*", "anything", true},
		{"", "anything", false},
		{"", "", true},
		{"??", "a", false},
		{"a??", "a-b", true},
	} {
		if got := compileGlob(c.pattern).matchesWords(fold(c.text)); got != c.want {
			t.Errorf("%q and %q: %v", c.pattern, c.text, got)
		}
	}
}

func TestGlobAgainstRegexp(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	random := func(alphabet []string, length int) string {
		var b strings.Builder
		for range r.IntN(length) {
			b.WriteString(alphabet[r.IntN(len(alphabet))])
		}
		return b.String()
	}
	for range 10000 {
		pattern := random([]string{"a", "b", "a", "b", "-", "é", "*", "?"}, 8)
		text := random([]string{"a", "b", "a", "b", "-", " ", "é"}, 10)
		g := compileGlob(pattern)
		if got, want := g.matches(text), regexp.MustCompile("^"+regexpOf(pattern)+"$").MatchString(text); got != want {
			t.Fatalf("%q and %q: %v", pattern, text, got)
		}
		got := g.matchesWords(text)
		if want := matchesWordsSlowly(pattern, text); got != want {
			t.Fatalf("words of %q and %q: %v", pattern, text, got)
		}
		if needed := g.needs(); got && needed != "" {
			found := false
			eachWord(text, func(token string, _, _ int) { found = found || token == needed })
			if !found {
				t.Fatalf("%q matches %q, which does not have %q", pattern, text, needed)
			}
		}
	}
}

func TestNeeds(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{
		"cake": "cake", "the best cake": "best", "foo bar*": "foo", "*foo bar": "bar", "cake*lie": "", "t?a": "", "c++": "c",
		"++": "+", "日本": "日", "*日*": "日", "a*b-c?": "-", "": "", "*": "",
	} {
		if got := compileGlob(pattern).needs(); got != want {
			t.Errorf("%q needs %q, want %q", pattern, got, want)
		}
	}
	if got := compileLiteral("A*B").needs(); got != "a" {
		t.Errorf("a literal needs %q", got)
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	for path, want := range map[string][]string{
		`content.body`:             {"content", "body"},
		`content.m\.mentions.room`: {"content", "m.mentions", "room"},
		`content.m\\foo`:           {"content", `m\foo`},
		`content.m\foo`:            {"content", `m\foo`},
		`type`:                     {"type"},
		``:                         {""},
		`a..b`:                     {"a", "", "b"},
		`a\`:                       {`a\`},
		`a\\.b`:                    {`a\`, "b"},
	} {
		if got := parsePath(path); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// TestGlobIsLinear has the texts and patterns that make others take quadratic time or worse.
func TestGlobIsLinear(t *testing.T) {
	t.Parallel()
	const size = 64 << 10
	started := time.Now()
	for _, pattern := range []string{
		strings.Repeat("a*", MaxPatternLength/2-1) + "b", strings.Repeat("a?", MaxPatternLength/2-1) + "b",
		strings.Repeat("a", MaxPatternLength), strings.Repeat("?", MaxPatternLength-1) + "b", strings.Repeat("-a", MaxPatternLength/2-1) + "b",
	} {
		g := compileGlob(pattern)
		for _, text := range []string{
			strings.Repeat("a", size), strings.Repeat("a-", size/2), strings.Repeat("-", size), strings.Repeat("日a", size/4),
		} {
			g.matches(text)
			g.matchesWords(text)
		}
	}
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func FuzzGlob(f *testing.F) {
	f.Add("cake*l?e", "the cake is a lie")
	f.Add("**?", "日本")
	f.Add("c++", "abc++ c++1")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		pattern, text = strings.ToValidUTF8(pattern, ""), fold(strings.ToValidUTF8(text, ""))
		if len(pattern) > 40 || len(text) > 40 {
			return
		}
		g := compileGlob(pattern)
		if got, want := g.matches(text), regexp.MustCompile("^"+regexpOf(fold(pattern))+"$").MatchString(text); got != want {
			t.Fatalf("%q and %q: %v", pattern, text, got)
		}
		if got, want := g.matchesWords(text), matchesWordsSlowly(fold(pattern), text); got != want {
			t.Fatalf("words of %q and %q: %v", pattern, text, got)
		}
	})
}
