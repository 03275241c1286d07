// Binary forms of columns: events.edges, state_versions.delta.

package roomdb

import (
	"encoding/binary"
	"errors"
	"fmt"

	"stoa/internal/store"
)

// Binary forms in the store begin with a format letter (design law 11).
const (
	formatEdges   = 'e' // count of prev, prev…, count of auth, auth… as varints
	formatEntries = 'd' // per entry: key − key before, event − event before, as varints (signed)
)

var errBinary = errors.New("store: broken binary form")

func DecodeEdges(b []byte) (e Edges, err error) {
	if len(b) == 0 {
		return e, nil
	}
	if b[0] != formatEdges {
		return e, fmt.Errorf("%w: edges of format %q", errBinary, b[0])
	}
	b = b[1:]
	for _, list := range []*[]store.EventNum{&e.Prev, &e.Auth} {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)) {
			return e, fmt.Errorf("%w: edges", errBinary)
		}
		b = b[w:]
		*list = make([]store.EventNum, n)
		for i := range *list {
			v, w := binary.Uvarint(b)
			if w <= 0 {
				return e, fmt.Errorf("%w: edges", errBinary)
			}
			(*list)[i] = store.EventNum(v)
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

func DecodeEntries(b []byte) ([]StateEntry, error) {
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
		last.Key += store.KeyNum(key)
		last.Event += store.EventNum(event)
		out = append(out, last)
	}
	return out, nil
}
