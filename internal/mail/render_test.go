package mail

import (
	"strings"
	"testing"

	"stoa/matrix/id"
)

func TestTexts_are_complete_in_all_languages(t *testing.T) {
	t.Parallel()
	server, err := id.ParseServerName("stoa.test")
	if err != nil {
		t.Fatal(err)
	}
	m := &Mailer{opt: Options{ServerName: server, PublicURL: "https://chat.stoa.test"}}
	values := map[string]string{"User": "@al<b>ice:stoa.test\r\nBcc: x", "Link": "https://chat.stoa.test/?a=1&b=2", "Count": "3", "What": "a room", "Reason": "spam", "ID": "A1"}
	for name, text := range texts {
		if len(text.in) != len(Languages) {
			t.Errorf("%s has %d languages", name, len(text.in))
		}
		for _, language := range Languages {
			words := text.in[language]
			if model := text.in[defaultLanguage]; len(words.before) != len(model.before) || len(words.after) != len(model.after) || (words.action == "") != (model.action == "") {
				t.Errorf("%s in %s has other parts than in %s", name, language, defaultLanguage)
			}
			out, err := m.render(letter{To: "a@b.test", Text: name, Language: language, Values: values})
			if err != nil {
				t.Fatalf("%s in %s: %v", name, language, err)
			}
			if strings.ContainsAny(out.subject, "\r\n") || !strings.Contains(out.text, "stoa.test") || strings.Contains(out.html, "<b>") || !strings.Contains(out.html, `lang="`+language+`"`) {
				t.Errorf("%s in %s: %+v", name, language, out)
			}
			if words.action != "" && (!strings.Contains(out.text, values["Link"]) || !strings.Contains(out.html, `href="https://chat.stoa.test/?a=1&amp;b=2"`)) {
				t.Errorf("%s in %s has no link: %+v", name, language, out)
			}
		}
	}
	if _, err := m.render(letter{Text: TextAdd, Language: "en"}); err == nil {
		t.Error("a mail without its values is made")
	}
	if out, err := m.render(letter{Text: TextTest, Language: "xx"}); err != nil || !strings.Contains(out.text, "This mail") {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestLanguageOf(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{
		"": "en", "pl": "pl", "pl-PL,pl;q=0.9,en;q=0.5": "pl", "es-MX": "es", "de": "en", "de,es;q=0.5": "es", "nonsense;;": "en",
		strings.Repeat("es,", 1000): "en", "*": "en",
	} {
		if got := LanguageOf(header); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
}
