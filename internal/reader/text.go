package reader

import (
	"runtime/debug"
	"strings"
)

// errorBytes bounds the stored text of an error.
const errorBytes = 1000

// reason is the stored text of an error.
func reason(err error) string {
	text := strings.ToValidUTF8(err.Error(), "\uFFFD")
	if len(text) > errorBytes {
		text = strings.ToValidUTF8(text[:errorBytes], "")
	}
	return text
}

// stack is the stack of the calling goroutine.
func stack() string { return string(debug.Stack()) }
