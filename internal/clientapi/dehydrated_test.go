package clientapi_test

import (
	"fmt"
	"strings"
	"testing"

	"stoa/internal/store/doctor"
)

const dehydrated = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"

// dehydratedBody is a dehydrated device with keys 1 to n.
func dehydratedBody(t *testing.T, owner login, deviceID string, n int) object {
	t.Helper()
	keys := object{}
	for i := range n {
		keys[fmt.Sprintf("signed_curve25519:AAA%d", i)] = object{"key": fmt.Sprint("public", i), "signatures": object{}}
	}
	device := deviceKeys(t, login{UserID: owner.UserID, Device: deviceID})
	device["dehydrated"] = true
	return object{
		"device_id": deviceID, "initial_device_display_name": "Dehydrated device", "device_keys": device, "one_time_keys": keys,
		"device_data":   object{"algorithm": "m.dehydration.v2", "nonce": "n", "device_pickle": "p"},
		"fallback_keys": object{"signed_curve25519:FFFF": object{"key": "fall", "fallback": true, "signatures": object{}}},
	}
}

// eventsOf gives the contents of the messages in an answer.
func eventsOf(a answer) string {
	var all []string
	for _, e := range a.Body["events"].([]any) {
		all = append(all, fmt.Sprint(e.(object)["content"].(object)["n"]))
	}
	return strings.Join(all, " ")
}

func (s *server) claimOf(asker login, userID, deviceID string) string {
	s.t.Helper()
	got := s.do("POST", v3+"/keys/claim", asker.Token, object{"one_time_keys": object{userID: object{deviceID: "signed_curve25519"}}}).want(200, "")
	devices, _ := got.Body["one_time_keys"].(object)[userID].(object)
	keys, _ := devices[deviceID].(object)
	for name := range keys {
		return name
	}
	return ""
}

