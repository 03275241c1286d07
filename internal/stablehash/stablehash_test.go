package stablehash

import (
	"hash/fnv"
	"testing"
)

func TestValues_are_those_of_every_release(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "room", "!one:example.org", "a\x00b"} {
		h := fnv.New64a()
		h.Write([]byte(text))
		if got := Add(Start, text); got != h.Sum64() {
			t.Errorf("hash of %q is %#x, want %#x", text, got, h.Sum64())
		}
	}
	if got := Add(Add(Start, "ro"), "om"); got != Add(Start, "room") {
		t.Errorf("a text in two parts has the hash %#x", got)
	}
	// The first outputs of splitmix64 with the seed 0.
	if got, want := Mix(0), uint64(0xe220a8397b1dcdaf); got != want {
		t.Errorf("Mix(0) = %#x, want %#x", got, want)
	}
	if got, want := Mix(0x9e3779b97f4a7c15), uint64(0x6e789e6aa1b965f4); got != want {
		t.Errorf("Mix of the second state = %#x, want %#x", got, want)
	}
}
