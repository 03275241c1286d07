package directory_test

import (
	"fmt"
	"strings"
	"testing"

	"stoa/internal/directory"
	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/matrix/id"
)

func TestSearchPeople(t *testing.T) {
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		alice, ann, joann, bob, hidden, gone := h.person("alice"), h.person("ann"), h.person("joann"), h.person("bob"), h.person("annhidden"), h.person("anngone")
		h.call(bob, "Ann Étoile")
		hall := h.create(alice)
		h.join(hall, ann, bob, gone)
		h.create(joann) // open to everybody, though alice is not there
		h.create(hidden, private)
		c := store.NewChange()
		userdb.Deactivate(c, h.num(gone))
		h.commit(c)
		search := func(user id.UserID, term string, limit int) ([]id.UserID, bool) {
			h.t.Helper()
			people, limited, err := h.SearchPeople(ctx, user, term, limit)
			h.must(err)
			if people == nil {
				h.t.Fatal("nobody is null in JSON")
			}
			return idsOf(h.t, people), limited
		}
		for _, c := range []struct {
			promise string
			term    string
			want    []id.UserID
		}{
			{"the whole name first, then its beginning, then any part", "ann", []id.UserID{ann, bob, joann}},
			{"in any case, with blanks around it", "  ANN ", []id.UserID{ann, bob, joann}},
			{"a display name with letters of any script", "éTOILE", []id.UserID{bob}},
			{"a user ID as a whole", "@ann:stoa.test", []id.UserID{ann}},
			{"the searcher by a whole name", "alice", []id.UserID{alice}},
			{"the searcher by no part of a name", "lic", nil},
			{"nobody", "zzz", nil},
			{"without diacritics", "etoile", []id.UserID{bob}},
			{"words in another order", "étoile ann", []id.UserID{bob}},
			{"the end of a word", "toile", []id.UserID{bob}},
			{"a word and one that nobody has", "ann zzz", nil},
			{"no word at all", "!?", nil},
			{"nothing", "", nil},
			{"a term that no name can hold", strings.Repeat("ann", 100), nil},
			{"no wildcards", "a%n", nil},
			{"no wildcards of one letter", "a_n", nil},
		} {
			got, limited := search(alice, c.term, 10)
			same(h.t, c.promise, got, c.want)
			if limited {
				h.t.Errorf("%s: a whole answer is called limited", c.promise)
			}
		}
		for limit := 1; limit <= 3; limit++ {
			got, limited := search(alice, "ann", limit)
			if len(got) != limit || limited != (limit < 3) {
				h.t.Errorf("with limit %d: %v, limited: %v", limit, got, limited)
			}
		}
		// Whom somebody shares a room with is found, whatever room it is.
		got, _ := search(hidden, "bob", 10)
		same(h.t, "bob in an open room", got, []id.UserID{bob})
		h.set(alice, hall, "m.room.join_rules", "", `{"join_rule":"invite"}`)
		got, _ = search(hidden, "bob", 10)
		same(h.t, "bob in a room that was closed", got, nil)
		got, _ = search(ann, "bob", 10)
		same(h.t, "bob in ann's room", got, []id.UserID{bob})
		h.set(alice, hall, "m.room.history_visibility", "", `{"history_visibility":"world_readable"}`)
		got, _ = search(hidden, "bob", 10)
		same(h.t, "bob in a room that anybody may read", got, []id.UserID{bob})
	})
}

// TestSearchPeople_is_bounded: with more people than a search looks at, it says that there may be more.
func TestSearchPeople_is_bounded(t *testing.T) {
	onBothEngines(t, func(h *fixture) {
		alice := h.person("alice")
		nums := map[string]store.UserNum{}
		for i := range 1100 {
			name := fmt.Sprintf("many%04d", i)
			nums[name] = h.num(h.person(name))
		}
		found, limited, err := h.SearchPeople(h.t.Context(), alice, "many", 10)
		h.must(err)
		if len(found) != 0 || !limited {
			h.t.Errorf("of 1,100 people whom the searcher may not find, %d are found, limited: %v", len(found), limited)
		}
		found, limited, err = h.SearchPeople(h.t.Context(), alice, "many0007", 10)
		h.must(err)
		if len(found) != 0 || limited {
			h.t.Errorf("one of them, by the whole name: %v, limited: %v", found, limited)
		}
	})
}

func idsOf(t *testing.T, people []directory.Person) (found []id.UserID) {
	t.Helper()
	for _, p := range people {
		user, err := id.ParseUserID(p.UserID)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, user)
	}
	return found
}
