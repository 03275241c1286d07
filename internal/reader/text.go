package reader

import (
	"runtime/debug"
	"strings"
)

// errorBytes bounds what is kept of an error.
const errorBytes = 1000

// reason is an error as it is kept in a table.
func reason(err error) string {
	text := strings.ToValidUTF8(err.Error(), "\uFFFD")
	if len(text) > errorBytes {
		text = strings.ToValidUTF8(text[:errorBytes], "")
	}
	return text
}

// stack is the stack of the goroutine that calls it.
func stack() string { return string(debug.Stack()) }
