package push_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"stoa/internal/push"
	"stoa/internal/store/pushdb"
	"stoa/internal/userdata"
)

// TestNotifications: a gateway gets what the specification says of an event, in both formats.
func TestNotifications(t *testing.T) {
	each(t, func(w *fixture, g *gateway) {
		alice, bob := w.signUp("alice"), w.signUp("bob")
		roomID := w.room(alice, bob)
		w.do("PUT", v3+"/profile/"+alice.UserID+"/displayname", alice.Token, object{"displayname": "Alice"})
		w.push(bob, g, "full", object{"data": object{"default_payload": object{"aps": object{"mutable-content": 1.0}}, "custom": "x"}})
		eventID := w.say(alice, roomID, "hello")
		n := g.await("a notification", func(all []object) bool { return len(all) == 1 })[0]
		ts := w.pushers(bob)[0].SetTS / 1000
		equal(t, "the notification", n, object{
			"event_id": eventID, "room_id": roomID, "type": "m.room.message", "sender": alice.UserID, "sender_display_name": "Alice",
			"room_name": "Agora", "prio": "high", "content": object{"msgtype": "m.text", "body": "hello"}, "counts": object{"unread": 1},
			"devices": []object{{
				"app_id": "org.example.app", "pushkey": "full", "pushkey_ts": ts, "tweaks": object{"sound": "default"},
				"data": object{"default_payload": object{"aps": object{"mutable-content": 1}}, "custom": "x"},
			}},
		})

		w.push(bob, g, "full", object{"data": object{"format": "event_id_only"}})
		carol := w.signUp("carol")
		w.do("POST", path(roomID, "join"), carol.Token, object{})
		eventID = w.say(alice, roomID, "hello all")
		n = g.await("a notification", func(all []object) bool { return len(all) == 2 })[1]
		ts = w.pushers(bob)[0].SetTS / 1000
		equal(t, "the notification", n, object{
			"event_id": eventID, "room_id": roomID, "prio": "low", "counts": object{"unread": 2},
			"devices": []object{{"app_id": "org.example.app", "pushkey": "full", "pushkey_ts": ts, "data": object{"format": "event_id_only"}}},
		})
	})
}

// TestWhoIsNotified: the push rules decide.
func TestWhoIsNotified(t *testing.T) {
	each(t, func(w *fixture, g *gateway) {
		alice, bob, carol := w.signUp("alice"), w.signUp("bob"), w.signUp("carol")
		roomID, muted := w.room(alice, bob, carol), w.room(alice, bob, carol)
		w.push(bob, g, "bob")
		w.push(bob, g, "off", object{"org.matrix.msc3881.enabled": false})
		w.do("PUT", v3+"/pushrules/global/override/mute", bob.Token, object{
			"actions": []any{}, "conditions": []any{object{"kind": "event_match", "key": "room_id", "pattern": muted}}})
		w.do("PUT", v3+"/pushrules/global/content/cake", bob.Token, object{"pattern": "cake", "actions": []any{"notify", object{"set_tweak": "sound", "value": "cake.wav"}}})

		w.say(bob, roomID, "own messages are not")
		w.say(alice, muted, "nor is a muted room")
		w.say(alice, roomID, "nor a notice", object{"msgtype": "m.notice"})
		w.say(alice, roomID, "nor an edit", object{"m.relates_to": object{"rel_type": "m.replace", "event_id": "$x"}})
		want := []string{w.say(alice, roomID, "a message"), w.say(alice, roomID, "cake!"), w.say(carol, roomID, "you", object{"m.mentions": object{"user_ids": []any{bob.UserID}}})}
		got := g.await("three notifications", func(all []object) bool { return len(all) >= 3 })
		for i, n := range got {
			equal(t, "an event", n["event_id"], want[i])
		}
		equal(t, "tweaks", got[1]["devices"].([]any)[0].(object)["tweaks"], object{"sound": "cake.wav"})
		equal(t, "tweaks", got[2]["devices"].([]any)[0].(object)["tweaks"], object{"highlight": true, "sound": "default"})
		for i, prio := range []string{"low", "high", "high"} {
			equal(t, "prio", got[i]["prio"], prio)
		}

		// Invitations notify, before anybody is a member.
		w.push(carol, g, "carol")
		private := w.do("POST", v3+"/createRoom", alice.Token, object{"preset": "private_chat"})["room_id"].(string)
		w.do("POST", path(private, "invite"), alice.Token, object{"user_id": carol.UserID})
		n := g.await("an invitation", func(all []object) bool { return len(all) == 4 })[3]
		if n["room_id"] != private || n["type"] != "m.room.member" || n["user_is_target"] != true {
			t.Errorf("an invitation is %v", n)
		}
		w.say(alice, private, "those who are invited don't hear what is said")

		// Who has left hears nothing more.
		w.do("POST", path(roomID, "leave"), bob.Token, object{})
		w.say(alice, roomID, "bob has left")
		last := w.say(alice, w.room(alice, bob), "another room")
		g.await("the last message", func(all []object) bool { return len(all) > 0 && all[len(all)-1]["event_id"] == last })
		bobs := 0
		for _, n := range g.await("", func([]object) bool { return true })[4:] {
			if n["devices"].([]any)[0].(object)["pushkey"] == "bob" && n["event_id"] != nil {
				bobs++
			}
		}
		if bobs != 1 {
			t.Errorf("bob was told of %d events after he had left", bobs)
		}
	})
}

