package token

import (
	"fmt"
	"strconv"
)

// Hierarchy is a place in the tree of a space: after a number of rooms in a traversal with
// these parameters. Its text form is
//
//	h1.<rooms>.<depth>.<0 or 1>
type Hierarchy struct {
	Skip          int
	MaxDepth      int
	SuggestedOnly bool
}

func (h Hierarchy) String() string {
	suggested := ".0"
	if h.SuggestedOnly {
		suggested = ".1"
	}
	return "h1." + strconv.Itoa(h.Skip) + "." + strconv.Itoa(h.MaxDepth) + suggested
}

// ParseHierarchy parses a Hierarchy.
func ParseHierarchy(text string) (Hierarchy, error) {
	fields, ok := split(text, "h1", 3)
	if !ok {
		return Hierarchy{}, fmt.Errorf("hierarchy token %q: %w", text, ErrMalformed)
	}
	skip, okSkip := integer(fields[0], false)
	depth, okDepth := integer(fields[1], false)
	h := Hierarchy{Skip: int(skip), MaxDepth: int(depth), SuggestedOnly: fields[2] == "1"}
	if !okSkip || !okDepth || h.String() != text {
		return Hierarchy{}, fmt.Errorf("hierarchy token %q: %w", text, ErrMalformed)
	}
	return h, nil
}
