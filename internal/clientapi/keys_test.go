package clientapi_test

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/signing"
)

// keyPair is a signing key of a client: called by its device or by its public half.
type keyPair struct {
	name    string
	private ed25519.PrivateKey
}

func newKeyPair(seed string) keyPair {
	bytes := make([]byte, ed25519.SeedSize)
	copy(bytes, seed)
	k := keyPair{private: ed25519.NewKeyFromSeed(bytes)}
	k.name = k.public()
	return k
}

func (k keyPair) public() string {
	return signing.Base64(k.private.Public().(ed25519.PublicKey)).String()
}

func (k keyPair) id() string { return "ed25519:" + k.name }

// ofDevice calls a key by a device.
func (k keyPair) ofDevice(deviceID string) keyPair {
	k.name = deviceID
	return k
}

// signed gives an object with the signature of a user's key.
func signed(t *testing.T, o object, userID string, key keyPair) object {
	t.Helper()
	bare := object{}
	for k, v := range o {
		if k != "signatures" && k != "unsigned" {
			bare[k] = v
		}
	}
	raw, err := json.Marshal(bare)
	if err != nil {
		t.Fatal(err)
	}
	message, err := canonicaljson.Append(nil, raw)
	if err != nil {
		t.Fatal(err)
	}
	bare["signatures"] = object{userID: object{key.id(): signing.Base64(ed25519.Sign(key.private, message)).String()}}
	return bare
}

// deviceKeys are the identity keys of a device, signed by it.
func deviceKeys(t *testing.T, l login) object {
	key := newKeyPair(l.Device).ofDevice(l.Device)
	return signed(t, object{
		"user_id": l.UserID, "device_id": l.Device, "algorithms": []string{"m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"},
		"keys": object{key.id(): key.public(), "curve25519:" + l.Device: newKeyPair("c" + l.Device).public()},
	}, l.UserID, key)
}

func (s *server) uploadKeys(l login, body any) answer {
	s.t.Helper()
	return s.do("POST", v3+"/keys/upload", l.Token, body)
}

func (s *server) queryKeys(l login, users ...string) answer {
	s.t.Helper()
	want := object{}
	for _, user := range users {
		want[user] = []string{}
	}
	return s.do("POST", v3+"/keys/query", l.Token, object{"device_keys": want}).want(200, "")
}

