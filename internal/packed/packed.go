// Package packed encodes and decodes messages between instances: numbers as uvarints,
// texts prefixed with their length, without gaps.
//
// It owns the encoding. Writers and readers agree on the order of the values.
//
// The invariant: a Reader never fails half way. After malformed input it returns only
// empty values, and Done reports the error.
package packed

import (
	"encoding/binary"
	"errors"
)

// AppendNumber appends a nonnegative number.
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

// ErrMalformed says that a message is malformed.
var ErrMalformed = errors.New("malformed message of another instance")

// Reader decodes values. The texts that it returns share memory with the input.
type Reader struct {
	rest   string
	broken bool
}

// Read returns a Reader of a message.
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

// Count reads the number of items that follow, each of which has at least size bytes.
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

// More reports whether more values follow.
func (r *Reader) More() bool { return r.rest != "" }

// Broken reports whether the input was malformed so far.
func (r *Reader) Broken() bool { return r.broken }

// Done returns ErrMalformed if the input was malformed, or if some of it is left.
func (r *Reader) Done() error {
	if r.broken || r.rest != "" {
		return ErrMalformed
	}
	return nil
}

func (r *Reader) fail() { r.rest, r.broken = "", true }
