package cluster

import (
	"fmt"
	"math"
	"testing"

	"stoa/internal/stablehash"
)

func viewOf(names ...string) *view {
	v := &view{}
	for _, name := range names {
		v.members = append(v.members, member{name: name, hash: memberHash(name)})
	}
	return v
}

// TestHome_is_the_same_in_every_release: instances of two releases must agree on the
// homes of rooms. If this fails, fix the code and not the test.
func TestHome_is_the_same_in_every_release(t *testing.T) {
	t.Parallel()
	v := viewOf("a", "b", "c")
	for key, want := range map[string]string{
		"!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM": "b",
		"!one:example.org":   "c",
		"!two:example.org":   "a",
		"!three:example.org": "b",
		"!four:example.org":  "b",
		"!five:example.org":  "c",
		"":                   "c",
	} {
		if got := v.choose(kindRoom, key, true).name; got != want {
			t.Errorf("the home of %q is %s, want %s", key, got, want)
		}
	}
	if got, want := stablehash.Mix(keyHash("room", "!one:example.org")^memberHash("a")), uint64(0x6797c4d4911384b3); got != want {
		t.Errorf("the score is %#x, want %#x", got, want)
	}
}

func TestHomes_are_spread_evenly(t *testing.T) {
	t.Parallel()
	const keys = 20_000
	for _, names := range [][]string{{"a", "b"}, {"stoa-1", "stoa-2", "stoa-3"}, {"h-0001", "h-0002", "h-0003", "h-0004", "h-0005", "h-0006", "h-0007"}} {
		v := viewOf(names...)
		count := map[string]int{}
		for i := range keys {
			count[v.choose(kindRoom, fmt.Sprintf("!%d:example.org", i), true).name]++
		}
		fair := float64(keys) / float64(len(names))
		for name, n := range count {
			if math.Abs(float64(n)-fair) > 5*math.Sqrt(fair) {
				t.Errorf("%s of %d is home of %d rooms, fair were %.0f", name, len(names), n, fair)
			}
		}
	}
}

// TestHomes_move_only_with_their_instance: the other instances keep their rooms.
func TestHomes_move_only_with_their_instance(t *testing.T) {
	t.Parallel()
	before, after := viewOf("a", "b", "c", "d"), viewOf("a", "b", "d")
	for i := range 5_000 {
		key := fmt.Sprintf("!%d:example.org", i)
		was, is := before.choose(kindRoom, key, true).name, after.choose(kindRoom, key, true).name
		if was != is && was != "c" {
			t.Fatalf("%s moved from %s to %s, though %[2]s is still there", key, was, is)
		}
	}
}

// TestOwners_differ_by_kind: two kinds of work with the same keys are not all on the same
// instance.
func TestOwners_differ_by_kind(t *testing.T) {
	t.Parallel()
	v, same := viewOf("a", "b"), 0
	for i := range 1_000 {
		key := fmt.Sprint(i)
		if v.choose("pusher", key, true) == v.choose("destination", key, true) {
			same++
		}
	}
	if same < 400 || same > 600 {
		t.Errorf("%d of 1000 keys have the same owner for two kinds of work", same)
	}
}

func BenchmarkHome(b *testing.B) {
	v := viewOf("stoa-1", "stoa-2", "stoa-3", "stoa-4", "stoa-5")
	for b.Loop() {
		v.choose(kindRoom, "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM", true)
	}
}