func TestUploadKeys(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice := asLogin(s.do("POST", v3+"/register", "", object{"username": "alice", "password": passwordOf("alice"), "device_id": "ALICE",
			"initial_device_display_name": "Alice's phone", "auth": object{"type": "m.login.dummy"}}).want(200, ""))
		key := func(n int) object { return object{"key": fmt.Sprint("public", n), "signatures": object{}} }
		equal(t, "counts of none", s.uploadKeys(alice, object{}).want(200, "").Body, object{"one_time_key_counts": object{"signed_curve25519": 0}})
		got := s.uploadKeys(alice, object{
			"device_keys":   deviceKeys(t, alice),
			"one_time_keys": object{"signed_curve25519:AAAA": key(1), "signed_curve25519:AAAB": key(2), "curve25519:AAAA": "plain"},
			"fallback_keys": object{"signed_curve25519:FFFF": object{"key": "fall", "fallback": true, "signatures": object{}}},
		}).want(200, "")
		equal(t, "counts", got.Body, object{"one_time_key_counts": object{"signed_curve25519": 2, "curve25519": 1}})
		news := s.sync(alice, "")
		equal(t, "counts in /sync", news.Body["device_one_time_keys_count"], object{"signed_curve25519": 2, "curve25519": 1})
		equal(t, "fallback keys in /sync", news.Body["device_unused_fallback_key_types"], []string{"signed_curve25519"})

		// The same upload again changes nothing, another key of the same name is refused.
		equal(t, "counts", s.uploadKeys(alice, object{"one_time_keys": object{"signed_curve25519:AAAA": key(1)}}).want(200, "").Body,
			object{"one_time_key_counts": object{"signed_curve25519": 2, "curve25519": 1}})
		s.uploadKeys(alice, object{"one_time_keys": object{"signed_curve25519:AAAA": key(9), "signed_curve25519:AAAC": key(3)}}).want(400, "M_INVALID_PARAM")
		equal(t, "counts", s.uploadKeys(alice, object{}).want(200, "").Body, object{"one_time_key_counts": object{"signed_curve25519": 2, "curve25519": 1}})

		other := deviceKeys(t, alice)
		other["device_id"] = "OTHER"
		for name, c := range map[string]struct {
			body    any
			errcode string
		}{
			"what is not JSON":               {`{`, "M_NOT_JSON"},
			"a list":                         {`[]`, "M_BAD_JSON"},
			"keys of another device":         {object{"device_keys": other}, "M_INVALID_PARAM"},
			"device keys without signatures": {object{"device_keys": object{"user_id": alice.UserID, "device_id": "ALICE", "algorithms": []string{}, "keys": object{}}}, "M_BAD_JSON"},
			"a key without an algorithm":     {object{"one_time_keys": object{"AAAA": key(1)}}, "M_INVALID_PARAM"},
			"a key that is a number":         {object{"one_time_keys": object{"signed_curve25519:X": 1}}, "M_BAD_JSON"},
			"a key without a key":            {object{"one_time_keys": object{"signed_curve25519:X": object{}}}, "M_BAD_JSON"},
			"two fallback keys of a kind":    {object{"fallback_keys": object{"signed_curve25519:X": key(1), "signed_curve25519:Y": key(2)}}, "M_INVALID_PARAM"},
			"one-time keys that are a list":  {object{"one_time_keys": []int{}}, "M_BAD_JSON"},
		} {
			t.Log(name)
			s.uploadKeys(alice, c.body).want(400, c.errcode)
		}
	})
}

func TestQueryKeys(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		phone := asLogin(s.logIn("bob", object{"device_id": "PHONE", "initial_device_display_name": "Bob's phone"}).want(200, ""))
		for _, l := range []login{alice, bob, phone} {
			s.uploadKeys(l, object{"device_keys": deviceKeys(t, l)}).want(200, "")
		}
		want := deviceKeys(t, phone)
		want["unsigned"] = object{"device_display_name": "Bob's phone"}
		all := s.queryKeys(alice, bob.UserID, "@none:stoa.test", "@eve:elsewhere.test")
		equal(t, "bob's phone", dig(all.Body, "device_keys", bob.UserID, "PHONE"), want)
		equal(t, "bob's other device", dig(all.Body, "device_keys", bob.UserID, bob.Device), deviceKeys(t, bob))
		if dig(all.Body, "device_keys", "@none:stoa.test") != nil || dig(all.Body, "device_keys", "@eve:elsewhere.test") != nil {
			t.Fatalf("keys of nobody: %s", all.raw)
		}
		if dig(all.Body, "failures", "elsewhere.test") == nil || dig(all.Body, "failures", "stoa.test") != nil {
			t.Fatalf("failures are %v", all.Body["failures"])
		}
		one := s.do("POST", v3+"/keys/query", alice.Token, object{"device_keys": object{bob.UserID: []string{"PHONE", "NONE"}}, "timeout": 10}).want(200, "")
		equal(t, "the one device asked for", one.Body["device_keys"], object{bob.UserID: object{"PHONE": want}})
		equal(t, "nobody asked for", s.queryKeys(alice).Body["device_keys"], object{})

		// A device that logs out has no keys any more.
		s.do("POST", v3+"/logout", phone.Token, nil).want(200, "")
		equal(t, "devices", s.queryKeys(alice, bob.UserID).Body["device_keys"], object{bob.UserID: object{bob.Device: deviceKeys(t, bob)}})

		query := func(body any) answer { return s.do("POST", v3+"/keys/query", alice.Token, body) }
		query(object{}).want(400, "M_BAD_JSON")
		query(`{`).want(400, "M_NOT_JSON")
		query(object{"device_keys": []string{bob.UserID}}).want(400, "M_BAD_JSON")
		query(object{"device_keys": object{bob.UserID: "PHONE"}}).want(400, "M_BAD_JSON")
		query(object{"device_keys": object{"bob": []string{}}}).want(400, "M_INVALID_PARAM")
		query(object{"device_keys": object{}, "timeout": "x"}).want(400, "M_BAD_JSON")
	})
}

