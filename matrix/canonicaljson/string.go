package canonicaljson

import (
	"unicode/utf16"
	"unicode/utf8"
)

// AppendString appends a string in canonical form, with its quotes. Bytes that are not valid UTF-8 become U+FFFD.
//
// Spec: appendices#grammar
func AppendString[S ~string | ~[]byte](dst []byte, s S) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		from := i
		for i < len(s) && plain[s[i]] {
			i++
		}
		dst = append(dst, s[from:i]...)
		if i == len(s) {
			break
		}
		if c := s[i]; c < utf8.RuneSelf {
			dst = appendRune(dst, rune(c))
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
		dst = utf8.AppendRune(dst, r)
		i += size
	}
	return append(dst, '"')
}

// appendRune appends one character of a string, escaped if it must be.
func appendRune(dst []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	switch {
	case r == '"' || r == '\\':
		return append(dst, '\\', byte(r))
	case r >= 0x20:
		return utf8.AppendRune(dst, r)
	case r == '\b':
		return append(dst, '\\', 'b')
	case r == '\t':
		return append(dst, '\\', 't')
	case r == '\n':
		return append(dst, '\\', 'n')
	case r == '\f':
		return append(dst, '\\', 'f')
	case r == '\r':
		return append(dst, '\\', 'r')
	default:
		return append(dst, '\\', 'u', '0', '0', digits[r>>4], digits[r&15])
	}
}

// decodeEscape reads the escape sequence that s begins with, both halves of a surrogate pair included. The size is 0 if
// there is none.
func decodeEscape(s []byte) (r rune, size int) {
	if len(s) < 2 {
		return 0, 0
	}
	switch s[1] {
	case '"', '\\', '/':
		return rune(s[1]), 2
	case 'b':
		return '\b', 2
	case 't':
		return '\t', 2
	case 'n':
		return '\n', 2
	case 'f':
		return '\f', 2
	case 'r':
		return '\r', 2
	case 'u':
		r, ok := hex4(s[2:])
		if !ok {
			return 0, 0
		}
		if !utf16.IsSurrogate(r) {
			return r, 6
		}
		if len(s) < 8 || s[6] != '\\' || s[7] != 'u' {
			return 0, 0
		}
		low, ok := hex4(s[8:])
		r = utf16.DecodeRune(r, low)
		if !ok || r == utf8.RuneError {
			return 0, 0
		}
		return r, 12
	}
	return 0, 0
}

// nextRune reads the first character of a string's inside.
func nextRune(s []byte) (r rune, size int) {
	if s[0] == '\\' {
		return decodeEscape(s)
	}
	return utf8.DecodeRune(s)
}

func hex4(s []byte) (r rune, ok bool) {
	if len(s) < 4 {
		return 0, false
	}
	for _, c := range s[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unescape returns the characters of a string's inside; the slice itself if nothing in it is escaped.
func unescape(s []byte) []byte {
	var out []byte
	for i, from := 0, 0; i < len(s); {
		if s[i] != '\\' {
			i++
			if i == len(s) && out != nil {
				out = append(out, s[from:i]...)
			}
			continue
		}
		r, size := decodeEscape(s[i:])
		if size == 0 { // broken: one character that is none
			r, size = utf8.RuneError, 1
		}
		if out == nil {
			out = make([]byte, 0, len(s))
		}
		out = utf8.AppendRune(append(out, s[from:i]...), r)
		i += size
		from = i
	}
	if out == nil {
		return s
	}
	return out
}
