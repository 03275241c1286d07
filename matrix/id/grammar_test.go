package id_test

import (
	"strings"
	"testing"

	"stoa/matrix/id"
)

// Spec: appendices#common-namespaced-identifier-grammar
func TestIsNamespaced(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]bool{
		"m.room.name": true, "com.example.identifier": true, "a": true, "a-b_c.0": true, strings.Repeat("a", 255): true,
		"": false, strings.Repeat("a", 256): false, "0a": false, ".a": false, "_a": false, "A": false, "aB": false, "a b": false, "ä": false, "a~": false,
	} {
		if got := id.IsNamespaced(in); got != want {
			t.Errorf("%q: %v", in, got)
		}
	}
}

// Spec: appendices#opaque-identifiers
func TestIsOpaque(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]bool{
		"aZ09-._~": true, "0": true, "~": true, strings.Repeat("A", 255): true,
		"": false, strings.Repeat("A", 256): false, "a b": false, "a/b": false, "ä": false, "a+b": false, "a=": false,
	} {
		if got := id.IsOpaque(in); got != want {
			t.Errorf("%q: %v", in, got)
		}
	}
}