func TestClaimKeys(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		since := s.sync(bob, "").str("next_batch")
		key := func(text string) object { return object{"key": text, "signatures": object{}} }
		s.uploadKeys(bob, object{
			"one_time_keys": object{"signed_curve25519:A": key("a"), "signed_curve25519:B": key("b")},
			"fallback_keys": object{"signed_curve25519:F": object{"key": "f", "fallback": true, "signatures": object{}}},
		}).want(200, "")
		claim := func(want object) answer {
			return s.do("POST", v3+"/keys/claim", alice.Token, object{"one_time_keys": want, "timeout": 10000}).want(200, "")
		}
		from := object{bob.UserID: object{bob.Device: "signed_curve25519"}}
		given := func(keyID string, value object) {
			t.Helper()
			equal(t, "claimed", claim(from).Body["one_time_keys"], object{bob.UserID: object{bob.Device: object{keyID: value}}})
		}
		given("signed_curve25519:A", key("a"))
		given("signed_curve25519:B", key("b"))
		equal(t, "fallback keys before use", s.sync(bob, since).Body["device_unused_fallback_key_types"], []string{"signed_curve25519"})
		for range 2 {
			given("signed_curve25519:F", object{"key": "f", "fallback": true, "signatures": object{}})
		}
		news := s.sync(bob, since)
		equal(t, "counts in /sync", news.Body["device_one_time_keys_count"], object{"signed_curve25519": 0})
		equal(t, "fallback keys after use", news.Body["device_unused_fallback_key_types"], []string{})

		got := claim(object{bob.UserID: object{"NONE": "signed_curve25519", bob.Device: "org.example.none"}, "@none:stoa.test": object{"X": "signed_curve25519"},
			"@eve:elsewhere.test": object{"X": "signed_curve25519"}})
		equal(t, "keys of nobody", got.Body["one_time_keys"], object{})
		if dig(got.Body, "failures", "elsewhere.test") == nil {
			t.Fatalf("failures are %v", got.Body["failures"])
		}
		for body, errcode := range map[string]string{
			`{`: "M_NOT_JSON", `{}`: "M_BAD_JSON", `{"one_time_keys":[]}`: "M_BAD_JSON", `{"one_time_keys":{"@bob:stoa.test":["X"]}}`: "M_BAD_JSON",
			`{"one_time_keys":{"bob":{"X":"signed_curve25519"}}}`: "M_INVALID_PARAM",
		} {
			s.do("POST", v3+"/keys/claim", alice.Token, body).want(400, errcode)
		}
	})
}

func TestKeyChanges(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob, carol, eve := s.signUp("alice"), s.signUp("bob"), s.signUp("carol"), s.signUp("eve")
		roomID := s.create(alice, public)
		s.join(roomID, bob, carol)
		changes := func(from, to string) answer {
			return s.do("GET", v3+"/keys/changes?from="+from+"&to="+to, alice.Token, nil)
		}
		from := s.sync(alice, "").str("next_batch")
		equal(t, "no changes", changes(from, from).want(200, "").Body, object{"changed": []any{}, "left": []any{}})
		for _, l := range []login{bob, eve} { // eve shares no room
			s.uploadKeys(l, object{"device_keys": deviceKeys(t, l)}).want(200, "")
		}
		news := s.sync(alice, from)
		equal(t, "in /sync", dig(news.Body, "device_lists", "changed"), []string{bob.UserID})
		equal(t, "bob's new keys", changes(from, news.str("next_batch")).want(200, "").Body, object{"changed": []string{bob.UserID}, "left": []any{}})
		from = news.str("next_batch")
		s.do("POST", v3+"/rooms/"+esc(roomID)+"/leave", carol.Token, nil).want(200, "")
		s.join(roomID, eve)
		news = s.sync(alice, from)
		equal(t, "in /sync", news.Body["device_lists"], object{"changed": []string{eve.UserID}, "left": []string{carol.UserID}})
		equal(t, "eve comes, carol goes", changes(from, news.str("next_batch")).want(200, "").Body, object{"changed": []string{eve.UserID}, "left": []string{carol.UserID}})
		for _, query := range []string{"", "?from=" + from, "?to=" + from} {
			s.do("GET", v3+"/keys/changes"+query, alice.Token, nil).want(400, "M_MISSING_PARAM")
		}
		changes("x", from).want(400, "M_INVALID_PARAM")
		changes(from, "x").want(400, "M_INVALID_PARAM")
	})
}

