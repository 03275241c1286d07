package email_test

import (
	"strings"
	"testing"

	"stoa/internal/email"
)

// Spec: appendices#e-mail
func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a@b.c":                         "a@b.c",
		" Strauß@Example.com ":          "strauss@example.com",
		"Alice.B+tag@EXAMPLE.org":       "alice.b+tag@example.org",
		"o'neil_x/y=z@xn--bcher-kva.de": "o'neil_x/y=z@xn--bcher-kva.de",
		"zażółć@example.org":            "zażółć@example.org",
		"root@localhost":                "root@localhost",
	} {
		got, err := email.Parse(text)
		if err != nil || got.String() != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "a", "@", "a@", "@b.c", "a b@c.d", "a@b@c.d", "Alice <a@b.c>", "mailto:a@b.c", "a@b..c", "a@-b.c", "a@b-.c", "a@b c", "a@b.c\r\nBcc: d@e.f",
		"a\n@b.c", "a@b.c,d@e.f", `"a"@b.c`, "a@[127.0.0.1]", ".a@b.c", "a.@b.c", "a..b@c.d", "a@bücher.de", "a\x00@b.c", "\xff@b.c", "a@b.c.",
		strings.Repeat("a", 65) + "@b.c", "a@" + strings.Repeat("b", 64) + ".c", "a@" + strings.Repeat("b.", 130) + "c",
	} {
		if got, err := email.Parse(text); err == nil {
			t.Errorf("%q is taken as %q", text, got)
		}
	}
	if got, _ := email.Parse("A@B.c"); got.Domain() != "b.c" || got.IsZero() || !(email.Address{}).IsZero() {
		t.Error("domain or zero value")
	}
}
