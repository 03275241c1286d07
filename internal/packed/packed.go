// Package packed writes and reads what instances send each other: numbers as
// uvarints, texts with their length before them, one after another.
//
// It owns how these stand in bytes. What follows what is the business of those who
// write and read.
//
// The invariant that matters: a Reader never fails half way. After something
// malformed all that it gives is empty, and Done says so.
package packed

import (
	"encoding/binary"
	"errors"
)

// AppendNumber appends a number that is not negative.
func AppendNumber[N ~int8 | ~int16 | ~int32 | ~int64 | ~int | ~uint16 | ~uint64](dst []byte, n N) []byte {
	return binary.AppendUvarint(dst, uint64(n))
}

// AppendText appends a text or bytes.
func AppendText[T ~string | ~[]byte](dst []byte, s T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// AppendBool appends 0 or 1.
func AppendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// ErrMalformed says that bytes are not what was expected.
var ErrMalformed = errors.New("malformed message of another instance")

// Reader reads what was appended. The texts that it gives share its memory.
type Reader struct {
	rest   string
	broken bool
}

// Read begins to read.
func Read(s string) *Reader { return &Reader{rest: s} }

// Number reads a number of at most 63 bits.
func (r *Reader) Number() uint64 {
	var n uint64
	for i := range min(len(r.rest), 9) {
		n |= uint64(r.rest[i]&0x7f) << (7 * i)
		if r.rest[i] < 0x80 {
			r.rest = r.rest[i+1:]
			return n
		}
	}
	r.fail()
	return 0
}

// Count reads the number of things that follow, each of at least size bytes.
func (r *Reader) Count(size int) int {
	n := r.Number()
	if n > uint64(len(r.rest)/size) {
		r.fail()
		return 0
	}
	return int(n)
}

// Text reads a text.
func (r *Reader) Text() string {
	n := r.Number()
	if n > uint64(len(r.rest)) {
		r.fail()
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

// Bool reads a bool.
func (r *Reader) Bool() bool { return r.Number() == 1 }

// More says whether there is something left to read.
func (r *Reader) More() bool { return r.rest != "" }

// Broken says that something was malformed.
func (r *Reader) Broken() bool { return r.broken }

// Done is ErrMalformed if something was, or is left.
func (r *Reader) Done() error {
	if r.broken || r.rest != "" {
		return ErrMalformed
	}
	return nil
}

func (r *Reader) fail() { r.rest, r.broken = "", true }