// identity is a cross-signing key of a user.
func identity(userID, usage string, key keyPair) object {
	return object{"user_id": userID, "usage": []string{usage}, "keys": object{key.id(): key.public()}}
}

// crossSigning is the body with a user's three keys, made from a seed.
func crossSigning(t *testing.T, userID, seed string) (body object, master, self, user keyPair) {
	master, self, user = newKeyPair("m"+seed), newKeyPair("s"+seed), newKeyPair("u"+seed)
	return object{
		"master_key":       identity(userID, "master", master),
		"self_signing_key": signed(t, identity(userID, "self_signing", self), userID, master),
		"user_signing_key": signed(t, identity(userID, "user_signing", user), userID, master),
	}, master, self, user
}

func TestCrossSigningKeys(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		s.join(s.create(alice, public), bob)
		since := s.sync(bob, "").str("next_batch")
		upload := func(body any) answer {
			return s.do("POST", v3+"/keys/device_signing/upload", alice.Token, body)
		}
		keys, master, self, _ := crossSigning(t, alice.UserID, "first")

		// Refused before there are any.
		upload(object{"self_signing_key": keys["self_signing_key"]}).want(400, "M_MISSING_PARAM")
		upload(object{"master_key": keys["master_key"], "self_signing_key": signed(t, identity(alice.UserID, "self_signing", self), alice.UserID, self)}).
			want(400, "M_INVALID_SIGNATURE")
		upload(object{"master_key": keys["master_key"], "user_signing_key": identity(alice.UserID, "user_signing", self)}).want(400, "M_INVALID_SIGNATURE")
		upload(object{"master_key": identity(bob.UserID, "master", master)}).want(400, "M_INVALID_PARAM")
		upload(object{"master_key": identity(alice.UserID, "self_signing", master)}).want(400, "M_INVALID_PARAM")
		upload(object{"master_key": 1}).want(400, "M_BAD_JSON")
		upload(`{`).want(400, "M_NOT_JSON")
		if got := s.queryKeys(alice, alice.UserID); dig(got.Body, "master_keys", alice.UserID) != nil {
			t.Fatalf("what was refused is there: %s", got.raw)
		}

		// The first keys, and the same once more, need no authentication.
		equal(t, "answer", upload(keys).want(200, "").Body, object{})
		upload(keys).want(200, "")
		upload(object{"master_key": keys["master_key"]}).want(200, "")
		own, rest := s.queryKeys(alice, alice.UserID), s.queryKeys(bob, alice.UserID)
		for _, kind := range []string{"master", "self_signing", "user_signing"} {
			equal(t, "own "+kind, dig(own.Body, kind+"_keys", alice.UserID), keys[kind+"_key"])
		}
		for _, kind := range []string{"master", "self_signing"} {
			equal(t, "bob sees "+kind, dig(rest.Body, kind+"_keys", alice.UserID), keys[kind+"_key"])
		}
		equal(t, "bob sees no user-signing key", rest.Body["user_signing_keys"], object{})
		equal(t, "in bob's /sync", dig(s.sync(bob, since).Body, "device_lists", "changed"), []string{alice.UserID})

		// Others need the password, and bring about nothing without it.
		next, _, _, _ := crossSigning(t, alice.UserID, "second")
		challenge := upload(next).want(401, "")
		if challenge.str("session") == "" || len(challenge.objects("flows")) == 0 {
			t.Fatalf("the challenge is %s", challenge.raw)
		}
		next["auth"] = object{"type": "m.login.password", "session": challenge.str("session"), "identifier": object{"type": "m.id.user", "user": "alice"}, "password": "wrong"}
		upload(next).want(401, "M_FORBIDDEN")
		equal(t, "the master key without the password", dig(s.queryKeys(bob, alice.UserID).Body, "master_keys", alice.UserID), keys["master_key"])
		next["auth"] = passwordAuth("alice", challenge.str("session"))
		upload(next).want(200, "")
		equal(t, "the master key with the password", dig(s.queryKeys(bob, alice.UserID).Body, "master_keys", alice.UserID), next["master_key"])
	})
}

