package room

import (
	"encoding/binary"
	"errors"
	"fmt"

	"stoa/matrix/pushrule"
)

// threadedTotals is the first byte of stored Totals of a room with threads. A room
// without threads stores plain pushrule.Totals, which begin with another letter.
const threadedTotals = 't'

// Totals count the live events of a room by class, up to and including some event. Unread
// counts are differences of them.
type Totals struct {
	// All counts every live event of the room, Threaded those in threads. Their
	// difference is the main timeline.
	All, Threaded pushrule.Totals
	// Thread counts the events of the event's own thread; zero in the totals of a room.
	Thread pushrule.Totals
}

// Main counts the events of the main timeline.
func (t Totals) Main() pushrule.Totals { return t.All.Minus(t.Threaded) }

// add counts one more event. threaded says whether it belongs to a thread.
func (t *Totals) add(class pushrule.Class, threaded bool) {
	t.All.Add(class)
	if threaded {
		t.Threaded.Add(class)
		t.Thread.Add(class)
	}
}

// Append appends the stored form.
func (t Totals) Append(dst []byte) []byte {
	if t.Threaded.IsZero() && t.Thread.IsZero() {
		return t.All.Append(dst)
	}
	dst = append(dst, threadedTotals)
	for _, part := range [...]pushrule.Totals{t.All, t.Threaded, t.Thread} {
		var buffer [64]byte
		stored := part.Append(buffer[:0])
		dst = append(binary.AppendUvarint(dst, uint64(len(stored))), stored...)
	}
	return dst
}

// ParseTotals reads the stored form (columns rooms.totals and events.totals).
func ParseTotals(stored []byte) (Totals, error) {
	var t Totals
	var err error
	if len(stored) == 0 || stored[0] != threadedTotals {
		t.All, err = pushrule.ParseTotals(stored)
		return t, err
	}
	rest := stored[1:]
	for _, part := range [...]*pushrule.Totals{&t.All, &t.Threaded, &t.Thread} {
		size, n := binary.Uvarint(rest)
		if n <= 0 || uint64(len(rest)-n) < size {
			return Totals{}, fmt.Errorf("totals end too early")
		}
		if *part, err = pushrule.ParseTotals(rest[n : n+int(size)]); err != nil {
			return Totals{}, err
		}
		rest = rest[n+int(size):]
	}
	if len(rest) > 0 {
		return Totals{}, fmt.Errorf("totals with %d bytes too many", len(rest))
	}
	return t, nil
}

// CheckTotals reports an error in the stored totals of two events of a room, the earlier
// one first: counts never go down. It is for [doctor.Options].
func CheckTotals(before, after []byte) error {
	earlier, err := ParseTotals(before)
	if err != nil {
		return fmt.Errorf("the earlier: %w", err)
	}
	later, err := ParseTotals(after)
	if err != nil {
		return fmt.Errorf("the later: %w", err)
	}
	if !earlier.All.Minus(later.All).IsZero() || !earlier.Threaded.Minus(later.Threaded).IsZero() {
		return errors.New("a count went down")
	}
	return nil
}
