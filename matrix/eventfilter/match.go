package eventfilter

import (
	"slices"
	"strings"

	"stoa/matrix/canonicaljson"
)

// set is a list of IDs. nil and empty differ: no list, and a list of none.
type set map[string]struct{}

func (s set) has(id string) bool {
	_, ok := s[id]
	return ok
}

// list returns the IDs in the set, in no order; false if it is nil.
func (s set) list() ([]string, bool) {
	if s == nil {
		return nil, false
	}
	listed := make([]string, 0, len(s))
	for id := range s {
		listed = append(listed, id)
	}
	return listed, true
}

// rooms is a pair of lists, rooms and not_rooms.
type rooms struct {
	only set // nil allows all
	not  set
}

func (r *rooms) allow(roomID string) bool {
	return !r.not.has(roomID) && (r.only == nil || r.only.has(roomID))
}

func (r *rooms) allowAll() bool { return r.only == nil && r.not == nil }

func (r *rooms) allowNone() bool { return r.only != nil && len(r.only) == 0 }

// contains says whether a list has an ID; nil has all.
func contains(list []string, id string) bool { return list == nil || slices.Contains(list, id) }

// patterns is a list of event types, in which `*` matches any sequence of characters.
type patterns struct {
	literal set
	globs   [][]string // cut at the stars
}

func (p *patterns) isEmpty() bool { return len(p.literal) == 0 && len(p.globs) == 0 }

func (p *patterns) match(eventType string) bool {
	if p.literal.has(eventType) {
		return true
	}
	for _, g := range p.globs {
		if globMatches(g, eventType) {
			return true
		}
	}
	return false
}

// globMatches says whether a text consists of the pieces, in order, with anything between them. There are two pieces at
// least. Taking the first place for each piece is enough, so the time is linear in the text.
func globMatches(pieces []string, text string) bool {
	rest, ok := strings.CutPrefix(text, pieces[0])
	if !ok {
		return false
	}
	for _, piece := range pieces[1 : len(pieces)-1] {
		if _, rest, ok = strings.Cut(rest, piece); !ok {
			return false
		}
	}
	return strings.HasSuffix(rest, pieces[len(pieces)-1])
}

// allowsContent applies contains_url.
func (f *RoomEventFilter) allowsContent(content []byte) bool {
	if f.containsURL == either {
		return true
	}
	return (canonicaljson.Get(content, "url") != nil) == (f.containsURL == yes)
}
