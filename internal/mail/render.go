package mail

import (
	_ "embed" // for the layout
	"fmt"
	"html/template"
	"strings"
	texttemplate "text/template"

	"golang.org/x/text/language"
)

//go:embed mail.html
var layoutHTML string

var (
	layout  = template.Must(template.New("mail").Parse(layoutHTML))
	matcher = func() language.Matcher {
		tags := make([]language.Tag, len(Languages))
		for i, l := range Languages {
			tags[i] = language.MustParse(l)
		}
		return language.NewMatcher(tags)
	}()
)

// maxAcceptLanguage bounds the header that is looked at, in bytes.
const maxAcceptLanguage = 256

// LanguageOf returns the language among those with texts that somebody prefers, by the
// Accept-Language header of their browser or app.
func LanguageOf(acceptLanguage string) string {
	if len(acceptLanguage) > maxAcceptLanguage {
		return defaultLanguage
	}
	tags, _, err := language.ParseAcceptLanguage(acceptLanguage)
	if err != nil || len(tags) == 0 {
		return defaultLanguage
	}
	_, index, confidence := matcher.Match(tags...)
	if confidence == language.No {
		return defaultLanguage
	}
	return Languages[index]
}

// rendered is a mail as it is shown.
type rendered struct{ subject, text, html string }

// page is what the layout shows.
type page struct {
	Language, Subject, Action, Link, Server, Home string
	Before, After                                 []string
	Items                                         []Item
}

// render fills in the text of a mail. Values are shown as they are: in the HTML they are
// escaped, in the subject they can't add lines.
func (m *Mailer) render(l letter) (out rendered, err error) {
	words, ok := texts[l.Text].in[l.Language]
	if !ok {
		if words, ok = texts[l.Text].in[defaultLanguage]; !ok {
			return out, fmt.Errorf("there is no mail %q", l.Text)
		}
		l.Language = defaultLanguage
	}
	values := map[string]string{"Server": m.opt.ServerName.String(), "Home": m.opt.PublicURL, "Address": l.To}
	for k, v := range l.Values {
		values[k] = v
	}
	fill := func(text string) string {
		var b strings.Builder
		var t *texttemplate.Template
		if err == nil {
			t, err = texttemplate.New("").Option("missingkey=error").Parse(text)
		}
		if err == nil {
			err = t.Execute(&b, values)
		}
		return b.String()
	}
	p := page{
		Language: l.Language, Subject: strings.Join(strings.Fields(fill(words.subject)), " "), Action: words.action,
		Server: values["Server"], Home: values["Home"], Items: l.Items,
	}
	for _, text := range words.before {
		p.Before = append(p.Before, fill(text))
	}
	for _, text := range words.after {
		p.After = append(p.After, fill(text))
	}
	if p.Action != "" {
		p.Link = fill("{{.Link}}")
	}
	if err != nil {
		return out, fmt.Errorf("fill in the mail %q: %w", l.Text, err)
	}
	var html strings.Builder
	if err := layout.Execute(&html, p); err != nil {
		return out, fmt.Errorf("fill in the mail %q: %w", l.Text, err)
	}
	return rendered{subject: p.Subject, text: p.plain(), html: html.String()}, nil
}

// plain is the mail without HTML.
func (p page) plain() string {
	parts := p.Before
	for _, item := range p.Items {
		part := item.Title
		if item.Text != "" {
			part += "\n  " + strings.ReplaceAll(item.Text, "\n", "\n  ")
		}
		if item.Link != "" {
			part += "\n  " + item.Link
		}
		parts = append(parts, part)
	}
	if p.Link != "" {
		parts = append(parts, p.Link)
	}
	parts = append(parts, p.After...)
	return strings.Join(append(parts, "-- \n"+p.Server+"\n"+p.Home), "\n\n") + "\n"
}
