package clientapi_test

import (
	"slices"
	"strings"
	"testing"
)

// membershipOf is the membership of a user, as a member of the room sees it; ""
// for none.
func (s *server) membershipOf(l login, roomID, user string) string {
	s.t.Helper()
	a := s.do("GET", roomPath(roomID, "state", "m.room.member", user), l.Token, nil)
	if a.Status == 404 {
		return ""
	}
	return a.want(200, "").str("membership")
}

// Covers: inviteBy3PID
func TestInvite(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob, eve := s.signUp("alice"), s.signUp("bob"), s.signUp("eve")
		roomID := s.create(alice, object{"name": "Hall"})
		invite := func(l login, room string, body any) answer {
			return s.do("POST", v3+"/rooms/"+esc(room)+"/invite", l.Token, body)
		}
		since := s.sync(bob, "").str("next_batch")
		equal(t, "answer", invite(alice, roomID, object{"user_id": bob.UserID, "reason": "come"}).want(200, "").Body, object{})
		news := s.sync(bob, since)
		state, _ := dig(news.Body, "rooms", "invite", roomID, "invite_state", "events").([]any)
		member := slices.IndexFunc(state, func(e any) bool { return dig(e, "type") == "m.room.member" && dig(e, "state_key") == bob.UserID })
		if member < 0 || dig(state[member], "content", "membership") != "invite" || dig(state[member], "content", "reason") != "come" || dig(state[member], "sender") != alice.UserID {
			t.Fatalf("bob is invited by %v", state)
		}
		equal(t, "the name in the invitation", dig(news.eventOf("m.room.name", "rooms", "invite", roomID, "invite_state", "events"), "content", "name"), "Hall")
		if got := s.membershipOf(alice, roomID, bob.UserID); got != "invite" {
			t.Fatalf("bob is %q", got)
		}

		invite(bob, roomID, object{"user_id": eve.UserID}).want(403, "M_FORBIDDEN")     // invited is not joined
		invite(eve, roomID, object{"user_id": eve.UserID}).want(403, "M_FORBIDDEN")     // nobody
		invite(alice, roomID, object{"user_id": alice.UserID}).want(403, "M_FORBIDDEN") // joined already
		s.join(roomID, bob)
		invite(alice, roomID, object{"user_id": bob.UserID}).want(403, "M_FORBIDDEN")
		s.set(alice, roomID, "m.room.power_levels", "", object{"invite": 50})
		invite(bob, roomID, object{"user_id": eve.UserID}).want(403, "M_FORBIDDEN")
		s.do("POST", v3+"/rooms/"+esc(roomID)+"/ban", alice.Token, object{"user_id": eve.UserID}).want(200, "")
		invite(alice, roomID, object{"user_id": eve.UserID}).want(403, "M_FORBIDDEN")
		if got := s.membershipOf(alice, roomID, eve.UserID); got != "ban" {
			t.Fatalf("eve is %q", got)
		}
		invite(alice, "!none:stoa.test", object{"user_id": bob.UserID}).want(403, "M_FORBIDDEN")
		invite(alice, "hall", object{"user_id": bob.UserID}).want(400, "M_INVALID_PARAM")
		for body, errcode := range map[string]string{`{`: "M_NOT_JSON", `[]`: "M_BAD_JSON", `{}`: "M_BAD_JSON", `{"user_id":"bob"}`: "M_BAD_JSON",
			`{"user_id":1}`: "M_BAD_JSON", `{"user_id":"@dora:stoa.test","reason":1}`: "M_BAD_JSON", `{"medium":"email"}`: "M_BAD_JSON"} {
			invite(alice, roomID, body).want(400, errcode)
		}
		invite(alice, roomID, object{"medium": "email", "address": "a@b.c", "id_server": "x", "id_access_token": "y"}).want(403, "M_THREEPID_DENIED")
	})
}

