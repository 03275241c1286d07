package token

import (
	"fmt"
	"strconv"
)

// Published is a place in the list of published rooms: after a room in the order of
// the list, or, if Back is set, before it. Its text form is
//
//	p1.<f or b>.<joined members>.<room number>
type Published struct {
	Back   bool
	Joined int64
	Room   int64
}

func (p Published) String() string {
	dir := ".f."
	if p.Back {
		dir = ".b."
	}
	return "p1" + dir + strconv.FormatInt(p.Joined, 10) + "." + strconv.FormatInt(p.Room, 10)
}

// ParsePublished parses a Published.
func ParsePublished(text string) (Published, error) {
	fields, ok := split(text, "p1", 3)
	if !ok {
		return Published{}, fmt.Errorf("directory token %q: %w", text, ErrMalformed)
	}
	p := Published{Back: fields[0] == "b"}
	var okJoined, okRoom bool
	p.Joined, okJoined = integer(fields[1], false)
	p.Room, okRoom = integer(fields[2], false)
	if !okJoined || !okRoom || p.String() != text {
		return Published{}, fmt.Errorf("directory token %q: %w", text, ErrMalformed)
	}
	return p, nil
}
