package ops

import (
	"strings"
	"testing"

	"stoa/internal/mail/mailtest"
)

func TestMail_commands(t *testing.T) {
	t.Parallel()
	server := mailtest.Start(t, mailtest.Options{User: "stoa", Password: "secret-pw", Refuse: func(to string, _ bool) error {
		if to == "gone@b.test" {
			return mailtest.Refusal(550, "no such user")
		}
		return nil
	}})
	s := start(t, "STOA_MAIL_SMTP="+strings.Replace(server.URL(), "//", "//stoa:secret-pw@", 1), "STOA_MAIL_FROM=noreply@stoa.test")
	says := func(want int, words string, args ...string) {
		t.Helper()
		status, out, stderr := run(s.environ, "", args...)
		if all := out + stderr; status != want || !strings.Contains(all, words) || strings.Contains(all, "secret-pw") {
			t.Errorf("%v: %d, %s", args, status, all)
		}
	}
	says(0, "user and password accepted", "doctor", "mail")
	says(0, "200 of 200 mails left", "doctor", "mail")
	says(0, "has accepted a test mail", "mail", "test", "a@b.test", "--language", "es")
	if m := server.Await(1)[0]; m.To != "a@b.test" || m.Subject != "Un mensaje de prueba de stoa.test" {
		t.Errorf("got %+v", m)
	}
	says(1, "no such user", "mail", "test", "gone@b.test")
	says(1, "is no email address", "mail", "test", "nobody")
	says(0, "No mail came back", "mail", "bounces")
	server.Stop()
	says(1, "Nothing listens there", "doctor", "mail")
}

func TestMail_commands_without_a_mail_server(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, args := range [][]string{{"mail", "test", "a@b.test"}, {"doctor", "mail"}} {
		if status, _, stderr := run(s.environ, "", args...); status != 1 || !strings.Contains(stderr, "STOA_MAIL_SMTP") {
			t.Errorf("%v: %d, %s", args, status, stderr)
		}
	}
}