// A key may not be called like a device: a signature would fit both.
func TestACrossSigningKeyIsNotCalledLikeADevice(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	keys, master, _, _ := crossSigning(t, alice.UserID, "x")
	s.logIn("alice", object{"device_id": master.public()}).want(200, "")
	s.do("POST", v3+"/keys/device_signing/upload", alice.Token, keys).want(403, "M_FORBIDDEN")
	equal(t, "master keys", s.queryKeys(alice, alice.UserID).Body["master_keys"], object{})

	bob := s.signUp("bob")
	keys, master, _, _ = crossSigning(t, bob.UserID, "y")
	s.do("POST", v3+"/keys/device_signing/upload", bob.Token, keys).want(200, "")
	s.logIn("bob", object{"device_id": master.public()}).want(403, "M_FORBIDDEN")
	s.logIn("alice", object{"device_id": master.public()}).want(200, "") // it is nothing to alice
}

func TestUploadSignatures(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		s.join(s.create(alice, public), bob)
		var of [2]struct{ master, self, user keyPair }
		var bodies [2]object
		for i, l := range []login{alice, bob} {
			s.uploadKeys(l, object{"device_keys": deviceKeys(t, l)}).want(200, "")
			bodies[i], of[i].master, of[i].self, of[i].user = crossSigning(t, l.UserID, l.UserID)
			s.do("POST", v3+"/keys/device_signing/upload", l.Token, bodies[i]).want(200, "")
		}
		upload := func(l login, body any) answer {
			return s.do("POST", v3+"/keys/signatures/upload", l.Token, body)
		}
		sinceOfAlice, sinceOfBob := s.sync(alice, "").str("next_batch"), s.sync(bob, "").str("next_batch")
		aliceDevice := newKeyPair(alice.Device).ofDevice(alice.Device)
		byAlice := func(userID, keyID string, o object, key keyPair) object {
			return object{userID: object{keyID: signed(t, o, alice.UserID, key)}}
		}
		master, bobsMaster := bodies[0]["master_key"].(object), bodies[1]["master_key"].(object)
		for _, body := range []object{
			byAlice(alice.UserID, alice.Device, deviceKeys(t, alice), of[0].self),
			byAlice(alice.UserID, of[0].master.public(), master, aliceDevice),
			byAlice(bob.UserID, of[1].master.public(), bobsMaster, of[0].user),
		} {
			equal(t, "answer", upload(alice, body).want(200, "").Body, object{"failures": object{}})
		}
		signatures := func(l login, keys ...string) map[string]any {
			keys = append(keys, "signatures")
			of, _ := dig(s.queryKeys(l, alice.UserID, bob.UserID).Body, keys...).(object)
			return of
		}
		own, _ := signatures(bob, "device_keys", alice.UserID, alice.Device)[alice.UserID].(object)
		if own[of[0].self.id()] == nil || own[aliceDevice.id()] == nil {
			t.Errorf("bob sees these signatures on alice's device: %v", own)
		}
		if got := dig(signatures(bob, "master_keys", alice.UserID), alice.UserID, aliceDevice.id()); got == nil {
			t.Error("bob does not see that alice's device has signed her master key")
		}
		// Whom somebody has verified is for them alone.
		if got := dig(signatures(alice, "master_keys", bob.UserID), alice.UserID, of[0].user.id()); got == nil {
			t.Error("alice does not see her signature on bob's master key")
		}
		if got := signatures(bob, "master_keys", bob.UserID)[alice.UserID]; got != nil {
			t.Errorf("bob sees alice's signature: %v", got)
		}
		changed := func(l login, since, user string) {
			t.Helper()
			if list, _ := dig(s.sync(l, since).Body, "device_lists", "changed").([]any); !slices.Contains(list, any(user)) {
				t.Errorf("%s is told of changes of %v, not of %s", l.UserID, list, user)
			}
		}
		changed(bob, sinceOfBob, alice.UserID)
		changed(alice, sinceOfAlice, bob.UserID)
		changed(alice, sinceOfAlice, alice.UserID)

		for name, body := range map[string]object{
			"another user's device":        byAlice(bob.UserID, bob.Device, deviceKeys(t, bob), of[0].user),
			"a device by the master key":   byAlice(alice.UserID, alice.Device, deviceKeys(t, alice), of[0].master),
			"an object that is another":    byAlice(bob.UserID, of[1].master.public(), identity(bob.UserID, "master", of[0].master), of[0].user),
			"a key by who has no such key": byAlice(bob.UserID, of[1].master.public(), bobsMaster, newKeyPair("stranger")),
		} {
			t.Log(name)
			failed := upload(alice, body).want(200, "")
			for userID, byKey := range body {
				for keyID := range byKey.(object) {
					if got := dig(failed.Body, "failures", userID, keyID, "errcode"); got != "M_INVALID_SIGNATURE" {
						t.Errorf("failures are %s", failed.raw)
					}
				}
			}
		}
		forged := byAlice(bob.UserID, of[1].master.public(), bobsMaster, of[0].user)
		dig(forged, bob.UserID, of[1].master.public(), "signatures", alice.UserID).(object)[of[0].user.id()] = strings.Repeat("A", 86)
		if got := dig(upload(alice, forged).want(200, "").Body, "failures", bob.UserID, of[1].master.public(), "errcode"); got != "M_INVALID_SIGNATURE" {
			t.Errorf("a forged signature gives %v", got)
		}
		none := upload(alice, byAlice("@none:stoa.test", "X", object{"user_id": "@none:stoa.test"}, of[0].user)).want(200, "")
		if dig(none.Body, "failures", "@none:stoa.test", "X", "errcode") == nil {
			t.Errorf("a key of nobody gives %s", none.raw)
		}
		upload(alice, `{`).want(400, "M_NOT_JSON")
		upload(alice, `[]`).want(400, "M_BAD_JSON")
		upload(alice, object{alice.UserID: object{alice.Device: "x"}}).want(400, "M_BAD_JSON")
	})
}

