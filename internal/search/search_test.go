package search_test

import (
	"slices"
	"testing"

	"stoa/internal/search"
	"stoa/internal/store"
	"stoa/internal/store/searchdb"
	"stoa/internal/store/storetest"
	"stoa/internal/textsearch"
)

func TestTextOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ evType, content, key, text string }{
		{"m.room.message", `{"body":"hello"}`, "content.body", "hello"},
		{"m.room.message", `{"body":"a picture","filename":"cat.jpg"}`, "content.body", "a picture cat.jpg"},
		{"m.room.message", `{"body":"cat.jpg","filename":"cat.jpg"}`, "content.body", "cat.jpg"},
		{"m.room.message", `{"body":"* new","m.new_content":{"body":"new"},"m.relates_to":{"rel_type":"m.replace"}}`, "content.body", "new"},
		{"m.room.message", `{"body":"reply","m.new_content":{"body":"new"},"m.relates_to":{"rel_type":"m.thread"}}`, "content.body", "reply"},
		{"m.room.message", `{"body":1}`, "", ""},
		{"m.room.message", `{"body":"x","m.relates_to":[],"m.new_content":2}`, "content.body", "x"},
		{"m.room.name", `{"name":"Club"}`, "content.name", "Club"},
		{"m.room.topic", `{"topic":"stars"}`, "content.topic", "stars"},
		{"m.room.topic", `{"topic":"stars","m.topic":{"m.text":[{"body":"<b>","mimetype":"text/html"},{"body":"stars and moons"}]}}`, "content.topic", "stars stars and moons"},
		{"m.room.topic", `{"topic":"stars","m.topic":{"m.text":[1]}}`, "content.topic", "stars"},
		{"m.room.member", `{"displayname":"anna"}`, "", ""},
		{"m.room.encrypted", `{"ciphertext":"abc"}`, "", ""},
	} {
		key, text, ok := search.TextOf(c.evType, []byte(c.content))
		if ok != (c.key != "") || ok && (string(key) != c.key || text != c.text) {
			t.Errorf("%s %s: %q %q %v", c.evType, c.content, key, text, ok)
		}
	}
}

// TestMatches: both engines answer alike, however many rows there are and whichever window
// of numbers they are in.
func TestMatches(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		put := func(texts ...searchdb.Text) {
			t.Helper()
			c := store.NewChange()
			for _, x := range texts {
				searchdb.Put(c, x)
			}
			if _, err := s.Commit(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		text := func(num store.EventNum, room store.RoomNum, sender, body string) searchdb.Text {
			return searchdb.Text{Event: num, Room: room, Sender: sender, Key: searchdb.Body, Words: textsearch.Tokens(body)}
		}
		const far = 1 << 21 // many blocks further
		put(text(1, 7, "@a:x", "common rare"), text(2, 7, "@b:x", "common"), text(3, 8, "@a:x", "common"),
			text(far, 7, "@a:x", "common 東京都"), text(far+1, 8, "@b:x", "common"), text(far+2, 7, "@b:x", "commonplace"))
		ask := func(term string, limit int, q searchdb.Question) ([]store.EventNum, bool) {
			t.Helper()
			q.Words = textsearch.Parse(term, false).Tokens()
			if q.Before == 0 {
				q.Before = far + 100
			}
			var found []store.EventNum
			var more bool
			if err := s.Read(t.Context(), func(r *store.Read) (err error) { found, more, err = searchdb.Matches(r, q, limit); return err }); err != nil {
				t.Fatal(err)
			}
			return found, more
		}
		both := []store.RoomNum{7, 8}
		for _, c := range []struct {
			term  string
			limit int
			q     searchdb.Question
			want  []store.EventNum
			more  bool
		}{
			{"common", 10, searchdb.Question{Rooms: both}, []store.EventNum{far + 1, far, 3, 2, 1}, false},
			{"common", 5, searchdb.Question{Rooms: both}, []store.EventNum{far + 1, far, 3, 2, 1}, false},
			{"common", 4, searchdb.Question{Rooms: both}, []store.EventNum{far + 1, far, 3, 2}, true},
			{"common", 1, searchdb.Question{Rooms: both}, []store.EventNum{far + 1}, true},
			{"common", 10, searchdb.Question{Rooms: []store.RoomNum{7}}, []store.EventNum{far, 2, 1}, false},
			{"common", 10, searchdb.Question{Rooms: both, Before: far}, []store.EventNum{3, 2, 1}, false},
			{"common", 10, searchdb.Question{Rooms: both, Senders: []string{"@a:x"}}, []store.EventNum{far, 3, 1}, false},
			{"common", 10, searchdb.Question{Rooms: both, Keys: []searchdb.Key{searchdb.Name}}, nil, false},
			{"common rare", 10, searchdb.Question{Rooms: both}, []store.EventNum{1}, false},
			{"common*", 10, searchdb.Question{Rooms: []store.RoomNum{7}}, []store.EventNum{far + 2, far, 2, 1}, false},
			{"京都", 10, searchdb.Question{Rooms: both}, []store.EventNum{far}, false},
			{"都", 10, searchdb.Question{Rooms: both}, []store.EventNum{far}, false},
			{"common", 10, searchdb.Question{Rooms: []store.RoomNum{9}}, nil, false},
		} {
			found, more := ask(c.term, c.limit, c.q)
			if !slices.Equal(found, c.want) || more != c.more {
				t.Errorf("%q with %+v: %v %v, want %v %v", c.term, c.q, found, more, c.want, c.more)
			}
		}

		put(text(1, 7, "@a:x", "other")) // an event that is indexed again
		if found, _ := ask("rare", 10, searchdb.Question{Rooms: both}); len(found) > 0 {
			t.Errorf("the former text is still found: %v", found)
		}

		// None of these events is in the store: the sweep removes them.
		if err := search.New(search.Options{Store: s}).Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if found, _ := ask("common", 10, searchdb.Question{Rooms: both}); len(found) > 0 {
			t.Errorf("events that have gone are still in the index: %v", found)
		}
	})
}
