// Package canonicaljson brings JSON into the one form that Matrix hashes and signs, and reads JSON that has that form
// without copying it.
//
// It owns the canonical form, its limits, and the scanner that the event packages read PDUs with. It never builds trees of
// maps, and never accepts two keys of the same name in one object. The invariant: what Append returns is a fixed point:
// putting it through Append again changes no byte.
//
// Spec: appendices#canonical-json
package canonicaljson

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"sync"
	"unicode/utf8"
)

const (
	// MaxDepth is the deepest nesting of objects and arrays that is taken. The specification sets none.
	MaxDepth = 100
	// MaxInteger is the greatest integer of canonical JSON, 2^53-1; the least is -MaxInteger.
	MaxInteger = 1<<53 - 1
)

// Error says where and why a text is not the JSON that was asked for.
type Error struct {
	// Offset is the place in the input, in bytes.
	Offset int
	// Reason is what is wrong there.
	Reason string
}

func (e *Error) Error() string {
	return "JSON at byte " + strconv.Itoa(e.Offset) + ": " + e.Reason
}

// numbers says which numbers a writer takes.
type numbers uint8

const (
	// canonicalNumbers: integers of ±(2^53-1) without exponents; no -0.
	canonicalNumbers numbers = iota
	// looseNumbers: all; those that are integers in disguise (-0, 1e3) are written as integers.
	looseNumbers
	// shortNumbers: as looseNumbers, but floats in their shortest form.
	shortNumbers
	// anyNumbers: all, as they came.
	anyNumbers
)

// Append appends the canonical form of one JSON text to dst and returns the extended slice. On error the slice that is
// returned is dst as it was.
//
// It is strict: keys must be unique in their object, strings must be valid UTF-8 without lone surrogates, numbers must be
// integers of ±(2^53-1) that have no fraction, no exponent and are not -0, and nesting must not be deeper than MaxDepth.
// Errors are *Error.
//
// Spec: appendices#canonical-json, rooms/v6#canonical-json
func Append(dst, src []byte) ([]byte, error) {
	return run(dst, src, canonicalNumbers)
}

// AppendLoose is Append for events of room versions that don't enforce canonical JSON (before 6): integers may have any
// size, and floats are kept as they came, because the sender's signature covers them so. Integers with an exponent and -0
// are written as plain integers.
//
// Spec: appendices#canonical-json, rooms/v1#canonical-json
func AppendLoose(dst, src []byte) ([]byte, error) {
	return run(dst, src, looseNumbers)
}

// AppendShortest is AppendLoose for what this server sends first: floats are written in the shortest form that stands for the
// same double, as servers write them that read JSON into values and write those. Floats without one (1e400) are errors.
func AppendShortest(dst, src []byte) ([]byte, error) {
	return run(dst, src, shortNumbers)
}

// Check says whether a text is well-formed JSON with unique keys, valid UTF-8 and bounded depth. Numbers may be floats: it is
// meant for request bodies, which are no events. Errors are *Error.
func Check(src []byte) error {
	w := writers.Get().(*writer)
	defer w.release()
	err := w.run(w.spare[:0], src, anyNumbers)
	if cap(w.dst) <= maxKeptSpare {
		w.spare = w.dst
	}
	return err
}

// Marshal returns the canonical form of a Go value, by way of encoding/json. Values that have no canonical form, such as
// floats with a fraction, are errors.
func Marshal(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return Append(make([]byte, 0, len(text)), text)
}

func run(dst, src []byte, numbers numbers) ([]byte, error) {
	w := writers.Get().(*writer)
	defer w.release()
	if err := w.run(dst, src, numbers); err != nil {
		return dst, err
	}
	return w.dst, nil
}

// member is one key and value of an object that is being written, as offsets into writer.dst.
type member struct {
	start  int // the quote before the key
	keyEnd int // the quote behind the key
	end    int // behind the value
}

// writer copies src to dst in canonical form in one pass. An object is written in the order of its source; if its keys
// were out of order, its members are put into order when it ends.
type writer struct {
	src     []byte
	pos     int
	dst     []byte
	members []member // of all objects that are open, innermost last
	spare   []byte   // to write to what nobody wants to read
	numbers numbers
	reason  string // of the first error; "" if there was none
	at      int    // its place in src
}

// writers are kept for their memory alone.
var writers = sync.Pool{New: func() any {
	return &writer{members: make([]member, 0, 64), spare: make([]byte, 0, 4096)}
}}

// The memory of a writer that had more to do than this is not kept.
const (
	maxKeptMembers = 4096
	maxKeptSpare   = 64 << 10
)

func (w *writer) release() {
	if cap(w.members) <= maxKeptMembers {
		*w = writer{members: w.members[:0], spare: w.spare}
		writers.Put(w)
	}
}

// run writes one JSON text to w.dst, behind what is in dst.
func (w *writer) run(dst, src []byte, numbers numbers) error {
	w.src, w.dst, w.numbers = src, dst, numbers
	w.space()
	if w.value(0) {
		w.space()
		if w.pos < len(w.src) {
			w.fail(w.pos, "there is more behind the value")
		}
	}
	if w.reason != "" {
		return &Error{Offset: w.at, Reason: w.reason}
	}
	return nil
}