func TestSendToDevice(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob, eve := s.signUp("alice"), s.signUp("bob"), s.signUp("eve")
		phone := asLogin(s.logIn("bob", nil).want(200, ""))
		since := map[string]string{}
		for _, l := range []login{bob, phone, eve} {
			since[l.Device] = s.sync(l, "").str("next_batch")
		}
		send := func(txnID string, body any) answer {
			return s.do("PUT", v3+"/sendToDevice/org.example.x/"+esc(txnID), alice.Token, body)
		}
		event := func(n int) object {
			return object{"type": "org.example.x", "sender": alice.UserID, "content": object{"n": n}}
		}
		got := func(l login, want ...object) {
			t.Helper()
			news := s.sync(l, since[l.Device])
			events, _ := dig(news.Body, "to_device", "events").([]any)
			if len(want) == 0 && len(events) == 0 {
				return
			}
			equal(t, "messages", events, want)
		}
		next := func(l login) { since[l.Device] = s.sync(l, since[l.Device]).str("next_batch") }
		to := func(n int, user, device string) object {
			return object{"messages": object{user: object{device: object{"n": n}}}}
		}
		equal(t, "answer", send("1", to(1, bob.UserID, bob.Device)).want(200, "").Body, object{})
		send("2", to(2, bob.UserID, "*")).want(200, "")
		send("2", to(3, bob.UserID, "*")).want(200, "") // sent before
		send("3", object{"messages": object{bob.UserID: object{phone.Device: object{"n": 4}, "NONE": object{"n": 5}}, "@none:stoa.test": object{"*": object{}}}}).want(200, "")
		// In order, to each device its own, and again until they are acknowledged.
		for range 2 {
			got(bob, event(1), event(2))
			got(phone, event(2), event(4))
			got(eve)
		}
		next(bob)
		got(bob)
		next(phone)
		send("4", to(6, bob.UserID, phone.Device)).want(200, "")
		got(phone, event(6))
		got(bob)

		for body, errcode := range map[string]string{
			`{`: "M_NOT_JSON", `[]`: "M_BAD_JSON", `{}`: "M_BAD_JSON", `{"messages":[]}`: "M_BAD_JSON", `{"messages":{"@bob:stoa.test":[]}}`: "M_BAD_JSON",
			`{"messages":{"@bob:stoa.test":{"*":"x"}}}`: "M_BAD_JSON", `{"messages":{"bob":{"*":{}}}}`: "M_INVALID_PARAM",
		} {
			send("5", body).want(400, errcode)
		}
		send("6", object{"messages": object{bob.UserID: object{"*": object{"x": strings.Repeat("x", 70_000)}}}}).want(413, "M_TOO_LARGE")
		got(bob)
	})
}

