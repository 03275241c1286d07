package clientapi_test

import (
	"testing"
)

// TestUnstablePaths_answer_as_the_stable_ones asks the paths that clients from before the specification ask.
func TestUnstablePaths_answer_as_the_stable_ones(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	room := s.create(alice, object{"preset": "public_chat", "room_alias_name": "hall"})
	event := s.say(alice, room, "root")
	s.do("PUT", v3+"/rooms/"+esc(room)+"/send/m.room.message/reply", alice.Token, object{
		"msgtype": "m.text", "body": "reply", "m.relates_to": object{"rel_type": "m.thread", "event_id": event},
	}).want(200, "")
	version := s.createBackup(alice, "key")

	const client, old = "/_matrix/client", "/_matrix/client/unstable"
	for stable, paths := range map[string][]string{
		client + "/v3/profile/" + esc(alice.UserID):                                      {old + "/uk.tcpip.msc4133/profile/" + esc(alice.UserID)},
		client + "/v3/profile/" + esc(alice.UserID) + "/displayname":                     {old + "/uk.tcpip.msc4133/profile/" + esc(alice.UserID) + "/displayname"},
		client + "/v1/room_summary/" + esc(room):                                         {old + "/im.nheko.summary/summary/" + esc(room), old + "/im.nheko.summary/rooms/" + esc(room) + "/summary"},
		client + "/v1/room_summary/" + esc("#hall:stoa.test"):                            {old + "/im.nheko.summary/summary/" + esc("#hall:stoa.test")},
		client + "/v1/media/config":                                                      {old + "/org.matrix.msc3916/media/config"},
		client + "/v1/media/download/stoa.test/none":                                     {old + "/org.matrix.msc3916/media/download/stoa.test/none"},
		client + "/v1/media/download/stoa.test/none/a.png":                               {old + "/org.matrix.msc3916/media/download/stoa.test/none/a.png"},
		client + "/v1/media/thumbnail/stoa.test/none?width=1&height=1":                   {old + "/org.matrix.msc3916/media/thumbnail/stoa.test/none?width=1&height=1"},
		client + "/v1/rooms/" + esc(room) + "/timestamp_to_event?ts=1&dir=f":             {old + "/org.matrix.msc3030/rooms/" + esc(room) + "/timestamp_to_event?ts=1&dir=f"},
		client + "/v1/rooms/" + esc(room) + "/relations/" + esc(event) + "?recurse=true": {old + "/rooms/" + esc(room) + "/relations/" + esc(event) + "?org.matrix.msc3981.recurse=true"},
		client + "/v1/rooms/" + esc(room) + "/relations/" + esc(event) + "/m.thread?dir=f": {
			client + "/v1/rooms/" + esc(room) + "/relations/" + esc(event) + "/m.thread?org.matrix.msc3715.dir=f",
			old + "/rooms/" + esc(room) + "/relations/" + esc(event) + "/m.thread?dir=f",
		},
		client + "/v1/rooms/" + esc(room) + "/threads":   {old + "/org.matrix.msc3856/rooms/" + esc(room) + "/threads"},
		client + "/v1/rooms/" + esc(room) + "/hierarchy": {old + "/org.matrix.msc2946/rooms/" + esc(room) + "/hierarchy"},
		client + "/v3/rooms/" + esc(room) + "/aliases":   {old + "/org.matrix.msc2432/rooms/" + esc(room) + "/aliases"},
		client + "/v3/room_keys/version":                 {old + "/room_keys/version"},
		client + "/v3/room_keys/keys?version=" + version: {old + "/room_keys/keys?version=" + version},
		client + "/v1/admin/lock/" + esc(alice.UserID):   {old + "/uk.timedout.msc4323/admin/lock/" + esc(alice.UserID)},
		client + "/v1/register/m.login.registration_token/validity?token=x": {
			old + "/org.matrix.msc3231/register/org.matrix.msc3231.login.registration_token/validity?token=x",
		},
	} {
		want := s.do("GET", stable, alice.Token, nil)
		for _, path := range paths {
			if got := s.do("GET", path, alice.Token, nil); got.Status != want.Status || got.raw != want.raw || got.str("errcode") == "M_UNRECOGNIZED" {
				t.Errorf("%s answers %d %s, its stable path %d %s", path, got.Status, got.raw, want.Status, want.raw)
			}
		}
	}

	field := old + "/uk.tcpip.msc4133/profile/" + esc(alice.UserID) + "/m.tz"
	s.do("PUT", field, alice.Token, object{"m.tz": "Europe/Athens"}).want(200, "")
	if got := s.do("GET", v3+"/profile/"+esc(alice.UserID)+"/m.tz", "", nil).want(200, ""); got.str("m.tz") != "Europe/Athens" {
		t.Errorf("got %s", got.raw)
	}
	s.do("DELETE", field, alice.Token, nil).want(200, "")
	s.do("GET", field, alice.Token, nil).want(404, "M_NOT_FOUND")
	s.do("PUT", field, "", object{"m.tz": "Europe/Athens"}).want(401, "M_MISSING_TOKEN")
	if made := s.do("POST", "/_matrix/media/unstable/fi.mau.msc2246/create", alice.Token, object{}).want(200, ""); made.str("content_uri") == "" {
		t.Errorf("got %s", made.raw)
	}
	s.do("POST", old+"/org.matrix.msc3882/login/get_token", alice.Token, object{}).want(401, "")
	s.do("POST", old+"/org.matrix.msc2918/refresh", "", object{"refresh_token": "none"}).want(401, "M_UNKNOWN_TOKEN")
	s.do("POST", old+"/xyz.amorgan.knock/knock/"+esc(room), alice.Token, object{}).want(403, "M_FORBIDDEN")
	s.do("POST", old+"/keys/signatures/upload", alice.Token, object{}).want(200, "")
}

// TestVersions_name_what_is_served checks that clients find the features by which they decide what to ask.
func TestVersions_name_what_is_served(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	names := s.do("GET", "/_matrix/client/versions", "", nil).want(200, "").Body["unstable_features"].(object)
	for _, name := range []string{
		"uk.tcpip.msc4133", "uk.tcpip.msc4133.stable", "org.matrix.msc3266", "im.nheko.summary", "org.matrix.msc3916.stable", "fi.mau.msc2246",
		"org.matrix.msc3030", "org.matrix.msc3981", "org.matrix.msc3440.stable", "org.matrix.msc3771", "org.matrix.msc3773",
	} {
		if names[name] != true {
			t.Errorf("%s is %v", name, names[name])
		}
	}
	for name, value := range names {
		if value != true {
			t.Errorf("%s is %v: what is not served is not named", name, value)
		}
	}
	capabilities := s.do("GET", v3+"/capabilities", s.signUp("alice").Token, nil).want(200, "").Body["capabilities"].(object)
	for _, name := range []string{"m.profile_fields", "uk.tcpip.msc4133.profile_fields"} {
		if fields, _ := capabilities[name].(object); fields["enabled"] != true {
			t.Errorf("%s is %v", name, capabilities[name])
		}
	}
}