// TestTheBadgeFalls: reading tells the phone the new number of unread events. MSC4076: unless it counts itself.
func TestTheBadgeFalls(t *testing.T) {
	each(t, func(w *fixture, g *gateway) {
		alice, bob, carol := w.signUp("alice"), w.signUp("bob"), w.signUp("carol")
		roomID, second := w.room(alice, bob, carol), w.room(alice, bob)
		w.push(bob, g, "counts")
		w.push(carol, g, "no counts", object{"data": object{"org.matrix.msc4076.disable_badge_count": true}})
		first := w.say(alice, roomID, "one")
		w.say(alice, roomID, "two")
		g.events(4)
		w.say(alice, second, "three")
		all := g.await("notifications", func(all []object) bool { return len(all) == 5 })
		unread := func(n object) any {
			c, _ := n["counts"].(object)
			return c["unread"]
		}
		for _, n := range all {
			if own := n["devices"].([]any)[0].(object)["pushkey"] == "no counts"; own != (n["counts"] == nil) {
				t.Errorf("counts: %v", n)
			}
		}
		w.read(carol, roomID, first)
		w.read(bob, roomID, first)
		n := g.await("a count", func(all []object) bool { return len(all) == 6 })[5]
		if unread(n) != 2.0 || n["event_id"] != nil || n["prio"] != "low" || n["counts"] == nil {
			t.Errorf("after reading: %v", n)
		}
		w.say(bob, roomID, "an answer reads what is before it")
		n = g.await("a count", func(all []object) bool { return len(all) >= 7 })[6]
		for i := 6; n["devices"].([]any)[0].(object)["pushkey"] != "counts"; i++ { // carol hears of the answer
			n = g.await("a count", func(all []object) bool { return len(all) > i })[i]
		}
		if unread(n) != 1.0 || n["event_id"] != nil {
			t.Errorf("after an answer: %v", n)
		}
		w.do("POST", path(second, "leave"), bob.Token, object{})
		g.await("no unread events", func(all []object) bool {
			n := all[len(all)-1]
			return n["event_id"] == nil && n["counts"] != nil && unread(n) == nil
		})
		w.until("the number is noted", func() bool { return !w.pushers(bob)[0].Badge })
	})
}

// TestRejected: a pushkey that its gateway does not know any more ends the pusher, and only this one.
func TestRejected(t *testing.T) {
	each(t, func(w *fixture, g *gateway) {
		alice, bob := w.signUp("alice"), w.signUp("bob")
		roomID := w.room(alice, bob)
		w.push(bob, g, "old")
		w.push(bob, g, "new")
		g.status(200, `{"rejected":["old","unknown"]}`)
		w.say(alice, roomID, "one")
		g.events(2)
		w.until("one pusher is left", func() bool { return len(w.pushers(bob)) == 1 })
		equal(t, "the pusher that is left", w.pushers(bob)[0].Pushkey, "new")
		w.say(alice, roomID, "two")
		g.events(3)

		// The queue and the marks of the rooms end with the last pusher.
		g.status(200, `{"rejected":["new"]}`)
		w.say(alice, roomID, "three")
		w.until("no pusher is left", func() bool { return len(w.pushers(bob)) == 0 })
	})
}

