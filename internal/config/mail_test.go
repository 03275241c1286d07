package config

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestMailServer(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]MailServer{
		"":                               {},
		"smtp://mail.example.org":        {Host: "mail.example.org", Port: 587},
		"smtps://a%40b:p%2Fw@mail.test":  {Host: "mail.test", Port: 465, ImplicitTLS: true, User: "a@b", Password: "p/w"},
		"smtp://u:p@mail.test:2525":      {Host: "mail.test", Port: 2525, User: "u", Password: "p"},
		"smtp://mail.test?tls=optional":  {Host: "mail.test", Port: 587, OptionalTLS: true},
		"smtp://127.0.0.1:25":            {Host: "127.0.0.1", Port: 25, OptionalTLS: true},
		"smtp://[::1]:25":                {Host: "::1", Port: 25, OptionalTLS: true},
		"smtp://localhost:1025":          {Host: "localhost", Port: 1025, OptionalTLS: true},
		"smtp://user:secret@host.test/":  {Host: "host.test", Port: 587, User: "user", Password: "secret"},
		"smtps://user:secret@host.test/": {Host: "host.test", Port: 465, ImplicitTLS: true, User: "user", Password: "secret"},
	} {
		var got MailServer
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %#v, %v", text, got, err)
		}
		if shown := fmt.Sprint(got); strings.Contains(shown, "secret") {
			t.Errorf("%s is shown with its password: %s", text, shown)
		}
	}
	for _, text := range []string{
		"mail.test:587", "http://mail.test", "smtp://", "smtp://secret:secret@", "smtp://h:0", "smtp://h:99999", "smtp://h/secret",
		"smtp://h?tls=off", "smtp://h?secret=1", "smtps://h?tls=optional", "smtp://u:secret%@h",
	} {
		var got MailServer
		err := got.UnmarshalText([]byte(text))
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestMailSettings(t *testing.T) {
	t.Parallel()
	load := func(settings ...string) (*Config, error) {
		cfg, _, err := Load("", append([]string{"STOA_DATA_DIR=" + t.TempDir()}, settings...))
		return cfg, err
	}
	cfg, err := load("STOA_MAIL_SMTP=smtp://h.test", "STOA_MAIL_FROM=Stoa <a@b.test>", "STOA_MAIL_BUDGET=20/hour", "STOA_MAIL_NEXT_LINK_HOSTS=App.test, b.test:8080")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.MailBudget != (MailBudget{20, time.Hour}) || fmt.Sprint(cfg.MailNextLinkHosts) != "[app.test b.test:8080]" || cfg.MailNotifyDelay != Wait(10*time.Minute) {
		t.Errorf("got %+v", cfg)
	}
	for name, settings := range map[string][]string{
		"mail_from: is needed":           {"STOA_MAIL_SMTP=smtp://h.test"},
		"registration_email: required":   {"STOA_REGISTRATION_EMAIL=required"},
		"STOA_MAIL_FROM: must be":        {"STOA_MAIL_FROM=nobody"},
		"STOA_MAIL_BUDGET: must be":      {"STOA_MAIL_BUDGET=200"},
		"STOA_MAIL_NOTIFY_DELAY: must":   {"STOA_MAIL_NOTIFY_DELAY=soon"},
		"mail_bounce_secret: must have":  {"STOA_MAIL_BOUNCE_SECRET=short"},
		"STOA_MAIL_NEXT_LINK_HOSTS: \"h": {"STOA_MAIL_NEXT_LINK_HOSTS=https://h.test/x"},
	} {
		if _, err := load(settings...); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v: %v", settings, err)
		}
	}
	if cfg, err = load("STOA_MAIL_BUDGET=off"); err != nil || cfg.MailBudget.Count != 0 {
		t.Errorf("off: %v", err)
	}
}
