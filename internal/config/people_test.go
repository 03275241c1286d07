package config

import (
	"reflect"
	"testing"

	"stoa/matrix/id"
)

func TestTerms(t *testing.T) {
	t.Parallel()
	want := Terms{
		{"privacy", "1.2", "en", "https://example.org/en", "Privacy policy"},
		{"privacy", "1.2", "de", "https://example.org/de", "Datenschutz"},
	}
	file := write(t, "terms:\n  - privacy 1.2 en https://example.org/en Privacy policy\n  - privacy 1.2 de https://example.org/de Datenschutz\n")
	if c, _, err := Load(file, nil); err != nil || !reflect.DeepEqual(c.Terms, want) {
		t.Fatal(err, c)
	}
	c, _, err := Load(write(t, ""), []string{"STOA_TERMS=privacy 1.2 en https://example.org/en Privacy policy; privacy 1.2 de https://example.org/de Datenschutz;"})
	if err != nil || !reflect.DeepEqual(c.Terms, want) {
		t.Fatal(err, c)
	}
	for _, bad := range []string{
		"privacy 1.2 en https://example.org/en", "pri/vacy 1.2 en https://example.org/en N", "privacy 1.2 en ftp://example.org/en N",
		"privacy 1 en https://e.org N; privacy 2 de https://e.org N",
	} {
		if _, _, err := Load(write(t, ""), []string{"STOA_TERMS=" + bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestContacts(t *testing.T) {
	t.Parallel()
	user, err := id.ParseUserID("@admin:example.org")
	if err != nil {
		t.Fatal(err)
	}
	want := Contacts{{Role: "m.role.admin", MatrixID: user, Email: "a@example.org"}, {Role: "m.role.security", Email: "s@example.org"}}
	file := write(t, "support_contacts: ['m.role.admin @admin:example.org a@example.org', m.role.security s@example.org]\nsupport_page: https://example.org/help\n")
	c, _, err := Load(file, nil)
	if err != nil || !reflect.DeepEqual(c.SupportContacts, want) || c.SupportPage != "https://example.org/help" {
		t.Fatal(err, c)
	}
	for _, bad := range []string{"STOA_SUPPORT_CONTACTS=m.role.admin", "STOA_SUPPORT_CONTACTS=m.role.admin nobody", "STOA_SUPPORT_CONTACTS=Admin a@b.c", "STOA_SUPPORT_PAGE=help"} {
		if _, _, err := Load(write(t, ""), []string{bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
