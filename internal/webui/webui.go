// Package webui serves the web pages of this server.
//
// It owns its files, which are inside the binary, and the addresses of the pages. It
// never touches the store: a page gets its data from the settings, from package
// auth, or from the client-server API like any client. Pages load nothing from other
// servers, and run only the scripts of this package.
package webui

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // for the pages
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"

	"stoa/internal/auth"
	"stoa/internal/httpkit"
	"stoa/internal/mail"
	"stoa/internal/threepid"
	"stoa/matrix/id"
)

var (
	//go:embed page.css
	style string
	//go:embed landing.html
	landingHTML string
	//go:embed login.html
	loginHTML string
	//go:embed login.js
	loginScript string
	//go:embed stage.html
	stageHTML string
	//go:embed confirm.html
	confirmHTML string
	//go:embed stage.js
	stageScript string
)

var (
	landingPage = newPage("landing", landingHTML, "")
	loginPage   = newPage("login", loginHTML, loginScript)
	stagePage   = newPage("stage", stageHTML, stageScript)
	confirmPage = newPage("confirm", confirmHTML, "")
)

// Options are what the pages show.
type Options struct {
	ServerName id.ServerName
	// PublicURL is the address that clients use.
	PublicURL string
	// MayRegister says that people can make accounts with their client.
	MayRegister bool
	// Terms are those that people must accept to register.
	Terms auth.Terms
	Auth  *auth.Auth
	// Mail records the mails that come back, for whoever has BounceSecret; empty = nobody.
	Mail         *mail.Mailer
	BounceSecret string
	// Threepids are the addresses that the links in mails confirm.
	Threepids *threepid.Threepids
}

// Routes lists the pages.
func Routes(opt Options) ([]httpkit.Route, error) {
	landing, err := landingPage.render(http.StatusOK, content{Server: opt.ServerName, PublicURL: opt.PublicURL, MayRegister: opt.MayRegister})
	if err != nil {
		return nil, err
	}
	login, err := loginPage.render(http.StatusOK, content{Server: opt.ServerName})
	if err != nil {
		return nil, err
	}
	stages := &stages{opt}
	return []httpkit.Route{
		fixed("/", landing),
		// Spec: client-server-api#login-fallback
		fixed("/_matrix/static/client/login/", login),
		{Method: http.MethodGet, Pattern: stagePattern, Limit: httpkit.LimitLogin, Handler: httpkit.Adapt(stages.show)},
		{Method: http.MethodPost, Pattern: stagePattern, Limit: httpkit.LimitLogin, Handler: httpkit.Adapt(stages.complete)},
		{Method: http.MethodGet, Pattern: threepid.ConfirmPath, Limit: httpkit.LimitLogin, Handler: httpkit.Adapt(opt.showConfirmation)},
		{Method: http.MethodPost, Pattern: threepid.ConfirmPath, Limit: httpkit.LimitLogin, Handler: httpkit.Adapt(opt.confirm)},
		{Method: http.MethodPost, Pattern: bouncesPattern, Limit: httpkit.LimitLogin, Handler: httpkit.Adapt(opt.bounces)},
	}, nil
}

func fixed(pattern string, a httpkit.Answer) httpkit.Route {
	return httpkit.Route{
		Method: http.MethodGet, Pattern: pattern, NoBarrier: true,
		Handler: httpkit.Adapt(func(*http.Request) (httpkit.Answer, error) { return a, nil }),
	}
}

// page is a template with the one script that it may run.
type page struct {
	template *template.Template
	script   string
	policy   string
}

// content is what templates show.
type content struct {
	Server      id.ServerName
	PublicURL   string
	MayRegister bool
	stage
	Confirmation confirmation

	Style  template.CSS
	Script template.JS
}

func newPage(name, text, script string) *page {
	// What browsers are asked to run and load: this style, this script, this server.
	policy := "default-src 'none'; style-src " + hashOf(style) + "; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
	if script != "" {
		policy += "; connect-src 'self'; script-src " + hashOf(script)
	}
	return &page{template: template.Must(template.New(name).Parse(text)), script: script, policy: policy}
}

// hashOf is a text as a Content-Security-Policy names it.
func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func (p *page) render(status int, c content) (httpkit.Answer, error) {
	c.Style, c.Script = template.CSS(style), template.JS(p.script)
	var body bytes.Buffer
	if err := p.template.Execute(&body, c); err != nil {
		return httpkit.Answer{}, fmt.Errorf("show page: %w", err)
	}
	return httpkit.Answer{
		Status: status,
		Header: http.Header{
			"Content-Security-Policy": {p.policy},
			"X-Content-Type-Options":  {"nosniff"},
			"Referrer-Policy":         {"no-referrer"},
			"Cache-Control":           {"no-store"},
		},
		Body: httpkit.Page{ContentType: "text/html; charset=utf-8", Body: body.Bytes()},
	}, nil
}
