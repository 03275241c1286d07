package clientapi_test

import (
	"fmt"
	"strings"
	"testing"
)

// Whatever stands in a request about rooms, no answer is a fault.
func TestHostileRoomRequestIsNoFault(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		roomID := s.create(alice, public)
		said := s.say(alice, roomID, "said")
		fault := func(method, path string, body any) {
			t.Helper()
			if a := s.do(method, path, alice.Token, body); a.Status >= 500 {
				t.Errorf("%s %.120s with %.60v: %d %s", method, path, body, a.Status, a.raw)
			}
		}
		in := v3 + "/rooms/" + esc(roomID)
		fill := func(path, text string) string {
			return strings.NewReplacer("ROOM", esc(roomID), "EVENT", esc(said), "TEXT", text).Replace(path)
		}
		for _, text := range []string{`"\u0000"`, `"a\u0000b"`, `"\ud800"`, `""`, `" "`, `"🏳️‍🌈"`, `"'; --"`, `"@:"`, `"#a:b"`, `"!a"`, `"` + bob.UserID + `"`,
			`null`, `1`, `-1e999`, `1.5`, `true`, `[]`, `{}`, `[null]`, `{"a":{"b":[1.5]}}`, `"` + strings.Repeat("x", 70_000) + `"`, `9007199254740993`,
			`"` + said + `"`} {
			for _, request := range [][3]string{
				{"POST", v3 + "/createRoom", `{"name":%s}`},
				{"POST", v3 + "/createRoom", `{"topic":%s}`},
				{"POST", v3 + "/createRoom", `{"room_alias_name":%s}`},
				{"POST", v3 + "/createRoom", `{"invite":[%s]}`},
				{"POST", v3 + "/createRoom", `{"invite":%s}`},
				{"POST", v3 + "/createRoom", `{"room_version":%s}`},
				{"POST", v3 + "/createRoom", `{"creation_content":%s}`},
				{"POST", v3 + "/createRoom", `{"creation_content":{"x":%s,"type":%[1]s,"additional_creators":%[1]s}}`},
				{"POST", v3 + "/createRoom", `{"creation_content":{"predecessor":{"room_id":%s,"event_id":%[1]s}}}`},
				{"POST", v3 + "/createRoom", `{"power_level_content_override":%s}`},
				{"POST", v3 + "/createRoom", `{"power_level_content_override":{"users":%s,"events":{"m.room.name":%[1]s}}}`},
				{"POST", v3 + "/createRoom", `{"room_version":"5","power_level_content_override":{"users":%s,"ban":%[1]s}}`},
				{"POST", v3 + "/createRoom", `{"initial_state":[{"type":"m.room.join_rules","content":{"join_rule":%s,"allow":%[1]s}}]}`},
				{"POST", v3 + "/createRoom", `{"initial_state":[{"type":%s,"state_key":%[1]s,"content":{}}]}`},
				{"POST", v3 + "/createRoom", `{"initial_state":%s,"preset":"public_chat"}`},
				{"POST", in + "/invite", `{"user_id":%s}`},
				{"POST", in + "/kick", `{"user_id":"@bob:stoa.test","reason":%s}`},
				{"POST", in + "/ban", `{"user_id":%s,"reason":%[1]s}`},
				{"POST", in + "/join", `{"x":%s,"reason":%[1]s}`},
				{"POST", in + "/join", `{"x":%s}`},
				{"POST", in + "/upgrade", `{"new_version":%s}`},
				{"PUT", in + "/send/m.room.message/1", `{"body":%s}`},
				{"PUT", in + "/send/m.reaction/2", `{"m.relates_to":{"rel_type":%s,"event_id":%[1]s,"key":%[1]s}}`},
				{"PUT", in + "/send/m.reaction/3", `{"m.relates_to":{"rel_type":"m.annotation","event_id":"` + said + `","key":%s}}`},
				{"PUT", in + "/send/m.room.message/4", `{"m.relates_to":%s,"m.mentions":%[1]s}`},
				{"PUT", in + "/send/m.room.redaction/5", `{"redacts":%s}`},
				{"PUT", in + "/send/m.room.message/6", `%s`},
				{"PUT", in + "/state/m.room.name", `{"name":%s}`},
				{"PUT", in + "/state/m.room.history_visibility", `{"history_visibility":%s}`},
				{"PUT", in + "/state/m.room.join_rules", `{"join_rule":%s,"allow":%[1]s}`},
				{"PUT", in + "/state/m.room.join_rules", `{"join_rule":"restricted","allow":[{"type":"m.room_membership","room_id":%s}]}`},
				{"PUT", in + "/state/m.room.canonical_alias", `{"alias":%s,"alt_aliases":[%[1]s]}`},
				{"PUT", in + "/state/m.room.power_levels", `{"events":%s,"state_default":%[1]s}`},
				{"PUT", in + "/state/m.room.member/" + esc(bob.UserID), `{"membership":%s}`},
				{"PUT", in + "/state/m.room.third_party_invite/x", `{"public_keys":%s}`},
				{"PUT", in + "/state/m.space.child/" + esc(roomID), `{"via":[%s],"order":%[1]s}`},
				{"PUT", in + "/redact/" + esc(said) + "/7", `{"reason":%s}`},
				{"PUT", v3 + "/directory/room/" + esc("#a:stoa.test"), `{"room_id":%s}`},
				{"PUT", v3 + "/directory/list/room/" + esc(roomID), `{"visibility":%s}`},
				{"POST", v3 + "/publicRooms", `{"limit":%s}`},
				{"POST", v3 + "/publicRooms", `{"since":%s,"filter":{"generic_search_term":%[1]s}}`},
				{"POST", v3 + "/publicRooms", `{"filter":{"generic_search_term":%s,"room_types":[%[1]s]}}`},
				{"POST", v3 + "/user_directory/search", `{"search_term":%s}`},
			} {
				fault(request[0], request[1], fmt.Sprintf(request[2], text))
			}
		}
		for _, text := range []string{"%00", "a%00b", "%FF", "%ED%A0%80", "%20", "..", "%2F", "%2F%2F", "'", "%F0%9F%8F%B3", "!", "%21a%00:b", "%23%00:stoa.test",
			"$%00", "@%00:stoa.test", strings.Repeat("x", 5000), "!" + strings.Repeat("x", 300) + ":stoa.test", "$" + strings.Repeat("x", 300), "!x:stoa.test"} {
			for _, path := range []string{"/joined_rooms/TEXT", "/rooms/TEXT/state", "/rooms/TEXT/messages?dir=b", "/rooms/TEXT/members", "/rooms/TEXT/event/TEXT", "/directory/room/TEXT",
				"/directory/list/room/TEXT", "/rooms/ROOM/event/TEXT", "/rooms/ROOM/context/TEXT", "/rooms/ROOM/state/TEXT", "/rooms/ROOM/state/TEXT/TEXT", "/rooms/ROOM/state/a/TEXT"} {
				fault("GET", v3+fill(path, text), nil)
			}
			for _, path := range []string{"/rooms/TEXT/hierarchy", "/rooms/TEXT/threads", "/room_summary/TEXT", "/rooms/ROOM/relations/TEXT",
				"/rooms/ROOM/relations/EVENT/TEXT", "/rooms/ROOM/relations/EVENT/TEXT/TEXT"} {
				fault("GET", v1+fill(path, text), nil)
			}
			for _, path := range []string{"/rooms/ROOM/send/TEXT/1", "/rooms/ROOM/send/m.x/TEXT", "/rooms/ROOM/state/TEXT", "/rooms/ROOM/state/m.x/TEXT",
				"/rooms/ROOM/state/m.room.member/TEXT", "/rooms/ROOM/redact/TEXT/1", "/rooms/ROOM/redact/EVENT/TEXT", "/directory/room/TEXT"} {
				fault("PUT", v3+fill(path, text), `{}`)
			}
			for _, path := range []string{"/join/TEXT", "/knock/TEXT", "/rooms/TEXT/join", "/rooms/TEXT/leave", "/rooms/TEXT/forget", "/rooms/TEXT/upgrade"} {
				fault("POST", v3+fill(path, text), `{"new_version":"11"}`)
			}
			for _, query := range []string{"dir=b&from=%s", "dir=b&to=%s", "dir=%s", "dir=b&filter=%s", "dir=b&limit=%s", "dir=b&from=t1.1.%s", "dir=b&from=s1.%s.0.0"} {
				fault("GET", in+"/messages?"+fmt.Sprintf(query, text), nil)
			}
		}
		for _, place := range []string{"t1.0.0", "t1.9223372036854775807.9223372036854775807", "t1.9223372036854775807.-9223372036854775808", "t1.0.-9223372036854775808",
			"s1.9223372036854775807.0.0", "s1.0.0.0"} {
			for _, dir := range []string{"b", "f"} {
				fault("GET", in+"/messages?dir="+dir+"&from="+place, nil)
				fault("GET", in+"/messages?dir="+dir+"&to="+place, nil)
				fault("GET", in+"/members?at="+place, nil)
				fault("GET", v1+"/rooms/"+esc(roomID)+"/relations/"+esc(said)+"?dir="+dir+"&from="+place, nil)
				fault("GET", v1+"/rooms/"+esc(roomID)+"/relations/"+esc(said)+"?dir="+dir+"&recurse=true&to="+place, nil)
			}
			fault("GET", v1+"/rooms/"+esc(roomID)+"/threads?from="+place, nil)
		}
		for _, ts := range []string{"0", "9223372036854775807", "1"} {
			fault("GET", v1+"/rooms/"+esc(roomID)+"/timestamp_to_event?dir=f&ts="+ts, nil)
			fault("GET", v1+"/rooms/"+esc(roomID)+"/timestamp_to_event?dir=b&ts="+ts, nil)
		}
		for _, since := range []string{"p1.f.0.0", "p1.b.9223372036854775807.9223372036854775807", "p1.b.0.0"} {
			fault("GET", v3+"/publicRooms?since="+since, nil)
		}
		s.do("GET", in+"/messages?dir=b", alice.Token, nil).want(200, "")
	})
}
