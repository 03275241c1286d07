package clientapi_test

import (
	"fmt"
	"sync"
	"testing"
)

// Clients that start do much at once; nothing of it may fail for that.
func TestManyRequestsAtOnceAllSucceed(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		const each = 10
		alice, bob := s.signUp("alice"), s.signUp("bob")
		hall := s.create(alice, public)
		s.join(hall, bob)
		said := s.say(alice, hall, "here")
		var rooms, private [each]string
		for i := range each {
			rooms[i], private[i] = s.create(alice, public), s.create(alice, object{})
		}
		version := s.createBackup(bob, "one")
		user := v3 + "/user/" + esc(bob.UserID)
		var all sync.WaitGroup
		do := func(what string, f func(i int) answer) {
			for i := range each {
				all.Go(func() {
					if a := f(i); a.Status != 200 {
						t.Errorf("%s %d: %d %s", what, i, a.Status, a.raw)
					}
				})
			}
		}
		put := func(path string, body any) answer { return s.do("PUT", path, bob.Token, body) }
		post := func(path string, body any) answer { return s.do("POST", path, bob.Token, body) }
		do("join", func(i int) answer { return s.do("POST", roomPath(rooms[i], "join"), bob.Token, nil) })
		do("invite", func(i int) answer {
			return s.do("POST", roomPath(private[i], "invite"), alice.Token, object{"user_id": bob.UserID})
		})
		do("send", func(i int) answer {
			return put(roomPath(hall, "send", "m.room.message", fmt.Sprint(i)), object{"body": "x"})
		})
		do("the same send", func(int) answer { return put(roomPath(hall, "send", "m.room.message", "same"), object{"body": "x"}) })
		do("create", func(int) answer { return post(v3+"/createRoom", object{}) })
		do("account data", func(i int) answer {
			return put(fmt.Sprintf("%s/account_data/org.example.n%d", user, i), object{"i": i})
		})
		do("tag", func(i int) answer {
			return put(fmt.Sprintf("%s/rooms/%s/tags/u.%d", user, esc(hall), i), object{})
		})
		do("the same filter", func(int) answer { return post(user+"/filter", object{"room": object{}}) })
		do("filter", func(i int) answer {
			return post(user+"/filter", object{"room": object{"timeline": object{"limit": i + 1}}})
		})
		do("push rule", func(i int) answer {
			return put(fmt.Sprintf("%soverride/n%d", pushGlobal, i), object{"actions": []string{}})
		})
		do("receipt", func(int) answer { return post(roomPath(hall, "receipt", "m.read", said), object{}) })
		do("read marker", func(int) answer {
			return post(roomPath(hall, "read_markers"), object{"m.fully_read": said, "m.read": said})
		})
		do("typing", func(i int) answer { return put(roomPath(hall, "typing", bob.UserID), object{"typing": i%2 == 0}) })
		do("presence", func(int) answer {
			return put(v3+"/presence/"+esc(bob.UserID)+"/status", object{"presence": "online"})
		})
		do("login", func(i int) answer { return s.logIn("bob", object{"device_id": fmt.Sprint("DEVICE", i)}) })
		do("one-time key", func(i int) answer {
			return s.uploadKeys(bob, object{"one_time_keys": object{fmt.Sprint("signed_curve25519:K", i): object{"key": "x"}}})
		})
		do("the same one-time key", func(int) answer {
			return s.uploadKeys(bob, object{"one_time_keys": object{"signed_curve25519:SAME": object{"key": "x"}}})
		})
		do("device keys", func(int) answer { return s.uploadKeys(bob, object{"device_keys": deviceKeys(t, bob)}) })
		do("to-device", func(i int) answer {
			return s.do("PUT", fmt.Sprintf("%s/sendToDevice/org.example.x/%d", v3, i), alice.Token, object{"messages": object{bob.UserID: object{bob.Device: object{"i": i}}}})
		})
		do("the same to-device", func(int) answer {
			return s.do("PUT", v3+"/sendToDevice/org.example.x/same", alice.Token, object{"messages": object{bob.UserID: object{bob.Device: object{}}}})
		})
		do("backup", func(i int) answer {
			return put(fmt.Sprintf("%s/room_keys/keys/%s/s%d?version=%s", v3, esc(hall), i, version), sessionData(0, 0, true, "x"))
		})
		do("display name", func(i int) answer {
			return put(v3+"/profile/"+esc(bob.UserID)+"/displayname", object{"displayname": fmt.Sprint("Bob ", i)})
		})
		do("state", func(i int) answer {
			return s.do("PUT", roomPath(hall, "state", "org.example.x", fmt.Sprint(i)), alice.Token, object{"i": i})
		})
		do("alias", func(i int) answer {
			return s.do("PUT", v3+"/directory/room/"+esc(fmt.Sprintf("#n%d:stoa.test", i)), alice.Token, object{"room_id": hall})
		})
		do("sync", func(int) answer { return s.do("GET", v3+"/sync", bob.Token, nil) })
		all.Wait()
		if t.Failed() {
			return
		}

		news := s.sync(bob, "")
		if got := len(news.rooms("join")); got != 1+2*each {
			t.Errorf("bob is in %d rooms, not in %d", got, 1+2*each)
		}
		if got := len(news.rooms("invite")); got != each {
			t.Errorf("bob has %d invitations, not %d", got, each)
		}
		if messages, _ := dig(news.Body, "to_device", "events").([]any); len(messages) != each+1 {
			t.Errorf("bob has %d messages, not %d", len(messages), each+1)
		}
		equal(t, "one-time keys", news.Body["device_one_time_keys_count"], object{"signed_curve25519": each + 1})
		equal(t, "backed-up sessions", s.do("GET", v3+"/room_keys/version", bob.Token, nil).want(200, "").Body["count"], each)
		if tags, _ := s.do("GET", user+"/rooms/"+esc(hall)+"/tags", bob.Token, nil).want(200, "").Body["tags"].(object); len(tags) != each {
			t.Errorf("of %d tags there are %v", each, tags)
		}
		mine := 0
		for _, e := range s.do("GET", roomPath(hall, "messages")+"?dir=b&limit=200", bob.Token, nil).want(200, "").objects("chunk") {
			if e["type"] == "m.room.message" && e["sender"] == bob.UserID {
				mine++
			}
		}
		if mine != each+1 {
			t.Errorf("bob has sent %d messages, not %d", mine, each+1)
		}
	})
}
