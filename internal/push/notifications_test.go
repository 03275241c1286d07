package push_test

import (
	"net/url"
	"testing"
)

// TestNotificationsList: what has notified a user, newest first over all rooms, in pages, without anything being stored for it.
func TestNotificationsList(t *testing.T) {
	each(t, func(w *fixture, _ *gateway) {
		alice, bob, carol := w.signUp("alice"), w.signUp("bob"), w.signUp("carol")
		early := w.room(alice, carol)
		w.say(alice, early, "before bob was there")
		w.do("POST", path(early, "join"), bob.Token, object{})
		first, second := w.room(alice, bob), w.room(alice, bob, carol)
		w.say(bob, first, "own messages are not in it")
		one := w.say(alice, first, "one")
		two := w.say(alice, second, "two", object{"m.mentions": object{"user_ids": []any{bob.UserID}}})
		thread := object{"m.relates_to": object{"rel_type": "m.thread", "event_id": one}}
		three := w.say(alice, first, "three", thread)
		w.say(alice, second, "a notice", object{"msgtype": "m.notice"})
		gone := w.say(alice, second, "redacted")
		w.do("PUT", path(second, "redact", gone, "r"), alice.Token, object{})
		four, five := w.say(alice, early, "four"), w.say(alice, second, "five")

		list := func(query string) (ids []string, next string, all []any) {
			t.Helper()
			a := w.do("GET", v3+"/notifications"+query, bob.Token, nil)
			next, _ = a["next_token"].(string)
			all = a["notifications"].([]any)
			for _, n := range all {
				ids = append(ids, n.(object)["event"].(object)["event_id"].(string))
			}
			return ids, next, all
		}
		want := []string{five, four, three, two, one}
		ids, next, all := list("")
		equal(t, "the list", ids, want)
		equal(t, "the next token", next, "")
		n := all[3].(object)
		equal(t, "the actions", n["actions"], []any{"notify", object{"set_tweak": "sound", "value": "default"}, object{"set_tweak": "highlight"}})
		if n["room_id"] != second || n["read"] != false || n["ts"].(float64) == 0 || n["event"].(object)["room_id"] != nil {
			t.Errorf("a notification is %v", n)
		}

		// In pages, also with new events in between.
		var paged []string
		from := ""
		for range 10 {
			ids, next, _ := list("?limit=2&from=" + url.QueryEscape(from))
			paged = append(paged, ids...)
			if next == "" {
				break
			}
			from = next
			w.say(alice, second, "later")
		}
		equal(t, "the pages", paged, want)

		ids, _, _ = list("?only=highlight")
		equal(t, "the highlights", ids, []string{two})

		// What was read says so: a thread by its own receipt, all by an unthreaded one.
		w.do("POST", path(first, "receipt", "m.read", three), bob.Token, object{"thread_id": one})
		w.read(bob, second, two)
		reads := map[string]bool{}
		_, _, all = list("")
		for _, n := range all {
			reads[n.(object)["event"].(object)["event_id"].(string)] = n.(object)["read"].(bool)
		}
		for eventID, read := range map[string]bool{one: false, two: true, three: true, four: false, five: false} {
			if reads[eventID] != read {
				t.Errorf("read of %s is %t", eventID, reads[eventID])
			}
		}

		// Rooms that were left are not in it, and what the rules say is what they say now.
		w.do("POST", path(second, "leave"), bob.Token, object{})
		w.do("PUT", v3+"/pushrules/global/room/"+url.PathEscape(early), bob.Token, object{"actions": []any{}})
		ids, _, _ = list("")
		equal(t, "the list", ids, []string{three, one})

		for _, query := range []string{"?from=x", "?from=n1.1.-1", "?limit=0", "?limit=x", "?from=s1.1.1.0"} {
			if code, a := w.try("GET", v3+"/notifications"+query, bob.Token, nil); code != 400 {
				t.Errorf("%s: %d %v", query, code, a)
			}
		}
	})
}