func TestBanAndUnban(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob, eve := s.signUp("alice"), s.signUp("bob"), s.signUp("eve")
		roomID := s.create(alice, public)
		s.join(roomID, bob)
		ban := func(l login, body any) answer {
			return s.do("POST", v3+"/rooms/"+esc(roomID)+"/ban", l.Token, body)
		}
		unban := func(l login, body any) answer {
			return s.do("POST", v3+"/rooms/"+esc(roomID)+"/unban", l.Token, body)
		}
		who := func(l login) object { return object{"user_id": l.UserID, "reason": "because"} }
		membership := func(l login, want string) {
			t.Helper()
			if got := s.membershipOf(alice, roomID, l.UserID); got != want {
				t.Fatalf("%s is %q, want %q", l.UserID, got, want)
			}
		}
		since := s.sync(bob, "").str("next_batch")
		equal(t, "answer", ban(alice, who(bob)).want(200, "").Body, object{})
		membership(bob, "ban")

		// Bob sees why he is out, nothing of what follows, and can't come back.
		said := s.say(alice, roomID, "he is gone")
		news := s.sync(bob, since)
		event := news.eventOf("m.room.member", "rooms", "leave", roomID, "timeline", "events")
		if dig(event, "content", "membership") != "ban" || dig(event, "content", "reason") != "because" || strings.Contains(news.raw, said) {
			t.Fatalf("bob sees %s", news.raw)
		}
		s.do("POST", roomPath(roomID, "join"), bob.Token, nil).want(403, "M_FORBIDDEN")
		s.do("PUT", roomPath(roomID, "send", "m.room.message", "1"), bob.Token, object{}).want(403, "M_FORBIDDEN")

		ban(alice, who(eve)).want(200, "") // who never was there
		membership(eve, "ban")
		unban(bob, who(eve)).want(403, "M_FORBIDDEN")
		equal(t, "answer", unban(alice, who(bob)).want(200, "").Body, object{})
		membership(bob, "leave")
		unban(alice, who(bob)).want(403, "M_BAD_STATE")
		s.join(roomID, bob)
		membership(bob, "join")
		unban(alice, who(bob)).want(403, "M_BAD_STATE") // is no way to kick
		membership(bob, "join")

		ban(bob, who(alice)).want(403, "M_FORBIDDEN")
		ban(eve, who(bob)).want(403, "M_FORBIDDEN")
		membership(alice, "join")
		for _, what := range []string{"ban", "unban"} {
			s.do("POST", roomPath("!none:stoa.test", what), alice.Token, who(bob)).want(403, "M_FORBIDDEN")
			s.do("POST", roomPath("hall", what), alice.Token, who(bob)).want(400, "M_INVALID_PARAM")
			for body, errcode := range map[string]string{`{`: "M_NOT_JSON", `[]`: "M_BAD_JSON", `{}`: "M_BAD_JSON", `{"user_id":"bob"}`: "M_BAD_JSON",
				`{"user_id":"@bob:stoa.test","reason":1}`: "M_BAD_JSON", `{"medium":"email","address":"a@b.c"}`: "M_BAD_JSON"} {
				s.do("POST", roomPath(roomID, what), alice.Token, body).want(400, errcode)
			}
		}
		membership(bob, "join")
	})
}

func TestJoinedMembers(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob, eve := s.signUp("alice"), s.signUp("bob"), s.signUp("eve")
		s.do("PUT", v3+"/profile/"+esc(bob.UserID)+"/displayname", bob.Token, object{"displayname": "Bob"}).want(200, "")
		s.do("PUT", v3+"/profile/"+esc(bob.UserID)+"/avatar_url", bob.Token, object{"avatar_url": "mxc://stoa.test/bob"}).want(200, "")
		roomID := s.create(alice, object{"preset": "public_chat", "invite": []string{eve.UserID}})
		s.join(roomID, bob)
		members := func(l login, room string) answer {
			return s.do("GET", v3+"/rooms/"+esc(room)+"/joined_members", l.Token, nil)
		}
		got := members(alice, roomID).want(200, "")
		joined, _ := got.Body["joined"].(object)
		if len(joined) != 2 || joined[alice.UserID] == nil {
			t.Fatalf("joined are %s", got.raw)
		}
		equal(t, "bob", joined[bob.UserID], object{"display_name": "Bob", "avatar_url": "mxc://stoa.test/bob"})

		members(eve, roomID).want(403, "M_FORBIDDEN") // invited is not joined
		s.do("POST", roomPath(roomID, "leave"), bob.Token, nil).want(200, "")
		members(bob, roomID).want(403, "M_FORBIDDEN") // nor is having been there
		if joined, _ := members(alice, roomID).want(200, "").Body["joined"].(object); len(joined) != 1 {
			t.Fatalf("joined are %v", joined)
		}
		members(alice, "!none:stoa.test").want(403, "M_FORBIDDEN")
		members(alice, "hall").want(400, "M_INVALID_PARAM")
	})
}

