package ops

import (
	"strings"
	"testing"
)

// The doctor says why a phone is silent.
func TestDoctorPush(t *testing.T) {
	t.Parallel()
	srv := start(t, "STOA_REGISTRATION=open")
	token := register(t, srv.url)
	user := "alice"
	var me struct {
		UserID string `json:"user_id"`
	}
	ask(t, "GET", srv.url+"/_matrix/client/v3/account/whoami", token, "", &me)
	user = me.UserID
	status, out, _ := run(srv.environ, "", "doctor", "push", user)
	if status != 1 || !strings.Contains(out, "no pusher") {
		t.Errorf("without a pusher: %d %s", status, out)
	}
	ask(t, "POST", srv.url+"/_matrix/client/v3/createRoom", token, `{}`, nil)
	ask(t, "POST", srv.url+"/_matrix/client/v3/pushers/set", token, `{"kind":"http","app_id":"a","pushkey":"secret key","app_display_name":"App",
		"device_display_name":"Phone","lang":"en","data":{"url":"https://push.example.org/_matrix/push/v1/notify"}}`, nil)
	if out := printed(t, srv, "doctor", "push", user); !strings.Contains(out, `"App" on "Phone"`) || !strings.Contains(out, "push.example.org") ||
		!strings.Contains(out, "Nothing is wrong") || strings.Contains(out, "secret key") {
		t.Errorf("with a pusher: %s", out)
	}
	if status, _, text := run(srv.environ, "", "doctor", "push", "@nobody:localhost"); status != 1 || !strings.Contains(text, "no user") {
		t.Errorf("an unknown user: %d %s", status, text)
	}
}
