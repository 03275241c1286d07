package token

import (
	"fmt"
	"strconv"
)

// Sliding is a place in the stream on a connection of sliding sync: the `pos` of an answer. Its text form is
//
//	c1.<connection>.<generation>.<nonce>.<position>.<to-device position>.<typing digest>
//
// Conn, Gen and Nonce name the state of the connection that the answer left behind.
type Sliding struct {
	Conn, Gen, Nonce int64
	Stream           Stream
}

func (s Sliding) String() string {
	b := make([]byte, 0, 96)
	b = append(b, "c1."...)
	for _, n := range []int64{s.Conn, s.Gen, s.Nonce, s.Stream.Position, s.Stream.ToDevice} {
		b = strconv.AppendInt(b, n, 10)
		b = append(b, '.')
	}
	b = strconv.AppendUint(b, uint64(s.Stream.Typing), 16)
	return string(b)
}

// ParseSliding parses a Sliding.
func ParseSliding(text string) (Sliding, error) {
	fields, ok := split(text, "c1", 6)
	if !ok {
		return Sliding{}, fmt.Errorf("token of a connection %q: %w", text, ErrMalformed)
	}
	var s Sliding
	for i, n := range []*int64{&s.Conn, &s.Gen, &s.Nonce, &s.Stream.Position, &s.Stream.ToDevice} {
		value, okValue := integer(fields[i], false)
		*n, ok = value, ok && okValue
	}
	typing, err := strconv.ParseUint(fields[5], 16, 32)
	s.Stream.Typing = uint32(typing)
	if !ok || err != nil || s.String() != text {
		return Sliding{}, fmt.Errorf("token of a connection %q: %w", text, ErrMalformed)
	}
	return s, nil
}
