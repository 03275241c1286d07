package store

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Binary forms in the store begin with a format letter (design law 11).
const (
	formatEdges   = 'e' // count of prev, prev…, count of auth, auth… as varints
	formatEntries = 'd' // per entry: key − key before, event − event before, as varints (signed)
)

var errBinary = errors.New("store: broken binary form")

func (e Edges) encode() []byte {
	if len(e.Prev) == 0 && len(e.Auth) == 0 {
		return nil
	}
	b := make([]byte, 1, 2+6*(len(e.Prev)+len(e.Auth)))
	b[0] = formatEdges
	for _, list := range [][]EventNum{e.Prev, e.Auth} {
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, n := range list {
			b = binary.AppendUvarint(b, uint64(n))
		}
	}
	return b
}

func decodeEdges(b []byte) (e Edges, err error) {
	if len(b) == 0 {
		return e, nil
	}
	if b[0] != formatEdges {
		return e, fmt.Errorf("%w: edges of format %q", errBinary, b[0])
	}
	b = b[1:]
	for _, list := range []*[]EventNum{&e.Prev, &e.Auth} {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)) {
			return e, fmt.Errorf("%w: edges", errBinary)
		}
		b = b[w:]
		*list = make([]EventNum, n)
		for i := range *list {
			v, w := binary.Uvarint(b)
			if w <= 0 {
				return e, fmt.Errorf("%w: edges", errBinary)
			}
			(*list)[i] = EventNum(v)
			b = b[w:]
		}
	}
	return e, nil
}

func encodeEntries(entries []StateEntry) []byte {
	b := make([]byte, 1, 1+6*len(entries))
	b[0] = formatEntries
	var last StateEntry
	for _, e := range entries {
		b = binary.AppendVarint(b, int64(e.Key-last.Key))
		b = binary.AppendVarint(b, int64(e.Event-last.Event))
		last = e
	}
	return b
}

func decodeEntries(b []byte) ([]StateEntry, error) {
	if len(b) == 0 || b[0] != formatEntries {
		return nil, fmt.Errorf("%w: state delta", errBinary)
	}
	var out []StateEntry
	var last StateEntry
	for b = b[1:]; len(b) > 0; {
		key, w := binary.Varint(b)
		if w <= 0 {
			return nil, fmt.Errorf("%w: state delta", errBinary)
		}
		event, x := binary.Varint(b[w:])
		if x <= 0 {
			return nil, fmt.Errorf("%w: state delta", errBinary)
		}
		b = b[w+x:]
		last.Key += KeyNum(key)
		last.Event += EventNum(event)
		out = append(out, last)
	}
	return out, nil
}