// fail notes the first error and returns false.
func (w *writer) fail(at int, reason string) bool {
	if w.reason == "" {
		w.at, w.reason = at, reason
	}
	return false
}

func (w *writer) space() {
	for w.pos < len(w.src) {
		switch w.src[w.pos] {
		case ' ', '\t', '\n', '\r':
			w.pos++
		default:
			return
		}
	}
}

// peek returns the next byte, 0 at the end.
func (w *writer) peek() byte {
	if w.pos < len(w.src) {
		return w.src[w.pos]
	}
	return 0
}

func (w *writer) value(depth int) bool {
	switch c := w.peek(); c {
	case '"':
		return w.string()
	case '{':
		return w.object(depth + 1)
	case '[':
		return w.array(depth + 1)
	case 't':
		return w.literal("true")
	case 'f':
		return w.literal("false")
	case 'n':
		return w.literal("null")
	default:
		if c == '-' || c >= '0' && c <= '9' {
			return w.number()
		}
		if w.pos >= len(w.src) {
			return w.fail(w.pos, "the text ends where a value should be")
		}
		return w.fail(w.pos, "no value begins like this")
	}
}

func (w *writer) literal(name string) bool {
	if len(w.src)-w.pos < len(name) || string(w.src[w.pos:w.pos+len(name)]) != name {
		return w.fail(w.pos, "no value begins like this")
	}
	w.dst = append(w.dst, name...)
	w.pos += len(name)
	return true
}

func (w *writer) array(depth int) bool {
	if depth > MaxDepth {
		return w.fail(w.pos, "it is nested too deep")
	}
	w.pos++
	w.dst = append(w.dst, '[')
	w.space()
	if w.peek() == ']' {
		w.pos++
		w.dst = append(w.dst, ']')
		return true
	}
	for {
		w.space()
		if !w.value(depth) {
			return false
		}
		w.space()
		switch w.peek() {
		case ',':
			w.pos++
			w.dst = append(w.dst, ',')
		case ']':
			w.pos++
			w.dst = append(w.dst, ']')
			return true
		default:
			return w.fail(w.pos, "an array goes on with ',' or ends with ']'")
		}
	}
}

func (w *writer) object(depth int) bool {
	if depth > MaxDepth {
		return w.fail(w.pos, "it is nested too deep")
	}
	opening := w.pos
	w.pos++
	w.dst = append(w.dst, '{')
	w.space()
	if w.peek() == '}' {
		w.pos++
		w.dst = append(w.dst, '}')
		return true
	}
	base, sorted := len(w.members), true
	for {
		w.space()
		if w.peek() != '"' {
			return w.fail(w.pos, "an object's key must be a string")
		}
		at := w.pos
		m := member{start: len(w.dst)}
		if !w.string() {
			return false
		}
		m.keyEnd = len(w.dst) - 1
		if last := len(w.members) - 1; last >= base && sorted {
			switch c := w.compare(w.members[last], m); {
			case c == 0:
				return w.fail(at, "the key stands twice in its object")
			case c > 0:
				sorted = false
			}
		}
		w.space()
		if w.peek() != ':' {
			return w.fail(w.pos, "a key is followed by ':'")
		}
		w.pos++
		w.dst = append(w.dst, ':')
		w.space()
		if !w.value(depth) {
			return false
		}
		m.end = len(w.dst)
		w.members = append(w.members, m)
		w.space()
		switch w.peek() {
		case ',':
			w.pos++
			w.dst = append(w.dst, ',')
			continue
		case '}':
			w.pos++
			w.dst = append(w.dst, '}')
		default:
			return w.fail(w.pos, "an object goes on with ',' or ends with '}'")
		}
		break
	}
	if !sorted && !w.sort(base, opening) {
		return false
	}
	w.members = w.members[:base]
	return true
}

// sort puts the members from base on, which lie one behind the other at the end of dst, into the order of their keys.
func (w *writer) sort(base, opening int) bool {
	members := w.members[base:]
	from, end := members[0].start, len(w.dst)
	slices.SortFunc(members, w.compare)
	for i := 1; i < len(members); i++ {
		if w.compare(members[i-1], members[i]) == 0 {
			return w.fail(opening, "a key stands twice in this object")
		}
	}
	w.dst = append(w.dst, w.dst[from:end]...) // a copy behind the end, to take the members from
	copied := w.dst[end:]
	out := w.dst[:from]
	for i, m := range members {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, copied[m.start-from:m.end-from]...)
	}
	w.dst = append(out, '}')
	return true
}

// compare orders two members by the code points of their keys. The order of UTF-8 bytes is the order of code points; that
// of the escaped text is not.
func (w *writer) compare(a, b member) int {
	x, y := w.dst[a.start+1:a.keyEnd], w.dst[b.start+1:b.keyEnd]
	if bytes.IndexByte(x, '\\') < 0 && bytes.IndexByte(y, '\\') < 0 {
		return bytes.Compare(x, y)
	}
	for len(x) > 0 && len(y) > 0 {
		r, size := nextRune(x)
		q, other := nextRune(y)
		if r != q {
			return int(r - q)
		}
		x, y = x[size:], y[other:]
	}
	return len(x) - len(y)
}

