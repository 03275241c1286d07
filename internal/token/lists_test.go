package token_test

import (
	"errors"
	"testing"

	"stoa/internal/token"
)

func TestPlacesInListsComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	for _, p := range []token.Published{{}, {Back: true, Joined: 3, Room: 1 << 40}, {Joined: 1<<63 - 1, Room: 1<<63 - 1}} {
		if got, err := token.ParsePublished(p.String()); err != nil || got != p {
			t.Errorf("%s: got %+v, %v", p, got, err)
		}
	}
	for _, h := range []token.Hierarchy{{}, {Skip: 50, MaxDepth: 10, SuggestedOnly: true}} {
		if got, err := token.ParseHierarchy(h.String()); err != nil || got != h {
			t.Errorf("%s: got %+v, %v", h, got, err)
		}
	}
	for _, q := range []token.Queue{{}, {Slot: 1<<63 - 1}} {
		if got, err := token.ParseQueue(q.String()); err != nil || got != q {
			t.Errorf("%s: got %+v, %v", q, got, err)
		}
	}
	for _, n := range []token.Notifications{{}, {Pos: 1<<63 - 1, Slot: 7}} {
		if got, err := token.ParseNotifications(n.String()); err != nil || got != n {
			t.Errorf("%s: got %+v, %v", n, got, err)
		}
	}
	for _, text := range []string{"", "n1.1", "n1.1.-1", "n1.01.1", "n1.1.1.1", "q1", "q1.-1", "q1.01", "q1.1.1", "p1", "p1.f.1", "p1.x.1.1", "p1.f.-1.1", "p1.f.01.1", "p1.f.1.1.1", "h1.1.1", "h1.1.1.2", "h1.-1.1.0", "t1.1.0", "s1.1.1.0"} {
		if _, err := token.ParsePublished(text); !errors.Is(err, token.ErrMalformed) {
			t.Errorf("published %q: %v", text, err)
		}
		if _, err := token.ParseNotifications(text); !errors.Is(err, token.ErrMalformed) {
			t.Errorf("notifications %q: %v", text, err)
		}
		if _, err := token.ParseQueue(text); !errors.Is(err, token.ErrMalformed) {
			t.Errorf("queue %q: %v", text, err)
		}
		if _, err := token.ParseHierarchy(text); !errors.Is(err, token.ErrMalformed) {
			t.Errorf("hierarchy %q: %v", text, err)
		}
	}
}
