package canonicaljson

import (
	"bytes"
	"strconv"
	"unsafe"
)

// The scanner reads JSON that has been through Append or Check before: it finds its way by the structure and looks at
// nothing else. Given other bytes it returns errors or nonsense, but it never panics and never reads beyond them.
//
// Keys, strings and values that it hands out share memory with the text; whoever keeps them longer than the text copies
// them.

// Object calls fn with each key and value of an object, in the order of the text. An error of fn ends the walk and is
// returned; other errors are *Error.
func Object(src []byte, fn func(key string, value []byte) error) error {
	pos := skipSpace(src, 0)
	if pos >= len(src) || src[pos] != '{' {
		return &Error{pos, "it is no object"}
	}
	pos = skipSpace(src, pos+1)
	if pos < len(src) && src[pos] == '}' {
		return atEnd(src, pos+1)
	}
	for {
		end := skipString(src, pos)
		if end < 0 {
			return &Error{pos, "an object's key must be a string"}
		}
		key := unquoted(src[pos:end])
		pos = skipSpace(src, end)
		if pos >= len(src) || src[pos] != ':' {
			return &Error{pos, "a key is followed by ':'"}
		}
		pos = skipSpace(src, pos+1)
		if end = skipValue(src, pos); end < 0 {
			return &Error{pos, "no value begins like this, or it does not end"}
		}
		if err := fn(key, src[pos:end:end]); err != nil {
			return err
		}
		pos = skipSpace(src, end)
		switch {
		case pos < len(src) && src[pos] == ',':
			pos = skipSpace(src, pos+1)
		case pos < len(src) && src[pos] == '}':
			return atEnd(src, pos+1)
		default:
			return &Error{pos, "an object goes on with ',' or ends with '}'"}
		}
	}
}

// Array calls fn with each value of an array. An error of fn ends the walk and is returned; other errors are *Error.
func Array(src []byte, fn func(value []byte) error) error {
	pos := skipSpace(src, 0)
	if pos >= len(src) || src[pos] != '[' {
		return &Error{pos, "it is no array"}
	}
	pos = skipSpace(src, pos+1)
	if pos < len(src) && src[pos] == ']' {
		return atEnd(src, pos+1)
	}
	for {
		end := skipValue(src, pos)
		if end < 0 {
			return &Error{pos, "no value begins like this, or it does not end"}
		}
		if err := fn(src[pos:end:end]); err != nil {
			return err
		}
		pos = skipSpace(src, end)
		switch {
		case pos < len(src) && src[pos] == ',':
			pos = skipSpace(src, pos+1)
		case pos < len(src) && src[pos] == ']':
			return atEnd(src, pos+1)
		default:
			return &Error{pos, "an array goes on with ',' or ends with ']'"}
		}
	}
}

// Get returns the value of a key of an object; nil if the text is no object or has no such key.
func Get(src []byte, key string) []byte {
	var found []byte
	err := Object(src, func(k string, value []byte) error {
		if k == key {
			found = value
			return errFound
		}
		return nil
	})
	if err != nil && found == nil {
		return nil
	}
	return found
}

// errFound ends a walk early.
var errFound = &Error{Reason: "found"}

// String returns the characters of a JSON string; false if the value is no string.
func String(value []byte) (string, bool) {
	if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
		return "", false
	}
	return unquoted(value), true
}

// Int returns a JSON integer; false if the value is no integer (floats with a zero fraction are none) or has no room in 64
// bits.
func Int(value []byte) (int64, bool) {
	if len(value) == 0 || value[0] == '+' {
		return 0, false
	}
	n, err := strconv.ParseInt(unsafe.String(unsafe.SliceData(value), len(value)), 10, 64)
	return n, err == nil
}

// Bool returns a JSON boolean; false, false if the value is none.
func Bool(value []byte) (b, ok bool) {
	switch string(value) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	return false, false
}

// IsObject says whether a value is an object.
func IsObject(value []byte) bool { return len(value) > 0 && value[0] == '{' }

// IsArray says whether a value is an array.
func IsArray(value []byte) bool { return len(value) > 0 && value[0] == '[' }

// unquoted returns the characters of a quoted string, without a copy if nothing in it is escaped.
func unquoted(quoted []byte) string {
	inside := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inside, '\\') >= 0 {
		return string(unescape(inside))
	}
	return unsafe.String(unsafe.SliceData(inside), len(inside))
}

func atEnd(src []byte, pos int) error {
	if pos = skipSpace(src, pos); pos < len(src) {
		return &Error{pos, "there is more behind the value"}
	}
	return nil
}

func skipSpace(src []byte, pos int) int {
	for pos < len(src) && src[pos] <= ' ' && (src[pos] == ' ' || src[pos] == '\t' || src[pos] == '\n' || src[pos] == '\r') {
		pos++
	}
	return pos
}

// skipString returns the place behind the string that begins at pos, -1 if none does.
func skipString(src []byte, pos int) int {
	if pos >= len(src) || src[pos] != '"' {
		return -1
	}
	for pos++; ; pos++ {
		i := bytes.IndexByte(src[pos:], '"')
		if i < 0 {
			return -1
		}
		slashes := 0
		for slashes < i && src[pos+i-1-slashes] == '\\' {
			slashes++
		}
		pos += i
		if slashes%2 == 0 {
			return pos + 1
		}
	}
}

// skipValue returns the place behind the value that begins at pos, -1 if none does.
func skipValue(src []byte, pos int) int {
	if pos >= len(src) {
		return -1
	}
	switch src[pos] {
	case '"':
		return skipString(src, pos)
	case '{', '[':
		return skipNested(src, pos)
	}
	end := pos
	for end < len(src) && scalar[src[end]] {
		end++
	}
	if end == pos {
		return -1
	}
	return end
}

// skipNested returns the place behind the object or array that begins at pos, -1 if it does not end.
func skipNested(src []byte, pos int) int {
	depth := 0
	for pos < len(src) {
		switch src[pos] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return pos + 1
			}
		case '"':
			if pos = skipString(src, pos); pos < 0 {
				return -1
			}
			continue
		}
		pos++
	}
	return -1
}

// scalar says which bytes numbers and literals consist of.
var scalar = func() (t [256]bool) {
	for _, c := range []byte("0123456789+-.eEtrufalsn") {
		t[c] = true
	}
	return t
}()