// plain says of each byte whether it stands for itself in canonical strings and needs no look at its neighbours.
var plain = func() (t [256]bool) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

func (w *writer) string() bool {
	start := w.pos
	w.pos++
	w.dst = append(w.dst, '"')
	for {
		from := w.pos
		for w.pos < len(w.src) && plain[w.src[w.pos]] {
			w.pos++
		}
		w.dst = append(w.dst, w.src[from:w.pos]...)
		if w.pos >= len(w.src) {
			return w.fail(start, "the string does not end")
		}
		switch c := w.src[w.pos]; {
		case c == '"':
			w.pos++
			w.dst = append(w.dst, '"')
			return true
		case c == '\\':
			if !w.escape() {
				return false
			}
		case c < 0x20:
			return w.fail(w.pos, "a control character in a string must be escaped")
		default:
			r, size := utf8.DecodeRune(w.src[w.pos:])
			if r == utf8.RuneError && size <= 1 {
				return w.fail(w.pos, "the string is not valid UTF-8")
			}
			w.dst = append(w.dst, w.src[w.pos:w.pos+size]...)
			w.pos += size
		}
	}
}

// escape reads one escape sequence and writes its character in canonical form.
func (w *writer) escape() bool {
	r, size := decodeEscape(w.src[w.pos:])
	if size == 0 {
		return w.fail(w.pos, "no escape sequence is like this")
	}
	w.pos += size
	w.dst = appendRune(w.dst, r)
	return true
}

// number copies a number after checking its grammar and what the writer's numbers allow.
func (w *writer) number() bool {
	start := w.pos
	negative := w.peek() == '-'
	if negative {
		w.pos++
	}
	digits := w.pos
	w.digits()
	switch {
	case w.pos == digits:
		return w.fail(start, "a number needs digits")
	case w.src[digits] == '0' && w.pos > digits+1:
		return w.fail(start, "a number has no leading zeros")
	}
	integer := w.src[digits:w.pos]
	fraction, exponent := false, false
	if w.peek() == '.' {
		fraction = true
		w.pos++
		if !w.digits() {
			return w.fail(start, "a decimal point is followed by digits")
		}
	}
	if c := w.peek(); c == 'e' || c == 'E' {
		exponent = true
		w.pos++
		if c := w.peek(); c == '+' || c == '-' {
			w.pos++
		}
		if !w.digits() {
			return w.fail(start, "an exponent has digits")
		}
	}
	text := w.src[start:w.pos]
	float := fraction || exponent
	switch w.numbers {
	case canonicalNumbers:
		switch {
		case float:
			return w.fail(start, "floats are not allowed here")
		case negative && integer[0] == '0':
			return w.fail(start, "negative zero is not allowed here")
		case !safe(integer):
			return w.fail(start, "the integer is not in the range of ±(2^53-1)")
		}
	case looseNumbers, shortNumbers:
		if negative && integer[0] == '0' && !float {
			text = text[1:]
		}
		if float && (!fraction || w.numbers == shortNumbers) {
			return w.float(start, string(text), fraction)
		}
	}
	w.dst = append(w.dst, text...)
	return true
}

// float writes a float: as an integer if it is one in disguise, otherwise as it came or in its shortest form.
func (w *writer) float(start int, text string, fraction bool) bool {
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case !fraction && err == nil && f == math.Trunc(f) && math.Abs(f) <= MaxInteger:
		w.dst = strconv.AppendInt(w.dst, int64(f), 10)
	case w.numbers == looseNumbers:
		w.dst = append(w.dst, text...)
	case err != nil:
		return w.fail(start, "the float has no room in 64 bits")
	default:
		w.dst = appendFloat(w.dst, f)
	}
	return true
}

// appendFloat appends the shortest form of a float: with an exponent from 1e16 on and below 1e-4, and with a point otherwise.
func appendFloat(dst []byte, f float64) []byte {
	if size := math.Abs(f); size >= 1e16 || size < 1e-4 && size != 0 {
		return strconv.AppendFloat(dst, f, 'e', -1, 64)
	}
	if f == math.Trunc(f) {
		return strconv.AppendFloat(dst, f, 'f', 1, 64)
	}
	return strconv.AppendFloat(dst, f, 'f', -1, 64)
}

// digits skips digits and says whether there were any.
func (w *writer) digits() bool {
	from := w.pos
	for w.pos < len(w.src) && w.src[w.pos] >= '0' && w.src[w.pos] <= '9' {
		w.pos++
	}
	return w.pos > from
}

// safe says whether digits without leading zeros are at most MaxInteger.
func safe(digits []byte) bool {
	const greatest = "9007199254740991"
	return len(digits) < len(greatest) || len(digits) == len(greatest) && string(digits) <= greatest
}