// TestGatewaysAreNotTrusted: redirects, private addresses, and answers without end.
func TestGatewaysAreNotTrusted(t *testing.T) {
	each(t, func(w *fixture, g *gateway) {
		alice, bob := w.signUp("alice"), w.signUp("bob")
		roomID := w.room(alice, bob)
		w.push(bob, g, "key")
		g.answers(func(rw http.ResponseWriter, _ object) {
			rw.Header().Set("Location", g.web.URL+"/_matrix/push/v1/notify?again")
			rw.WriteHeader(http.StatusTemporaryRedirect)
		})
		w.say(alice, roomID, "redirected")
		w.until("a failure", func() bool { return w.pushers(bob)[0].Tries > 0 })
		if asked := g.asked.Load(); asked != 1 {
			t.Errorf("a redirect was followed: %d requests", asked)
		}
		g.answers(func(rw http.ResponseWriter, _ object) { _, _ = rw.Write([]byte(strings.Repeat("x", 2<<20))) })
		w.push(bob, g, "key") // which begins anew
		g.await("a long answer", func(all []object) bool { return len(all) == 2 })
	})
}

// TestPrivateAddressesAreNotReached unless the settings allow it.
func TestPrivateAddressesAreNotReached(t *testing.T) {
	each(t, func(w *fixture, g *gateway) {
		alice, bob := w.signUp("alice"), w.signUp("bob")
		roomID := w.room(alice, bob)
		w.push(bob, g, "key")
		w.say(alice, roomID, "hello")
		w.until("a failure", func() bool { return w.pushers(bob)[0].Tries > 0 })
		if text := w.pushers(bob)[0].Error; !strings.Contains(text, "private") || g.asked.Load() != 0 {
			t.Errorf("%d requests; the error is %q", g.asked.Load(), text)
		}
		code, _ := w.try("POST", v3+"/pushers/set", bob.Token, object{
			"kind": "http", "app_id": "a", "pushkey": "k", "app_display_name": "", "device_display_name": "", "lang": "en",
			"data": object{"url": "http://push.example.org/_matrix/push/v1/notify"}})
		equal(t, "the status for a gateway without TLS", code, 400)
	}, "STOA_FEDERATION_ALLOW_PRIVATE=false")
}

// TestFailingGateway: what a gateway does not take waits, and comes in order once it does, each event once.
func TestFailingGateway(t *testing.T) {
	each(t, func(w *fixture, g *gateway) {
		alice, bob := w.signUp("alice"), w.signUp("bob")
		roomID := w.room(alice, bob)
		w.push(bob, g, "key")
		g.status(502, "no \x00 luck")
		want := []string{w.say(alice, roomID, "one")}
		w.until("a failure", func() bool { return w.pushers(bob)[0].Tries > 0 })
		if x := w.pushers(bob)[0]; x.FailingTS == 0 || x.Error != "the gateway answered 502: no   luck" {
			t.Errorf("the pusher is %+v", x)
		}
		want = append(want, w.say(alice, roomID, "two"), w.say(alice, roomID, "three"))
		w.until("they are in the queue", func() bool { return w.pushers(bob)[0].Queued })
		g.mu.Lock()
		g.got, g.answer = nil, nil
		g.mu.Unlock()
		got := g.events(3)
		equal(t, "the events", got, want)
		w.until("the pusher is well", func() bool { x := w.pushers(bob)[0]; return x.Tries == 0 && !x.Queued && x.Error == "" })
		equal(t, "the events", g.events(3), want)
	})
}

