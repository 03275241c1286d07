package packed_test

import (
	"math"
	"testing"

	"stoa/internal/packed"
)

func TestReader(t *testing.T) {
	t.Parallel()
	b := packed.AppendNumber(nil, int64(math.MaxInt64))
	b = packed.AppendText(b, "a text")
	b = packed.AppendBool(b, true)
	b = packed.AppendNumber(b, 2)
	b = packed.AppendText(packed.AppendText(b, ""), []byte{0, 255})
	r := packed.Read(string(b))
	if n := r.Number(); n != math.MaxInt64 {
		t.Errorf("number %d", n)
	}
	if s := r.Text(); s != "a text" {
		t.Errorf("text %q", s)
	}
	if !r.Bool() {
		t.Error("not true")
	}
	if n := r.Count(1); n != 2 {
		t.Errorf("count %d", n)
	}
	if s := r.Text() + r.Text(); s != "\x00\xff" || r.Done() != nil {
		t.Errorf("texts %q, %v", s, r.Done())
	}
}

// TestReader_malformed: whatever bytes come, they are refused and nothing panics.
func TestReader_malformed(t *testing.T) {
	t.Parallel()
	endless := "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
	for name, read := range map[string]func() *packed.Reader{
		"endless number": func() *packed.Reader { r := packed.Read(endless); r.Number(); return r },
		"short text":     func() *packed.Reader { r := packed.Read("\x05abc"); r.Text(); return r },
		"huge count":     func() *packed.Reader { r := packed.Read("\x7fabc"); r.Count(1); return r },
		"nothing":        func() *packed.Reader { r := packed.Read(""); r.Number(); return r },
		"left over":      func() *packed.Reader { r := packed.Read("\x01a\x00"); r.Text(); return r },
	} {
		r := read()
		if r.Done() == nil {
			t.Errorf("%s: taken", name)
		}
		if r.Broken() && (r.Text() != "" || r.Number() != 0 || r.Count(1) != 0 || r.More()) {
			t.Errorf("%s: gives something though broken", name)
		}
	}
}
