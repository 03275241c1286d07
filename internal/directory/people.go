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
	peopleBatch = 2000
	// peopleRooms bounds the rooms of one person that are looked at.
	peopleRooms = 50
)

// SearchPeople finds local users by what their user ID or display name contains,
// in any case: those that share a room with the searcher and those in a room that
// anybody may join or read. The searcher is found by the whole of one of their names only, since they look for
// others. Limited says that there are more than limit.
//
// Spec: client-server-api#post_matrixclientv3user_directorysearch
func (d *Directory) SearchPeople(ctx context.Context, searcher id.UserID, term string, limit int) (found []Person, limited bool, err error) {
	term = strings.ToLower(strings.TrimSpace(term))
	found = []Person{}
	err = d.store.Read(ctx, func(r *store.Read) error {
		self, err := d.store.UserNum(r, searcher.String())
		if err != nil {
			return err
		}
		matches, err := matching(r, term)
		if err != nil {
			return err
		}
		open := map[store.RoomNum]bool{}
		for _, p := range matches {
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

// matching gives the users whose ID or name contains a term, the best first.
func matching(r *store.Read, term string) (matches []Person, err error) {
	for after := store.UserNum(0); ; {
		rows, err := userdb.People(r, after, peopleBatch)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			after = row.User
			p := Person{UserID: row.UserID, DisplayName: text(row.DisplayName), AvatarURL: text(row.AvatarURL), num: row.User}
			if p.rank = rank(&p, term); p.rank < noMatch {
				matches = append(matches, p)
			}
		}
		if len(rows) < peopleBatch {
			break
		}
	}
	slices.SortFunc(matches, func(a, b Person) int { return cmp.Or(cmp.Compare(a.rank, b.rank), strings.Compare(a.UserID, b.UserID)) })
	return matches, nil
}

const (
	wholeName = 1   // or less: the term is the whole of a name
	noMatch   = 100 // no name contains the term
)

// rank says how well a user fits a term: the whole name, its beginning, any part
// of it; those with a name before those without.
func rank(p *Person, term string) int {
	localpart, _, _ := strings.Cut(strings.TrimPrefix(p.UserID, "@"), ":")
	best := noMatch
	for _, name := range []string{localpart, p.UserID, p.DisplayName} {
		name = strings.ToLower(name)
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