// TestDehydratedDevice takes a dehydrated device through its life.
func TestDehydratedDevice(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		room := s.create(alice, object{"preset": "public_chat"})
		s.do("POST", v3+"/join/"+esc(room), bob.Token, object{}).want(200, "")
		since := s.sync(bob, "").str("next_batch")
		s.do("GET", dehydrated, alice.Token, nil).want(404, "M_NOT_FOUND")
		s.do("DELETE", dehydrated, alice.Token, object{}).want(404, "M_NOT_FOUND")
		s.do("POST", dehydrated+"/DRY/events", alice.Token, object{}).want(403, "M_FORBIDDEN")

		body := dehydratedBody(t, alice, "DRY", 2)
		equal(t, "answer", s.do("PUT", dehydrated, alice.Token, body).want(200, "").Body, object{"device_id": "DRY"})
		equal(t, "device", s.do("GET", dehydrated, alice.Token, nil).want(200, "").Body, object{"device_id": "DRY", "device_data": body["device_data"]})
		s.do("GET", dehydrated, bob.Token, nil).want(404, "M_NOT_FOUND")

		// To others it is a device.
		news := s.sync(bob, since)
		equal(t, "changed devices", news.Body["device_lists"].(object)["changed"], []string{alice.UserID})
		shown := s.queryKeys(bob, alice.UserID).Body["device_keys"].(object)[alice.UserID].(object)["DRY"].(object)
		if shown["dehydrated"] != true {
			t.Errorf("bob sees the keys %v", shown)
		}
		equal(t, "first key", s.claimOf(bob, alice.UserID, "DRY"), "signed_curve25519:AAA0")
		send := func(txn, deviceID string, n int) {
			t.Helper()
			s.do("PUT", v3+"/sendToDevice/m.room.encrypted/"+txn, bob.Token, object{"messages": object{alice.UserID: object{deviceID: object{"n": n}}}}).want(200, "")
		}
		send("1", "DRY", 1)
		send("2", "*", 2)
		send("3", "DRY", 3)

		// To its owner it is none.
		all := s.do("GET", v3+"/devices", alice.Token, nil).want(200, "").Body["devices"].([]any)
		if len(all) != 1 || all[0].(object)["device_id"] != alice.Device {
			t.Errorf("alice's devices are %v", all)
		}
		s.do("GET", v3+"/devices/DRY", alice.Token, nil).want(404, "M_NOT_FOUND")
		s.do("PUT", v3+"/devices/DRY", alice.Token, object{"display_name": "mine"}).want(404, "M_NOT_FOUND")
		s.logIn("alice", object{"device_id": "DRY"}).want(403, "M_FORBIDDEN")

		// The messages, in pages, as often as one likes: the older way and the newer.
		events := dehydrated + "/DRY/events"
		for range 2 {
			page := s.do("POST", events+"?limit=2", alice.Token, object{}).want(200, "")
			rest := s.do("POST", events, alice.Token, object{"next_batch": page.str("next_batch")}).want(200, "")
			end := s.do("POST", events, alice.Token, object{"next_batch": rest.str("next_batch")}).want(200, "")
			if got := []string{eventsOf(page), eventsOf(rest), eventsOf(end)}; strings.Join(got, "|") != "1 2|3|" || end.str("next_batch") == "" {
				t.Errorf("pages %q, then a token %q", got, end.str("next_batch"))
			}
			page = s.do("GET", events+"?limit=2", alice.Token, nil).want(200, "")
			rest = s.do("GET", events+"?from="+page.str("next_batch"), alice.Token, nil).want(200, "")
			if got := []string{eventsOf(page), eventsOf(rest)}; strings.Join(got, "|") != "1 2|3" || rest.str("next_batch") != "" {
				t.Errorf("pages %q, then a token %q", got, rest.str("next_batch"))
			}
		}
		s.do("GET", events, bob.Token, nil).want(403, "M_FORBIDDEN")
		s.do("POST", dehydrated+"/"+alice.Device+"/events", alice.Token, object{}).want(403, "M_FORBIDDEN")

		// Sent again after a lost answer: its messages stay, and a key that was given out is not given out again.
		s.do("PUT", dehydrated, alice.Token, body).want(200, "")
		equal(t, "messages", eventsOf(s.do("GET", events, alice.Token, nil).want(200, "")), "1 2 3")
		equal(t, "second key", s.claimOf(bob, alice.UserID, "DRY"), "signed_curve25519:AAA1")
		equal(t, "then the fallback key", s.claimOf(bob, alice.UserID, "DRY"), "signed_curve25519:FFFF")

		// It is there for users without a session.
		s.do("POST", v3+"/logout/all", alice.Token, nil).want(200, "")
		alice = asLogin(s.logIn("alice", nil).want(200, ""))
		equal(t, "messages", eventsOf(s.do("GET", events, alice.Token, nil).want(200, "")), "1 2 3")

		// Another one replaces it, with all that it had.
		since = s.sync(bob, "").str("next_batch")
		equal(t, "answer", s.do("PUT", dehydrated, alice.Token, dehydratedBody(t, alice, "WET", 1)).want(200, "").Body, object{"device_id": "WET"})
		s.do("GET", events, alice.Token, nil).want(403, "M_FORBIDDEN")
		equal(t, "changed devices", s.sync(bob, since).Body["device_lists"].(object)["changed"], []string{alice.UserID})
		keys := s.queryKeys(bob, alice.UserID).Body["device_keys"].(object)[alice.UserID].(object)
		if len(keys) != 1 || keys["WET"] == nil {
			t.Errorf("bob sees the devices %v", keys)
		}
		send("4", "DRY", 4)
		equal(t, "key of the first", s.claimOf(bob, alice.UserID, "DRY"), "")
		equal(t, "messages", eventsOf(s.do("GET", dehydrated+"/WET/events", alice.Token, nil).want(200, "")), "")

		// The ID of a device that is logged in is not taken, and one that was free may be taken later.
		s.do("PUT", dehydrated, alice.Token, dehydratedBody(t, alice, alice.Device, 1)).want(400, "M_INVALID_PARAM")
		equal(t, "answer", s.do("DELETE", dehydrated, alice.Token, object{}).want(200, "").Body, object{"device_id": "WET"})
		s.do("GET", dehydrated, alice.Token, nil).want(404, "M_NOT_FOUND")
		equal(t, "devices", s.queryKeys(bob, alice.UserID).Body["device_keys"].(object)[alice.UserID], object{})
		asLogin(s.logIn("alice", object{"device_id": "WET"}).want(200, ""))

		// Nothing is left of it with the account.
		s.do("PUT", dehydrated, alice.Token, dehydratedBody(t, alice, "LAST", 2)).want(200, "")
		if err := s.accounts.Deactivate(t.Context(), userID(t, alice.UserID), false, nil); err != nil {
			t.Fatal(err)
		}
		findings, err := doctor.Findings(t.Context(), s.store, doctor.Options{}, 20)
		if err != nil || len(findings) > 0 {
			t.Errorf("after the end of the account: %v, %v", findings, err)
		}
	})
}