func TestAliasesOfARoom(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice, bob, eve := s.signUp("alice"), s.signUp("bob"), s.signUp("eve")
	roomID := s.create(alice, object{"preset": "public_chat", "room_alias_name": "hall"})
	other := s.create(alice, object{"room_alias_name": "other"})
	s.join(roomID, bob)
	aliases := func(l login, room string) answer {
		return s.do("GET", v3+"/rooms/"+esc(room)+"/aliases", l.Token, nil)
	}
	same(t, stringsOf(aliases(bob, roomID).want(200, ""), "aliases"), "#hall:stoa.test")
	same(t, stringsOf(aliases(alice, s.create(alice, public)).want(200, ""), "aliases"))
	aliases(eve, roomID).want(403, "M_FORBIDDEN")
	aliases(eve, other).want(403, "M_FORBIDDEN")
	aliases(eve, "!none:stoa.test").want(403, "M_FORBIDDEN") // as for a room that eve may not see
	aliases(eve, "hall").want(400, "M_INVALID_PARAM")
	s.set(alice, roomID, "m.room.history_visibility", "", object{"history_visibility": "world_readable"})
	same(t, stringsOf(aliases(eve, roomID).want(200, ""), "aliases"), "#hall:stoa.test")
}

func TestInvitationsThatSomebodyDoesNotWant(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice, bob, eve := s.signUp("alice"), s.signUp("bob"), s.signUp("eve")
	roomID := s.create(alice, object{})
	config := func(content object) {
		t.Helper()
		s.do("PUT", v3+"/user/"+esc(bob.UserID)+"/account_data/m.invite_permission_config", bob.Token, content).want(200, "")
	}
	config(object{"default_action": "block"})
	since := s.sync(bob, "").str("next_batch")
	s.do("POST", v3+"/rooms/"+esc(roomID)+"/invite", alice.Token, object{"user_id": bob.UserID}).want(403, "M_INVITE_BLOCKED")
	s.do("PUT", v3+"/rooms/"+esc(roomID)+"/state/m.room.member/"+esc(bob.UserID), alice.Token, object{"membership": "invite"}).want(403, "M_INVITE_BLOCKED")
	s.do("POST", v3+"/createRoom", alice.Token, object{"invite": []string{eve.UserID, bob.UserID}}).want(403, "M_INVITE_BLOCKED")
	same(t, s.sync(bob, since).rooms("invite"))
	same(t, s.sync(eve, "").rooms("invite")) // the room was not made
	if got := s.membershipOf(alice, roomID, bob.UserID); got != "" {
		t.Fatalf("bob is %q", got)
	}
	// Those from before are not shown until bob wants invitations again.
	config(object{})
	s.do("POST", v3+"/rooms/"+esc(roomID)+"/invite", alice.Token, object{"user_id": bob.UserID}).want(200, "")
	same(t, s.sync(bob, "").rooms("invite"), roomID)
	config(object{"default_action": "block"})
	same(t, s.sync(bob, "").rooms("invite"))
	same(t, s.sync(bob, since).rooms("invite"))
	config(object{"default_action": "org.example.other"})
	same(t, s.sync(bob, "").rooms("invite"), roomID)
	config(object{"default_action": "block"})

	// It says nothing of kicks, bans and rooms that bob goes into.
	open := s.create(alice, public)
	s.join(open, bob)
	s.do("POST", v3+"/rooms/"+esc(open)+"/kick", alice.Token, object{"user_id": bob.UserID}).want(200, "")
	s.join(roomID, bob) // nor of an invitation that bob accepts
}

func TestJoiningARestrictedRoom(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob, eve := s.signUp("alice"), s.signUp("bob"), s.signUp("eve")
		club := s.create(alice, object{"invite": []string{bob.UserID}})
		s.join(club, bob)
		hall := s.create(alice, object{"initial_state": []any{object{"type": "m.room.join_rules", "state_key": "", "content": object{
			"join_rule": "restricted", "allow": []any{object{"type": "m.room_membership", "room_id": club}}}}}})
		join := func(l login) answer { return s.do("POST", v3+"/rooms/"+esc(hall)+"/join", l.Token, nil) }
		join(eve).want(403, "M_FORBIDDEN")
		join(bob).want(200, "")
		member := s.do("GET", roomPath(hall, "state", "m.room.member", bob.UserID), alice.Token, nil).want(200, "")
		if member.str("join_authorised_via_users_server") != alice.UserID {
			t.Fatalf("bob is let in by %s", member.raw)
		}
		s.do("POST", v3+"/rooms/"+esc(hall)+"/leave", bob.Token, nil).want(200, "")
		s.do("POST", v3+"/rooms/"+esc(club)+"/leave", bob.Token, nil).want(200, "")
		join(bob).want(403, "M_FORBIDDEN") // no longer of the club
		s.do("POST", v3+"/rooms/"+esc(hall)+"/invite", alice.Token, object{"user_id": eve.UserID}).want(200, "")
		join(eve).want(200, "")
	})
}
