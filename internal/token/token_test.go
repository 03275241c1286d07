package token_test

import (
	"errors"
	"testing"

	"stoa/internal/token"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want token.Token
	}{
		"a place in the stream":     {"s1.1700000000000001.42.1f", token.Token{Stream: token.Stream{Position: 1700000000000001, ToDevice: 42, Typing: 0x1f}}},
		"the start of the stream":   {"s1.0.0.0", token.Token{}},
		"a live event":              {"t1.17.0", token.Token{Timeline: token.Timeline{Slot: 17}, IsTimeline: true}},
		"a backfilled event":        {"t1.17.-3", token.Token{Timeline: token.Timeline{Slot: 17, Offset: -3}, IsTimeline: true}},
		"a place on a connection":   {"c1.9007199254740991.3.4294967295.17.4.1f", token.Token{Stream: token.Stream{Position: 17, ToDevice: 4, Typing: 0x1f}}},
		"the largest typing digest": {"s1.1.1.ffffffff", token.Token{Stream: token.Stream{Position: 1, ToDevice: 1, Typing: 0xffffffff}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := token.Parse(c.text)
			if err != nil || got != c.want {
				t.Fatalf("Parse(%q) = %+v, %v; want %+v", c.text, got, err, c.want)
			}
		})
	}
}

func TestParse_refuses_what_was_not_printed_here(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "s", "t", "s1", "s1.", "s1.1", "s1.1.2", "s1.1.2.3.4", "s1.-1.2.3", "s1.01.2.3", "s1.+1.2.3", "s1.1.2.0x3", "s1.1.2.F",
		"c1.1.2.3.4.5", "c1.1.2.3.4.5.0.0", "c1.-1.2.3.4.5.0", "c1.01.2.3.4.5.0", "c1.1.2.3.4.5.F", "s1.1.2.100000000", "s2.1.2.3", "t1.1", "t1.1.2.3", "t1.-1.0", "t1.1.-0", "t1. 1.0", "t1.99999999999999999999.0", "1.2.3",
	} {
		if got, err := token.Parse(text); !errors.Is(err, token.ErrMalformed) {
			t.Errorf("Parse(%q) = %+v, %v; want ErrMalformed", text, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("s1.1.2.3")
	f.Add("t1.5.-1")
	f.Add("c1.5.1.7.3.0.0")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := token.Parse(text)
		if err != nil {
			return
		}
		again := got.Stream.String()
		if s, err := token.ParseSliding(text); err == nil {
			again = s.String()
		}
		if got.IsTimeline {
			again = got.Timeline.String()
		}
		if again != text {
			t.Fatalf("%q prints as %q", text, again)
		}
	})
}
