package clientapi_test

import (
	"strings"
	"testing"

	"stoa/internal/clientapi"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
)

// A room that somebody may not know of answers as one that is not there, whatever they ask.
func TestHiddenRoomsAnswerAsUnknownOnes(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := newServer(t, open(), "registration: open")
		f := s.object(t, 0)
		hidden := s.create(f.login, object{"preset": "private_chat"})
		f.event = s.say(f.login, hidden, "here")
		unknown := "!" + noise(43)
		stranger := s.signUp("stranger")
		for _, route := range clientapi.New(clientapi.Options{}).Routes() {
			if !strings.Contains(route.Pattern, "{roomId") || strings.Contains(route.Pattern, "/user/{userId}") || strings.Contains(route.Pattern, "/room_keys/") {
				continue // what is one's own is kept under any room's ID
			}
			if strings.HasSuffix(route.Pattern, "/join/{roomIdOrAlias}") || strings.HasSuffix(route.Pattern, "/knock/{roomIdOrAlias}") ||
				strings.HasSuffix(route.Pattern, "/join") || strings.HasSuffix(route.Pattern, "/leave") {
				continue // 404 for a room that is not there and 403 for one that is closed, says the specification
			}
			for _, token := range []string{"", stranger.Token} {
				shown := map[string]string{}
				for _, room := range []string{hidden, unknown} {
					f.room = room
					var body any
					if route.Method != "GET" {
						body = f.body(route.Pattern)
					}
					a := s.send(route.Method, f.path(route.Pattern), token, body)
					shown[room] = strings.ReplaceAll(a.raw, room, "ROOM")
				}
				if shown[hidden] != shown[unknown] {
					t.Errorf("%s %s tells a hidden room from none (token %t):\n\t%s\n\t%s", route.Method, route.Pattern, token != "", shown[hidden], shown[unknown])
				}
			}
		}
	})
}
