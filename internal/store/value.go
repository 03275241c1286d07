package store

import (
	"fmt"
	"reflect"
	"unsafe"
)

// value is one argument of a statement, without an interface.
type value struct {
	kind valueKind
	i    int64  // kindInt; index for kindSlot, kindInts, kindTexts
	s    string // kindText; kindBytes shares the caller's bytes
}

type valueKind uint8

const (
	kindNull valueKind = iota
	kindInt
	kindText
	kindBytes
	kindSlot  // i: index in args.slots, filled in by the commit queue
	kindInts  // i: index in args.ints
	kindTexts // i: index in args.texts
)

func (v *value) bytes() []byte { return unsafe.Slice(unsafe.StringData(v.s), len(v.s)) }

// args collects the arguments of one or many statements in one slice.
type args struct {
	vals  []value
	ints  [][]int64
	texts [][]string
	slots []slotRequest
	size  int // bytes of text and blobs
}

// window is a statement's part of an args.
type window struct {
	*args
	from, to int
}

func (a *args) all() window { return window{a, 0, len(a.vals)} }

func (a *args) reset() {
	clear(a.vals)
	clear(a.ints)
	clear(a.texts)
	a.vals, a.ints, a.texts, a.slots, a.size = a.vals[:0], a.ints[:0], a.texts[:0], a.slots[:0], 0
}

// add appends arguments. The slice and the interfaces in it don't escape, so a call with
// a dozen integers allocates nothing. Bytes are not copied and must not change until the
// statement has run. Lists are for {{in}} and {{intext}}.
func (a *args) add(s *Stmt, list []any) {
	for i, x := range list {
		var v value
		switch x := x.(type) {
		case nil:
		case int64:
			v = value{kind: kindInt, i: x}
		case int:
			v = value{kind: kindInt, i: int64(x)}
		case int32:
			v = value{kind: kindInt, i: int64(x)}
		case bool:
			v.kind = kindInt
			if x {
				v.i = 1
			}
		case string:
			v = value{kind: kindText, s: x}
		case []byte:
			if x != nil {
				v = value{kind: kindBytes, s: unsafe.String(unsafe.SliceData(x), len(x))}
			}
		case *string:
			if x != nil {
				v = value{kind: kindText, s: *x}
			}
		case RoomNum:
			v = value{kind: kindInt, i: int64(x)}
		case UserNum:
			v = value{kind: kindInt, i: int64(x)}
		case EventNum:
			v = value{kind: kindInt, i: int64(x)}
		case KeyNum:
			v = value{kind: kindInt, i: int64(x)}
		case VersionNum:
			v = value{kind: kindInt, i: int64(x)}
		case Head:
			v = value{kind: kindInt, i: int64(x)}
		case Slot:
			v = value{kind: kindInt, i: int64(x)}
		case Position:
			v = value{kind: kindInt, i: int64(x)}
		case Kind:
			v = value{kind: kindInt, i: int64(x)}
		case OwnerKind:
			v = value{kind: kindInt, i: int64(x)}
		case SlotArg:
			v = value{kind: kindSlot, i: int64(x)}
		case []int64:
			v = a.intList(x)
		case []EventNum:
			v = a.intList(asInts(x))
		case []RoomNum:
			v = a.intList(asInts(x))
		case []UserNum:
			v = a.intList(asInts(x))
		case []KeyNum:
			v = a.intList(asInts(x))
		case []string:
			v = value{kind: kindTexts, i: int64(len(a.texts))}
			a.texts = append(a.texts, x)
		default:
			panic(fmt.Sprintf("store: argument %d of %q is a %s; convert it to int64, string or []byte",
				i+1, s.text, reflect.TypeOf(x)))
		}
		a.size += len(v.s) + 8
		a.vals = append(a.vals, v)
	}
}

func (a *args) intList(x []int64) value {
	a.ints = append(a.ints, x)
	return value{kind: kindInts, i: int64(len(a.ints) - 1)}
}

func asInts[T ~int64](x []T) []int64 {
	return unsafe.Slice((*int64)(unsafe.Pointer(unsafe.SliceData(x))), len(x))
}

// Row is one row of an answer, valid until the scanning function returns.
// Columns are read from left to right. NULL reads as the zero value.
type Row struct {
	cols rowSource
	next int
	err  error
}

// rowSource reads columns of the current row.
type rowSource interface {
	int64(col int) (int64, error)
	text(col int) (string, error)
	bytes(col int) ([]byte, error)
	null(col int) bool
}

// Int reads the next column as an integer.
func (r *Row) Int() int64 {
	v, err := r.cols.int64(r.next)
	r.next++
	r.Fail(err)
	return v
}

// Bool reads the next column, an integer, as "not zero".
func (r *Row) Bool() bool { return r.Int() != 0 }

// Text reads the next column as text.
func (r *Row) Text() string {
	v, err := r.cols.text(r.next)
	r.next++
	r.Fail(err)
	return v
}

// Bytes reads the next column into new bytes; nil for NULL.
func (r *Row) Bytes() []byte {
	v, err := r.cols.bytes(r.next)
	r.next++
	r.Fail(err)
	return v
}

// Null reports whether the next column is NULL, without reading it.
func (r *Row) Null() bool { return r.cols.null(r.next) }

// Fail makes the query return err.
func (r *Row) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// Num reads the next column as one of the store's integer types.
func Num[T ~int64](r *Row) T { return T(r.Int()) }

// Scan reads the next columns into pointers to int64, int, bool, string,
// *string, []byte and the store's number types.
func (r *Row) Scan(dst ...any) {
	for _, d := range dst {
		switch d := d.(type) {
		case *int64:
			*d = r.Int()
		case *int:
			*d = int(r.Int())
		case *bool:
			*d = r.Bool()
		case *string:
			*d = r.Text()
		case **string:
			if r.Null() {
				r.next++
				*d = nil
			} else {
				s := r.Text()
				*d = &s
			}
		case *[]byte:
			*d = r.Bytes()
		case *RoomNum:
			*d = Num[RoomNum](r)
		case *UserNum:
			*d = Num[UserNum](r)
		case *EventNum:
			*d = Num[EventNum](r)
		case *KeyNum:
			*d = Num[KeyNum](r)
		case *VersionNum:
			*d = Num[VersionNum](r)
		case *Head:
			*d = Num[Head](r)
		case *Slot:
			*d = Num[Slot](r)
		case *Position:
			*d = Num[Position](r)
		case *Kind:
			*d = Kind(r.Int())
		case *OwnerKind:
			*d = OwnerKind(r.Int())
		default:
			panic("store: Scan into a " + reflect.TypeOf(d).String())
		}
	}
}