// TestDiagnose: the doctor names the reasons for silence, and nothing that is secret.
func TestDiagnose(t *testing.T) {
	each(t, func(w *fixture, g *gateway) {
		alice, bob := w.signUp("alice"), w.signUp("bob")
		roomID, muted := w.room(alice, bob), w.room(alice, bob)
		diagnose := func() push.Diagnosis {
			t.Helper()
			found, err := w.Accounts.Named(t.Context(), "bob")
			if err != nil {
				t.Fatal(err)
			}
			d, err := push.Diagnose(t.Context(), w.Store, userdata.NewRules(w.Store), found)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		has := func(list []string, words ...string) {
			t.Helper()
			text := strings.Join(list, "\n")
			for _, word := range words {
				if !strings.Contains(text, word) {
					t.Errorf("no %q in\n%s", word, text)
				}
			}
			if strings.Contains(text, "secret") {
				t.Errorf("a pushkey in\n%s", text)
			}
		}
		has(diagnose().Findings, "no pusher")
		w.push(bob, g, "secret")
		if d := diagnose(); len(d.Findings) > 0 {
			t.Errorf("findings: %v", d.Findings)
		}
		has(diagnose().Pushers, `"App" on "Phone"`, "org.example.app", bob.Device, "took the last")

		g.status(502, "the provider is down")
		w.say(alice, roomID, "hello")
		w.until("a failure", func() bool { return w.pushers(bob)[0].Tries > 0 })
		d := diagnose()
		has(d.Findings, "None of the user's pushers works")
		has(d.Pushers, "failing since", "the gateway answered 502: the provider is down", "1 notifications wait")

		w.push(bob, g, "secret", object{"org.matrix.msc3881.enabled": false})
		has(diagnose().Pushers, "switched off")
		w.do("PUT", v3+"/pushrules/global/room/"+url.PathEscape(muted), bob.Token, object{"actions": []any{}})
		has(diagnose().Findings, "mentions and keywords only in 1 rooms: "+muted)
		w.do("PUT", v3+"/pushrules/global/override/.m.rule.master/enabled", bob.Token, object{"enabled": true})
		has(diagnose().Findings, "silence everything")
	})
}

// TestUnifiedPush: the gateways of UnifiedPush providers answer with JSON of their own, with other codes, or with nothing.
func TestUnifiedPush(t *testing.T) {
	each(t, func(w *fixture, g *gateway) {
		alice, bob := w.signUp("alice"), w.signUp("bob")
		roomID := w.room(alice, bob)
		endpoint := "https://ntfy.example.org/upAbC123?up=1" // the pushkey is the address at which the provider reaches the phone
		w.push(bob, g, endpoint, object{"app_id": "im.vector.app.android"})
		answers := []string{`{"rejected":[]}`, `{"unifiedpush":{"gateway":"matrix"}}`, `{"gateway":"matrix","rejected":[]}`, ``, `null`, `[]`}
		for i, text := range answers {
			g.status(200+i%2, text) // 201 is taken too
			w.say(alice, roomID, "hello")
			g.events(i + 1)
		}
		w.until("the pusher is well", func() bool { x := w.pushers(bob); return len(x) == 1 && x[0].Tries == 0 && !x[0].Queued })
		if n := g.asked.Load(); n != int64(len(answers)) {
			t.Errorf("%d requests for %d events", n, len(answers))
		}
		// The provider says that the phone has gone.
		g.status(200, `{"rejected":["`+endpoint+`"]}`)
		w.say(alice, roomID, "nobody is there")
		w.until("the pusher is gone", func() bool { return len(w.pushers(bob)) == 0 })
	})
}

// TestNothingIsStored: a message that gateways take at once leaves nothing but the moved cursor.
func TestNothingIsStored(t *testing.T) {
	each(t, func(w *fixture, g *gateway) {
		alice := w.signUp("alice")
		roomID := w.room(alice)
		phones := make([]login, 7)
		for i := range phones {
			phones[i] = w.signUp(fmt.Sprint("member", i))
			w.do("POST", path(roomID, "join"), phones[i].Token, object{})
			w.push(phones[i], g, fmt.Sprint("phone", i))
		}
		w.say(alice, roomID, "the first one is noted, as the phones show a number from then on")
		g.events(len(phones))
		before := make([]pushdb.Pusher, len(phones))
		for i, u := range phones {
			w.until("the number is noted", func() bool { return w.pushers(u)[0].Badge })
			before[i] = w.pushers(u)[0]
		}
		for n := range 5 {
			w.say(alice, roomID, "hello")
			g.events((n + 2) * len(phones))
		}
		for i, u := range phones {
			equal(t, "the pusher", w.pushers(u)[0], before[i])
		}
		if queued := w.Metric(t, "stoa_push_queued_total"); queued != 0 {
			t.Errorf("%v notifications were stored", queued)
		}
	})
}
