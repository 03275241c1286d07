package clientapi_test

import (
	"fmt"
	"testing"
)

func TestCreateRoom_initial_state(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice := s.signUp("alice")
		state := func(evType, key string, content object) object {
			return object{"initial_state": []object{{"type": evType, "state_key": key, "content": content}}}
		}
		for what, body := range map[string]object{
			"a member that is no user": state("m.room.member", "notuser", object{"membership": "join"}),
			"a ban":                    state("m.room.member", "@bob:stoa.test", object{"membership": "ban"}),
			"an invitation":            state("m.room.member", "@bob:stoa.test", object{"membership": "invite"}),
			"an own membership":        state("m.room.member", alice.UserID, object{"membership": "join", "displayname": "Al"}),
			"a create event":           state("m.room.create", "", object{}),
		} {
			if a := s.do("POST", v3+"/createRoom", alice.Token, body); a.Status != 400 || a.str("errcode") != "M_INVALID_ROOM_STATE" {
				t.Errorf("%s: %d %s", what, a.Status, a.raw)
			}
		}
		body := state("m.room.power_levels", "", object{"users": object{alice.UserID: 9001}})
		body["room_version"], body["name"] = "11", "hall"
		room := s.create(alice, body)
		levels := s.do("GET", roomPath(room, "state", "m.room.power_levels"), alice.Token, nil).want(200, "")
		if got := dig(levels.Body, "users", alice.UserID); got != 9001. {
			t.Errorf("the creator's level is %v: %s", got, levels.raw)
		}
	})
}

// What nobody may send is malformed, and no question of permission.
func TestSendState_malformed(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		room := s.create(alice, object{"preset": "public_chat"})
		s.join(room, bob)
		s.do("PUT", roomPath(room, "state", "m.room.power_levels"), alice.Token, object{"users": object{alice.UserID: 100}}).want(400, "M_BAD_JSON")
		s.do("PUT", roomPath(room, "state", "m.room.power_levels"), alice.Token, object{"ban": "50"}).want(400, "M_BAD_JSON")
		s.do("PUT", roomPath(room, "state", "m.room.create"), alice.Token, object{}).want(400, "M_BAD_JSON")
		s.do("PUT", roomPath(room, "state", "m.room.power_levels"), bob.Token, object{}).want(403, "M_FORBIDDEN")
	})
}

func TestInvite_on_another_server(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice := s.signUp("alice")
		room := s.create(alice, object{})
		const far = "@x:other.test"
		s.do("POST", roomPath(room, "invite"), alice.Token, object{"user_id": far}).want(403, "M_FORBIDDEN")
		s.do("PUT", roomPath(room, "state", "m.room.member", far), alice.Token, object{"membership": "invite"}).want(403, "M_FORBIDDEN")
		s.do("POST", v3+"/createRoom", alice.Token, object{"invite": []string{far}}).want(403, "M_FORBIDDEN")
		s.do("POST", roomPath(room, "ban"), alice.Token, object{"user_id": far}).want(200, "")
	})
}

// A room of a version without privileged creators can be upgraded again, by each of
// those who could before.
func TestUpgradeRoom_to_a_version_without_privileged_creators(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		room := s.create(alice, object{
			"room_version": "12", "preset": "public_chat", "creation_content": object{"additional_creators": []string{bob.UserID}},
			"power_level_content_override": object{"state_default": 105},
		})
		s.join(room, bob)
		s.do("PUT", roomPath(room, "state", "m.room.tombstone"), alice.Token, object{"body": "by hand", "replacement_room": "!a:b"}).want(200, "")
		next := s.do("POST", roomPath(room, "upgrade"), alice.Token, object{"new_version": "11"}).want(200, "").str("replacement_room")
		s.join(next, bob)
		levels := s.do("GET", roomPath(next, "state", "m.room.power_levels"), alice.Token, nil).want(200, "")
		for _, l := range []login{alice, bob} {
			if got := dig(levels.Body, "users", l.UserID); got != 150. {
				t.Errorf("level of %s: %v", l.UserID, got)
			}
		}
		s.do("POST", roomPath(next, "upgrade"), bob.Token, object{"new_version": "11"}).want(200, "")
	})
}

// The new room is in the public directory if the old one is, whatever the old one
// was when its last event was sent.
func TestUpgradeRoom_directory_visibility(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice := s.signUp("alice")
		for before, after := range map[string]string{"public": "private", "private": "public"} {
			room := s.create(alice, object{"preset": "public_chat", "visibility": before})
			s.do("PUT", roomPath(room, "send", "m.room.message", "1"), alice.Token, object{"msgtype": "m.text", "body": "x"}).want(200, "")
			s.do("PUT", v3+"/directory/list/room/"+esc(room), alice.Token, object{"visibility": after}).want(200, "")
			next := s.do("POST", roomPath(room, "upgrade"), alice.Token, object{"new_version": "11"}).want(200, "").str("replacement_room")
			if got := s.do("GET", v3+"/directory/list/room/"+esc(next), alice.Token, nil).want(200, "").str("visibility"); got != after {
				t.Errorf("made %s, then %s: the new room is %s", before, after, got)
			}
			if got := s.do("GET", v3+"/directory/list/room/"+esc(room), alice.Token, nil).want(200, "").str("visibility"); got != "private" {
				t.Errorf("the old room is %s", got)
			}
		}
	})
}

// Settings follow into the new room, also for its maker and when it was made by hand.
func TestUpgradeRoom_settings_follow(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice := s.signUp("alice")
		for _, manual := range []bool{false, true} {
			old := s.create(alice, object{"preset": "public_chat"})
			const mute = `{"actions":[],"conditions":[{"kind":"event_match","key":"room_id","pattern":"%s"}]}`
			s.do("PUT", v3+"/pushrules/global/override/"+esc(old), alice.Token, fmt.Sprintf(mute, old)).want(200, "")
			s.do("PUT", v3+"/user/"+esc(alice.UserID)+"/rooms/"+esc(old)+"/tags/m.favourite", alice.Token, object{"order": 0.5}).want(200, "")
			s.do("PUT", v3+"/user/"+esc(alice.UserID)+"/account_data/m.direct", alice.Token,
				object{"@bob:stoa.test": []string{old}, "@eve:stoa.test": []string{"!x:y"}, "other": "form"}).want(200, "")
			var next string
			if manual {
				next = s.create(alice, object{"creation_content": object{"predecessor": object{"room_id": old}}})
			} else {
				next = s.do("POST", roomPath(old, "upgrade"), alice.Token, object{"new_version": "11"}).want(200, "").str("replacement_room")
			}
			s.do("GET", v3+"/pushrules/global/override/"+esc(next), alice.Token, nil).want(200, "")
			tags := s.do("GET", v3+"/user/"+esc(alice.UserID)+"/rooms/"+esc(next)+"/tags", alice.Token, nil).want(200, "")
			if dig(tags.Body, "tags", "m.favourite") == nil {
				t.Errorf("by hand %t: no tag: %s", manual, tags.raw)
			}
			direct := s.do("GET", v3+"/user/"+esc(alice.UserID)+"/account_data/m.direct", alice.Token, nil).want(200, "")
			if got, want := fmt.Sprint(direct.Body), fmt.Sprint(object{"@bob:stoa.test": []string{old, next}, "@eve:stoa.test": []string{"!x:y"}, "other": "form"}); got != want {
				t.Errorf("by hand %t: m.direct is %s, want %s", manual, got, want)
			}
		}
	})
}