func TestDehydratedDevice_refuses(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	with := func(key string, value any) object {
		body := dehydratedBody(t, alice, "DRY", 1)
		if body[key] = value; value == nil {
			delete(body, key)
		}
		return body
	}
	for name, c := range map[string]struct {
		body    any
		status  int
		errcode string
	}{
		"what is not JSON":                    {`{`, 400, "M_NOT_JSON"},
		"a list":                              {`[]`, 400, "M_BAD_JSON"},
		"no device ID":                        {with("device_id", nil), 400, "M_MISSING_PARAM"},
		"an empty device ID":                  {with("device_id", ""), 400, "M_INVALID_PARAM"},
		"a long device ID":                    {with("device_id", strings.Repeat("x", 256)), 400, "M_INVALID_PARAM"},
		"a device ID that is not of the keys": {with("device_id", "OTHER"), 400, "M_INVALID_PARAM"},
		"no data":                             {with("device_data", nil), 400, "M_MISSING_PARAM"},
		"data of no algorithm":                {with("device_data", object{}), 400, "M_BAD_JSON"},
		"data that is text":                   {with("device_data", "x"), 400, "M_BAD_JSON"},
		"an algorithm that is a list":         {with("device_data", object{"algorithm": []string{}}), 400, "M_BAD_JSON"},
		"too much data":                       {with("device_data", object{"algorithm": "a", "device_pickle": strings.Repeat("x", 64<<10)}), 413, "M_TOO_LARGE"},
		"no keys":                             {with("device_keys", nil), 400, "M_MISSING_PARAM"},
		"keys that are a list":                {with("device_keys", []string{}), 400, "M_BAD_JSON"},
		"a one-time key without a key":        {with("one_time_keys", object{"signed_curve25519:A": object{}}), 400, "M_BAD_JSON"},
		"a long name":                         {with("initial_device_display_name", strings.Repeat("x", 256)), 400, "M_INVALID_PARAM"},
	} {
		if got := s.do("PUT", dehydrated, alice.Token, c.body); got.Status != c.status || got.str("errcode") != c.errcode {
			t.Errorf("%s: %d %s, want %d %s", name, got.Status, got.str("errcode"), c.status, c.errcode)
		}
	}
	s.do("GET", dehydrated, alice.Token, nil).want(404, "M_NOT_FOUND")

	s.do("PUT", dehydrated, alice.Token, with("x", "y")).want(200, "")
	for _, token := range []string{"x", "q1.-1", "q1.01", "s1.1.0.0", "q1.1.1"} {
		s.do("GET", dehydrated+"/DRY/events?from="+token, alice.Token, nil).want(400, "M_INVALID_PARAM")
		s.do("POST", dehydrated+"/DRY/events", alice.Token, object{"next_batch": token}).want(400, "M_INVALID_PARAM")
	}
	s.do("GET", dehydrated+"/DRY/events?limit=0", alice.Token, nil).want(400, "M_INVALID_PARAM")
	s.do("POST", dehydrated+"/DRY/events", alice.Token, object{"next_batch": 1}).want(400, "M_BAD_JSON")

	// The ID of a cross-signing key would make signatures ambiguous.
	keys, master, _, _ := crossSigning(t, alice.UserID, "x")
	s.do("POST", v3+"/keys/device_signing/upload", alice.Token, keys).want(200, "")
	s.do("PUT", dehydrated, alice.Token, dehydratedBody(t, alice, master.public(), 1)).want(403, "M_FORBIDDEN")
}