// Of many who bring first keys at once without a password, one succeeds: the others
// would replace keys.
func TestFirstCrossSigningKeysAreSetOnce(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice := s.signUp("alice")
		var bodies [6]object
		var answers [6]answer
		for i := range bodies {
			bodies[i], _, _, _ = crossSigning(t, alice.UserID, fmt.Sprint(i))
		}
		var done sync.WaitGroup
		for i := range bodies {
			done.Go(func() { answers[i] = s.do("POST", v3+"/keys/device_signing/upload", alice.Token, bodies[i]) })
		}
		done.Wait()
		winner := -1
		for i, a := range answers {
			switch {
			case a.Status == 401 && a.str("session") != "":
			case a.Status == 200 && winner < 0:
				winner = i
			default:
				t.Errorf("upload %d is answered %d %s", i, a.Status, a.raw)
			}
		}
		if winner < 0 {
			t.Fatal("nobody could upload keys")
		}
		got := s.queryKeys(alice, alice.UserID)
		for _, kind := range []string{"master", "self_signing", "user_signing"} {
			equal(t, kind, dig(got.Body, kind+"_keys", alice.UserID), bodies[winner][kind+"_key"])
		}
	})
}

// Whoever shares a room is told of each change of a device that others can see.
func TestDeviceChangesAreTold(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		s.join(s.create(alice, public), bob)
		phone := asLogin(s.logIn("bob", object{"device_id": "PHONE"}).want(200, ""))
		since := s.sync(alice, "").str("next_batch")
		announced := func(what string, want bool) {
			t.Helper()
			news := s.sync(alice, since)
			since = news.str("next_batch")
			list, _ := dig(news.Body, "device_lists", "changed").([]any)
			if slices.Contains(list, any(bob.UserID)) != want {
				t.Fatalf("%s: changed are %v", what, list)
			}
		}
		s.uploadKeys(phone, object{"device_keys": deviceKeys(t, phone)}).want(200, "")
		announced("new keys", true)
		s.uploadKeys(phone, object{"device_keys": deviceKeys(t, phone)}).want(200, "")
		announced("the same keys again", false)
		s.uploadKeys(phone, object{"one_time_keys": object{"signed_curve25519:A": object{"key": "a"}}}).want(200, "")
		announced("one-time keys", false)
		s.do("PUT", v3+"/devices/PHONE", bob.Token, object{"display_name": "Pocket"}).want(200, "")
		announced("another name", true)
		if got := dig(s.queryKeys(alice, bob.UserID).Body, "device_keys", bob.UserID, "PHONE", "unsigned", "device_display_name"); got != "Pocket" {
			t.Fatalf("the device is called %v", got)
		}
		s.do("POST", v3+"/logout", phone.Token, nil).want(200, "")
		announced("logout", true)
	})
}
