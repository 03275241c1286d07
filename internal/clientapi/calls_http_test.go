package clientapi_test

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

const transports = "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports"

func TestCalls_without_servers_for_them(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	s.do("GET", v3+"/voip/turnServer", alice.Token, nil).want(404, "M_NOT_FOUND")
	s.do("GET", v3+"/voip/turnServer", "", nil).want(401, "M_MISSING_TOKEN")
	if a := s.do("GET", transports, alice.Token, nil).want(200, ""); a.raw != `{"rtc_transports":[]}` {
		t.Errorf("got %s", a.raw)
	}
	if names := s.do("GET", "/_matrix/client/versions", "", nil).Body["unstable_features"].(object); names["org.matrix.msc4143"] != nil {
		t.Error("a server without transports names them")
	}
}

func TestCalls(t *testing.T) {
	t.Parallel()
	s := onSQLite(t, "STOA_TURN_URIS=turn:turn.stoa.test:3478?transport=udp, turns:turn.stoa.test:5349", "STOA_TURN_SECRET=north",
		"STOA_RTC_LIVEKIT_URL=https://rtc.stoa.test/jwt")
	alice := s.signUp("alice")
	a := s.do("GET", v3+"/voip/turnServer", alice.Token, nil).want(200, "")
	if uris := a.Body["uris"].([]any); !slices.Equal(uris, []any{"turn:turn.stoa.test:3478?transport=udp", "turns:turn.stoa.test:5349"}) || a.Body["ttl"] != 86400.0 {
		t.Errorf("got %s", a.raw)
	}
	if want := fmt.Sprintf("%d:%s", s.clock.Now().Add(24*time.Hour).Unix(), alice.UserID); a.str("username") != want || a.str("password") == "" {
		t.Errorf("got %s, want the user name %s", a.raw, want)
	}
	const transport = `[{"type":"livekit","livekit_service_url":"https://rtc.stoa.test/jwt"}]`
	s.do("GET", transports, "", nil).want(401, "M_MISSING_TOKEN")
	if a := s.do("GET", transports, alice.Token, nil).want(200, ""); a.raw != `{"rtc_transports":`+transport+`}` {
		t.Errorf("got %s", a.raw)
	}
	if a := s.do("GET", "/.well-known/matrix/client", "", nil).want(200, ""); a.raw !=
		`{"m.homeserver":{"base_url":"https://stoa.test"},"org.matrix.msc4143.rtc_foci":`+transport+`}` {
		t.Errorf("got %s", a.raw)
	}
	if names := s.do("GET", "/_matrix/client/versions", "", nil).Body["unstable_features"].(object); names["org.matrix.msc4143"] != true {
		t.Error("the transports are not named")
	}
}
