package clientapi_test

import (
	"testing"
)

const backupAlgorithm = "m.megolm_backup.v1.curve25519-aes-sha2"

// createBackup makes a version of a key backup and gives its name.
func (s *server) createBackup(l login, publicKey string) string {
	s.t.Helper()
	return s.do("POST", v3+"/room_keys/version", l.Token, object{"algorithm": backupAlgorithm, "auth_data": object{"public_key": publicKey}}).
		want(200, "").str("version")
}

func TestKeyBackupVersions(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		newest := func(l login) answer { return s.do("GET", v3+"/room_keys/version", l.Token, nil) }
		version := func(l login, name string) answer {
			return s.do("GET", v3+"/room_keys/version/"+esc(name), l.Token, nil)
		}
		update := func(l login, name string, body any) answer {
			return s.do("PUT", v3+"/room_keys/version/"+esc(name), l.Token, body)
		}
		drop := func(l login, name string) answer {
			return s.do("DELETE", v3+"/room_keys/version/"+esc(name), l.Token, nil)
		}
		newest(alice).want(404, "M_NOT_FOUND")
		first := s.createBackup(alice, "one")
		got := newest(alice).want(200, "")
		if got.str("etag") == "" {
			t.Fatalf("no etag in %s", got.raw)
		}
		equal(t, "version", got.Body, object{"algorithm": backupAlgorithm, "auth_data": object{"public_key": "one"}, "count": 0, "etag": got.str("etag"), "version": first})
		second := s.createBackup(alice, "two")
		if first == second {
			t.Fatalf("both versions are called %s", first)
		}
		equal(t, "the newest", newest(alice).want(200, "").Body["version"], second)
		equal(t, "the first", version(alice, first).want(200, "").Body["auth_data"], object{"public_key": "one"})

		// Only auth_data can be changed.
		again := object{"algorithm": backupAlgorithm, "auth_data": object{"public_key": "two", "signatures": object{}}}
		equal(t, "answer", update(alice, second, again).want(200, "").Body, object{})
		equal(t, "auth_data", newest(alice).want(200, "").Body["auth_data"], again["auth_data"])
		again["version"] = second
		update(alice, second, again).want(200, "")
		update(alice, first, again).want(400, "M_INVALID_PARAM")
		update(alice, second, object{"algorithm": "org.example.x", "auth_data": object{}}).want(400, "M_INVALID_PARAM")
		update(alice, second, object{"auth_data": object{}}).want(400, "M_MISSING_PARAM")
		update(alice, second, object{"algorithm": backupAlgorithm}).want(400, "M_BAD_JSON")
		update(alice, second, `{`).want(400, "M_NOT_JSON")
		delete(again, "version")
		update(alice, "99", again).want(404, "M_NOT_FOUND")
		update(alice, "none", again).want(404, "M_NOT_FOUND")
		update(alice, "99", object{"algorithm": "org.example.x", "auth_data": object{}}).want(404, "M_NOT_FOUND")
		for body, errcode := range map[string]string{
			`{`: "M_NOT_JSON", `[]`: "M_BAD_JSON", `{"auth_data":{}}`: "M_MISSING_PARAM", `{"algorithm":"` + backupAlgorithm + `"}`: "M_BAD_JSON",
			`{"algorithm":1,"auth_data":{}}`:                         "M_BAD_JSON",
			`{"algorithm":"` + backupAlgorithm + `","auth_data":[]}`: "M_BAD_JSON",
		} {
			s.do("POST", v3+"/room_keys/version", alice.Token, body).want(400, errcode)
		}

		// Bob's backups are others: the same name is not the same version.
		for _, a := range []answer{newest(bob), version(bob, second), update(bob, second, again), drop(bob, second)} {
			a.want(404, "M_NOT_FOUND")
		}
		equal(t, "auth_data after bob", newest(alice).want(200, "").Body["auth_data"], again["auth_data"])

		equal(t, "answer", drop(alice, second).want(200, "").Body, object{})
		drop(alice, second).want(200, "") // deleted already
		drop(alice, "99").want(404, "M_NOT_FOUND")
		drop(alice, "none").want(404, "M_NOT_FOUND")
		version(alice, second).want(404, "M_NOT_FOUND")
		update(alice, second, again).want(404, "M_NOT_FOUND")
		equal(t, "the newest that is left", newest(alice).want(200, "").Body["version"], first)
		if third := s.createBackup(alice, "three"); third == second {
			t.Fatalf("the name %s is given out again", second)
		}
	})
}

// sessionData is a backed-up session; n tells it from others.
func sessionData(index, forwarded int, verified bool, n string) object {
	return object{"first_message_index": index, "forwarded_count": forwarded, "is_verified": verified, "session_data": object{"ciphertext": n}}
}

