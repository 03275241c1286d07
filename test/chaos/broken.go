package main

import "stoa/test/kit"

// buildBroken builds the server with an overlay in which a group does not
// compare heads, and gives the binary.
func buildBroken(dir string) (string, error) {
	// What the commit queue compares before it takes a change, and what is said instead.
	const file = "internal/store/commit.go"
	return kit.BuildChanged(dir, "stoa-broken",
		kit.Edit{File: file, Old: "if part.expect != NoFence && part.expect != o.head {", New: "if false {"},
		kit.Edit{File: file, Old: "case part.expect != NoFence && part.expect != o.head:", New: "case false:"},
		kit.Edit{File: file, Old: "part.First != o.slot+1 || ", New: ""})
}
