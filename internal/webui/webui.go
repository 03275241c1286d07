// Package webui serves the pages that this server has for people with a browser.
//
// It owns its files, which are inside the binary, and the address "/". It never
// reads the store or decides anything: a page learns what it shows from the
// settings, or from the client-server API as any client does. Pages load nothing
// from elsewhere.
package webui

import (
	_ "embed" // for the page
	"html"
	"net/http"
	"strings"

	"stoa/internal/httpkit"
	"stoa/matrix/id"
)

//go:embed landing.html
var landing string

// Options are what the pages show.
type Options struct {
	ServerName id.ServerName
	// PublicURL is the address that clients use.
	PublicURL string
	// MayRegister says that people can make accounts with their client.
	MayRegister bool
}

// Routes lists the pages.
func Routes(opt Options) []httpkit.Route {
	how := "Accounts on this server are made by its administrators. Ask them for one."
	if opt.MayRegister {
		how = "You can make an account with your client: choose “create account” there."
	}
	body := []byte(strings.NewReplacer(
		"{{server}}", html.EscapeString(opt.ServerName.String()),
		"{{url}}", html.EscapeString(opt.PublicURL),
		"{{how}}", html.EscapeString(how),
	).Replace(landing))
	page := httpkit.Answer{
		Header: http.Header{
			"Content-Security-Policy": {"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"},
			"X-Content-Type-Options":  {"nosniff"},
			"Referrer-Policy":         {"no-referrer"},
		},
		Body: httpkit.Page{ContentType: "text/html; charset=utf-8", Body: body},
	}
	return []httpkit.Route{{
		Method: http.MethodGet, Pattern: "/", NoBarrier: true,
		Handler: httpkit.Adapt(func(*http.Request) (httpkit.Answer, error) { return page, nil }),
	}}
}