func TestKeyBackupSessions(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice := s.signUp("alice")
		version := "?version=" + s.createBackup(alice, "one")
		const hall, yard = "!hall:stoa.test", "!yard/2:stoa.test"
		// Each of the three forms writes, reads and deletes what it names.
		room := func(method, room string, body any) answer {
			return s.do(method, v3+"/room_keys/keys/"+esc(room)+version, alice.Token, body)
		}
		session := func(method, room, name string, body any) answer {
			return s.do(method, v3+"/room_keys/keys/"+esc(room)+"/"+esc(name)+version, alice.Token, body)
		}
		all := func(method string, body any) answer {
			return s.do(method, v3+"/room_keys/keys"+version, alice.Token, body)
		}
		state := func(a answer, count int) string {
			t.Helper()
			a.want(200, "")
			equal(t, "count", a.Body["count"], count)
			equal(t, "version", s.do("GET", v3+"/room_keys/version", alice.Token, nil).want(200, "").Body["count"], count)
			equal(t, "etag", s.do("GET", v3+"/room_keys/version", alice.Token, nil).want(200, "").Body["etag"], a.str("etag"))
			return a.str("etag")
		}
		equal(t, "nothing", all("GET", nil).want(200, "").Body, object{"rooms": object{}})
		equal(t, "nothing of a room", room("GET", hall, nil).want(200, "").Body, object{"sessions": object{}})
		session("GET", hall, "a/b", nil).want(404, "M_NOT_FOUND")

		one, two, three := sessionData(5, 1, false, "1"), sessionData(5, 1, false, "2"), sessionData(5, 1, false, "3")
		state(session("PUT", hall, "a/b", one), 1)
		state(room("PUT", hall, object{"sessions": object{"c": two}}), 2)
		state(all("PUT", object{"rooms": object{yard: object{"sessions": object{"d": three}}}}), 3)
		equal(t, "session", session("GET", hall, "a/b", nil).want(200, "").Body, one)
		equal(t, "room", room("GET", hall, nil).want(200, "").Body, object{"sessions": object{"a/b": one, "c": two}})
		equal(t, "all", all("GET", nil).want(200, "").Body, object{"rooms": object{hall: object{"sessions": object{"a/b": one, "c": two}}, yard: object{"sessions": object{"d": three}}}})

		// A session gives way only to a better one; what changes nothing leaves the etag.
		better := func(c object, wins bool) {
			t.Helper()
			before := session("GET", hall, "c", nil).want(200, "").Body
			etag := s.do("GET", v3+"/room_keys/version", alice.Token, nil).want(200, "").str("etag")
			now := state(session("PUT", hall, "c", c), 3)
			if (now != etag) != wins {
				t.Fatalf("etag %s becomes %s", etag, now)
			}
			if wins {
				before = c
			}
			equal(t, "session", session("GET", hall, "c", nil).want(200, "").Body, before)
		}
		better(sessionData(6, 0, false, "later index"), false)
		better(sessionData(5, 2, false, "forwarded more"), false)
		better(sessionData(5, 1, false, "the same"), false)
		better(sessionData(5, 0, false, "forwarded less"), true)
		better(sessionData(4, 9, false, "earlier index"), true)
		better(sessionData(9, 9, true, "verified"), true)
		better(sessionData(0, 0, false, "not verified"), false)

		state(session("DELETE", hall, "none", nil), 3)
		state(session("DELETE", hall, "c", nil), 2)
		session("GET", hall, "c", nil).want(404, "M_NOT_FOUND")
		state(room("DELETE", yard, nil), 1)
		equal(t, "room without its sessions", room("GET", yard, nil).want(200, "").Body, object{"sessions": object{}})
		state(all("DELETE", nil), 0)
		equal(t, "nothing", all("GET", nil).want(200, "").Body, object{"rooms": object{}})
	})
}

func TestKeyBackupSessionsRefuse(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice, bob := s.signUp("alice"), s.signUp("bob")
	old := s.createBackup(alice, "one")
	current := s.createBackup(alice, "two")
	whole := sessionData(0, 0, true, "x")
	// The path below /keys, and a body that says the same in each of the three forms.
	forms := map[string]struct {
		path string
		body func(session any) any
	}{
		"all_rooms": {v3 + "/room_keys/keys", func(v any) any {
			return object{"rooms": object{"!hall:stoa.test": object{"sessions": object{"a": v}}}}
		}},
		"a_room":    {v3 + "/room_keys/keys/" + esc("!hall:stoa.test"), func(v any) any { return object{"sessions": object{"a": v}} }},
		"a_session": {v3 + "/room_keys/keys/" + esc("!hall:stoa.test") + "/a", func(v any) any { return v }},
	}
	without := func(key string) object {
		c := object{}
		for k, v := range whole {
			if k != key {
				c[k] = v
			}
		}
		return c
	}
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			put := func(query string, body any) answer { return s.do("PUT", form.path+query, alice.Token, body) }
			wrong := put("?version="+old, form.body(whole)).want(403, "M_WRONG_ROOM_KEYS_VERSION")
			equal(t, "current_version", wrong.Body["current_version"], current)
			put("?version=99", form.body(whole)).want(403, "M_WRONG_ROOM_KEYS_VERSION")
			put("", form.body(whole)).want(400, "M_MISSING_PARAM")
			put("?version="+current, `{`).want(400, "M_NOT_JSON")
			put("?version="+current, `[]`).want(400, "M_BAD_JSON")
			put("?version="+current, object{}).want(400, "M_BAD_JSON")
			put("?version="+current, form.body([]int{})).want(400, "M_BAD_JSON")
			for key := range whole {
				put("?version="+current, form.body(without(key))).want(400, "M_BAD_JSON")
			}
			for _, method := range []string{"GET", "DELETE"} {
				s.do(method, form.path, alice.Token, nil).want(400, "M_MISSING_PARAM")
				s.do(method, form.path+"?version=99", alice.Token, nil).want(404, "M_NOT_FOUND")
				s.do(method, form.path+"?version=none", alice.Token, nil).want(404, "M_NOT_FOUND")
				s.do(method, form.path+"?version="+current, bob.Token, nil).want(404, "M_NOT_FOUND")
			}
			s.do("PUT", form.path+"?version="+current, bob.Token, form.body(whole)).want(404, "M_NOT_FOUND")
		})
	}
	got := s.do("GET", v3+"/room_keys/version", alice.Token, nil).want(200, "")
	equal(t, "count", got.Body["count"], 0)
}
