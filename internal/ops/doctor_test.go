package ops

import (
	"regexp"
	"strings"
	"testing"

	"stoa/internal/store/storetest"
)

// The doctor reports on an event while the server runs, and when it is stopped.
func TestDoctorEvent_says_which_rule_decided(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			settings := []string{"STOA_REGISTRATION=open"}
			if engine == "postgres" {
				settings = append(settings, "STOA_DATABASE="+storetest.URL(t, engine))
			}
			srv := start(t, settings...)
			token := register(t, srv.url)
			var room struct {
				RoomID string `json:"room_id"`
			}
			var sent struct {
				EventID string `json:"event_id"`
			}
			ask(t, "POST", srv.url+"/_matrix/client/v3/createRoom", token, `{"room_version":"11"}`, &room)
			ask(t, "PUT", srv.url+"/_matrix/client/v3/rooms/"+room.RoomID+"/send/m.room.message/1", token, `{"body":"secret words"}`, &sent)
			for _, when := range []string{"running", "stopped"} {
				text := printed(t, srv, "doctor", "event", room.RoomID, sent.EventID)
				for _, want := range []string{sent.EventID, room.RoomID, `Room version: +11\n`, `Type: +"m.room.message"`, `Verdict: +accepted\n`, `Rule: +10\n`} {
					if !strings.Contains(text, want) && !regexp.MustCompile(want).MatchString(text) {
						t.Errorf("%s: no %s in\n%s", when, want, text)
					}
				}
				if strings.Contains(text, "secret words") {
					t.Errorf("%s: the report shows the content:\n%s", when, text)
				}
				status, _, stderr := run(srv.environ, "", "doctor", "event", room.RoomID, "$other")
				if status != 1 || !strings.Contains(stderr, "no event $other in room "+room.RoomID) {
					t.Errorf("%s: an unknown event gives %d %q", when, status, stderr)
				}
				if err := srv.stop(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
