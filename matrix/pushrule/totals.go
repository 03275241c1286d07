package pushrule

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// totalsFormat begins the stored form of Totals.
const totalsFormat = 'a'

// Totals counts the events of each class, from the beginning of a room or thread up to some event. The zero value counts
// nothing. Copies share memory until one of them is added to; Add never changes what a copy sees.
type Totals struct {
	// counts is in ascending order of class; it is replaced, never written.
	counts []classCount
}

type classCount struct {
	class Class
	count int64
}

// Add counts one more event.
func (t *Totals) Add(c Class) { t.AddMany(c, 1) }

// AddMany counts more events of one class. Events of ClassNone are not counted.
func (t *Totals) AddMany(c Class, events int64) {
	if c == ClassNone || events <= 0 {
		return
	}
	i, found := slices.BinarySearchFunc(t.counts, c, func(e classCount, c Class) int { return int(e.class) - int(c) })
	if found {
		t.counts = slices.Clone(t.counts)
		t.counts[i].count += events
		return
	}
	counts := make([]classCount, 0, len(t.counts)+1)
	counts = append(append(append(counts, t.counts[:i]...), classCount{c, events}), t.counts[i:]...)
	t.counts = counts
}

// Plus returns the sum of two totals.
func (t Totals) Plus(other Totals) Totals {
	for _, e := range other.counts {
		t.AddMany(e.class, e.count)
	}
	return t
}

// Minus returns the events that are in t and not in an earlier state of it. A class of which the base has more than t, which
// no earlier state has, counts zero.
func (t Totals) Minus(base Totals) Totals {
	var diff Totals
	rest := base.counts
	for _, e := range t.counts {
		for len(rest) > 0 && rest[0].class < e.class {
			rest = rest[1:]
		}
		if len(rest) > 0 && rest[0].class == e.class {
			e.count -= rest[0].count
		}
		if e.count > 0 {
			diff.counts = append(diff.counts, e)
		}
	}
	return diff
}

// Of returns the number of events of one class.
func (t Totals) Of(c Class) int64 {
	for _, e := range t.counts {
		if e.class == c {
			return e.count
		}
	}
	return 0
}

// IsZero says whether nothing has been counted.
func (t Totals) IsZero() bool { return len(t.counts) == 0 }

// Only returns the class of a difference that is one event; false if it is none or several. It gives back the class of an
// event of which the totals, and those of the event before, are stored.
func (t Totals) Only() (Class, bool) {
	if len(t.counts) == 1 && t.counts[0].count == 1 {
		return t.counts[0].class, true
	}
	return ClassNone, false
}

// Append appends the stored form: the letter a, and for each class, ascending, its difference to the class before and its
// count, as varints. Nothing counted is an empty text.
func (t Totals) Append(dst []byte) []byte {
	if len(t.counts) == 0 {
		return dst
	}
	dst = append(dst, totalsFormat)
	var before Class
	for _, e := range t.counts {
		dst = binary.AppendUvarint(dst, uint64(e.class-before))
		dst = binary.AppendUvarint(dst, uint64(e.count))
		before = e.class
	}
	return dst
}

// ParseTotals reads the stored form. It accepts exactly what Append writes.
func ParseTotals(stored []byte) (Totals, error) {
	if len(stored) == 0 {
		return Totals{}, nil
	}
	if stored[0] != totalsFormat {
		return Totals{}, fmt.Errorf("totals of unknown format %q", stored[0])
	}
	rest := stored[1:]
	if len(rest) == 0 {
		return Totals{}, fmt.Errorf("totals without a class")
	}
	var t Totals
	t.counts = make([]classCount, 0, len(rest)/2)
	var class uint64
	for len(rest) > 0 {
		step, after, err := takeUvarint(rest)
		if err != nil {
			return Totals{}, err
		}
		count, after, err := takeUvarint(after)
		if err != nil {
			return Totals{}, err
		}
		class += step
		if step == 0 || step >= uint64(1)<<16 || class >= uint64(1)<<16 || count == 0 || count > 1<<62 {
			return Totals{}, fmt.Errorf("totals with class step %d and count %d", step, count)
		}
		t.counts = append(t.counts, classCount{Class(class), int64(count)})
		rest = after
	}
	return t, nil
}

// takeUvarint reads a varint of the shortest form.
func takeUvarint(b []byte) (n uint64, rest []byte, err error) {
	n, size := binary.Uvarint(b)
	if size <= 0 || size > 1 && b[size-1] == 0 {
		return 0, nil, fmt.Errorf("totals with a broken varint")
	}
	return n, b[size:], nil
}
