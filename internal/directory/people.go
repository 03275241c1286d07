package directory

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/userdb"
	"stoa/internal/textsearch"
	"stoa/matrix/event"
	"stoa/matrix/id"
)

// Person is a user whom a search has found.
type Person struct {
	UserID      string `json:"user_id"`
	DisplayName string `json:"display_name,omitempty"`
	AvatarURL   string `json:"avatar_url,omitempty"`

	num  store.UserNum
	rank int // less is better
}

// Bounds of a search for people.
const (
	// peopleRows bounds the rows of the index that a search reads.
	peopleRows = 1000
	// peopleChecked bounds the people of whom a search finds out whether the searcher may find them.
	peopleChecked = 300
	// peopleRooms bounds the rooms of one person that are looked at.
	peopleRooms = 50
	// maxTerm bounds a search term, in bytes.
	maxTerm = 200
	// searches is how many searches of an instance run at a time; more wait. A search reads from the store a few hundred times.
	searches = 2
)

// SearchPeople finds active local users. Each word of the term must be contained in the user ID or display name, whatever
// its case and diacritics (package textsearch). The result includes users who share a room with the searcher, and members
// of rooms that anyone may join or read. The searcher is found only by a whole name, since people look for others. limited
// reports whether there are more results than limit, or may be.
//
// Spec: client-server-api#post_matrixclientv3user_directorysearch
func (d *Directory) SearchPeople(ctx context.Context, searcher id.UserID, term string, limit int) (found []Person, limited bool, err error) {
	found = []Person{}
	if len(term) > maxTerm {
		return found, false, nil // no name is as long
	}
	term = textsearch.Fold(strings.TrimSpace(term))
	select {
	case d.searches <- struct{}{}:
		defer func() { <-d.searches }()
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	err = d.store.Read(ctx, func(r *store.Read) error {
		self, err := d.store.UserNum(r, searcher.String())
		if err != nil {
			return err
		}
		matches, more, err := matching(r, term)
		if err != nil {
			return err
		}
		limited = more
		open := map[store.RoomNum]bool{}
		for i, p := range matches {
			if i == peopleChecked {
				limited = true
				return nil
			}
			if p.num == self && p.rank > wholeName {
				continue
			}
			visible, err := d.isVisible(r, self, p.num, open)
			if err != nil {
				return err
			}
			if !visible {
				continue
			}
			if len(found) == limit {
				limited = true
				return nil
			}
			found = append(found, p)
		}
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("search people: %w", err)
	}
	return found, limited, nil
}

// matching returns the users whose ID or name contains all words of a folded term, the best first. more says that the
// index had more rows than were read.
func matching(r *store.Read, term string) (matches []Person, more bool, err error) {
	key := textsearch.Key(term)
	if at := strings.IndexByte(term, ':'); at > 0 && term[0] == '@' {
		key = textsearch.Key(term[:at]) // the words of a server name are not in the index
	}
	if key == "" {
		return nil, false, nil
	}
	users, rows, err := userdb.UsersByWord(r, key, peopleRows)
	if err != nil || len(users) == 0 {
		return nil, false, err
	}
	people, err := userdb.PeopleByNum(r, users)
	if err != nil {
		return nil, false, err
	}
	for _, row := range people {
		p := Person{UserID: row.UserID, DisplayName: text(row.DisplayName), AvatarURL: text(row.AvatarURL), num: row.User}
		if p.rank = rank(&p, term); p.rank < noMatch {
			matches = append(matches, p)
		}
	}
	slices.SortFunc(matches, func(a, b Person) int { return cmp.Or(cmp.Compare(a.rank, b.rank), strings.Compare(a.UserID, b.UserID)) })
	return matches, rows == peopleRows, nil
}

const (
	wholeName = 1   // or less: the term is the whole of a name
	noMatch   = 100 // no name contains the term
)

// rank says how well a user fits a folded term: the whole name, its beginning, any part of it, all of its words somewhere.
// Users with a display name come before users without one.
func rank(p *Person, term string) int {
	localpart, _, _ := strings.Cut(strings.TrimPrefix(p.UserID, "@"), ":")
	best := noMatch
	names := [...]string{textsearch.Fold(localpart), textsearch.Fold(p.UserID), textsearch.Fold(p.DisplayName)}
	for _, name := range names {
		switch {
		case name == "":
		case name == term:
			best = min(best, 0)
		case strings.HasPrefix(name, term):
			best = min(best, 2)
		case strings.Contains(name, term):
			best = min(best, 4)
		}
	}
	if best == noMatch && !slices.ContainsFunc(strings.Fields(term), func(word string) bool {
		return !strings.Contains(names[1], word) && !strings.Contains(names[2], word)
	}) {
		best = 6
	}
	if p.DisplayName == "" && best < noMatch {
		best++
	}
	return best
}

// text reads a field of a profile, which is JSON; "" if it is no text.
func text(raw string) (s string) {
	if raw == "" || json.Unmarshal([]byte(raw), &s) != nil {
		return ""
	}
	return s
}

// isVisible says whether one local user may find another. open remembers which
// rooms are open to everybody.
func (d *Directory) isVisible(r *store.Read, searcher, other store.UserNum, open map[store.RoomNum]bool) (bool, error) {
	if searcher == other {
		return true, nil
	}
	if shares, err := userdb.SharesRoom(r, searcher, other); err != nil || shares {
		return shares, err
	}
	rooms, err := roomdb.JoinedRooms(r, other)
	if err != nil {
		return false, err
	}
	for _, j := range rooms[:min(len(rooms), peopleRooms)] {
		isOpen, known := open[j.Room]
		if !known {
			roomID, err := id.ParseRoomID(j.RoomID)
			if err != nil {
				return false, err
			}
			if isOpen, err = d.isOpen(r, roomID); err != nil {
				return false, err
			}
			open[j.Room] = isOpen
		}
		if isOpen {
			return true, nil
		}
	}
	return false, nil
}

// isOpen says whether anybody may join or read a room.
func (d *Directory) isOpen(r *store.Read, roomID id.RoomID) (bool, error) {
	v, err := d.history.Viewer(r, roomID, id.UserID{})
	if err != nil {
		return false, err
	}
	if v.IsWorldReadable() {
		return true, nil
	}
	state, err := v.State(event.TypeJoinRules)
	if err != nil || state[event.TypeJoinRules] == nil {
		return false, err
	}
	rules, err := state[event.TypeJoinRules].JoinRules()
	return err == nil && rules.JoinRule == event.JoinRulePublic, err
}
