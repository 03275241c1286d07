package eventfilter

import (
	"strings"

	"stoa/matrix/canonicaljson"
)

// Fields selects fields of events: the paths of event_fields as a tree.
//
// Spec: appendices#dot-separated-property-paths
type Fields struct {
	// below has what is wanted of each property; nil is all of it.
	below map[string]*Fields
}

// NewFields makes a selection of dot-separated property paths, such as content.body.
func NewFields(paths []string) *Fields {
	root := &Fields{below: map[string]*Fields{}}
	for _, path := range paths {
		root.add(parsePath(path))
	}
	return root
}

// parsePath cuts a path into the names of its properties.
func parsePath(path string) []string {
	var names []string
	var name strings.Builder
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '.':
			names = append(names, name.String())
			name.Reset()
		case c == '\\' && i+1 < len(path) && (path[i+1] == '.' || path[i+1] == '\\'):
			i++
			name.WriteByte(path[i])
		default:
			name.WriteByte(c)
		}
	}
	return append(names, name.String())
}

func (f *Fields) add(path []string) {
	for i, name := range path {
		next, there := f.below[name]
		switch {
		case there && next == nil:
			return // all of it is wanted already
		case i == len(path)-1:
			f.below[name] = nil
			return
		case !there:
			next = &Fields{below: map[string]*Fields{}}
			f.below[name] = next
		}
		f = next
	}
}

// Select appends an event with only the wanted fields to dst. The event is a JSON object that has been checked before, such
// as canonical JSON; keys keep their order, and values their text. An object of which nothing is wanted is left out. If the
// text is no object, dst is returned as it was, with an error.
func (f *Fields) Select(dst, event []byte) ([]byte, error) {
	start := len(dst)
	dst, err := f.append(append(dst, '{'), event)
	if err != nil {
		return dst[:start], err
	}
	return append(dst, '}'), nil
}

// append appends the wanted members of an object.
func (f *Fields) append(dst, object []byte) ([]byte, error) {
	first := len(dst)
	err := canonicaljson.Object(object, func(key string, value []byte) error {
		next, wanted := f.below[key]
		if !wanted || next != nil && !canonicaljson.IsObject(value) {
			return nil
		}
		before := len(dst)
		if before > first {
			dst = append(dst, ',')
		}
		dst = append(canonicaljson.AppendString(dst, key), ':')
		if next == nil {
			dst = append(dst, value...)
			return nil
		}
		opened := len(dst) + 1
		var err error
		if dst, err = next.append(append(dst, '{'), value); err != nil {
			return err
		}
		if len(dst) == opened {
			dst = dst[:before]
			return nil
		}
		dst = append(dst, '}')
		return nil
	})
	return dst, err
}
