package webui

import (
	"errors"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"stoa/internal/auth"
	"stoa/internal/httpkit"
	"stoa/matrix/mxerr"
)

// stagePattern is where clients send people for a stage of interactive
// authentication that they do not know.
//
// Spec: client-server-api#fallback
const stagePattern = "/_matrix/client/v3/auth/{authType}/fallback/web"

// maxForm bounds the body of a form in bytes: a password of 512 characters, escaped,
// has room.
const maxForm = 16 << 10

// stages serves the pages of stages.
type stages struct{ opt Options }

// stage is what the page of a stage shows.
type stage struct {
	Title string
	// Wrong is why the person is shown the page again, or, if Gone, not at all.
	Wrong string
	Gone  bool
	Done  bool

	Policies                []policy
	AsksToken, AsksPassword bool
	User                    string
}

// policy is a document in one language.
type policy struct{ Name, URL, Language string }

func (s *stages) show(r *http.Request) (httpkit.Answer, error) {
	f, err := s.find(r)
	if err != nil {
		return s.refuse(err)
	}
	return s.render(http.StatusOK, s.about(f))
}

// complete tries the stage with what was entered. What proves nothing is told on the
// same page.
func (s *stages) complete(r *http.Request) (httpkit.Answer, error) {
	f, err := s.find(r)
	if err != nil {
		return s.refuse(err)
	}
	form, err := readForm(r)
	if err != nil {
		return s.refuse(err)
	}
	about := s.about(f)
	if !f.Done {
		err = s.opt.Auth.CompleteFallback(r, f, s.opt.Terms, auth.FallbackForm{Password: form.Get("password"), Token: form.Get("token")})
	}
	var refused *mxerr.Error
	switch {
	case errors.As(err, &refused) && refused.Status < http.StatusInternalServerError:
		about.Wrong = refused.Message
		return s.render(refused.Status, about)
	case err != nil:
		return httpkit.Answer{}, err
	}
	about.Done = true
	return s.render(http.StatusOK, about)
}

func (s *stages) find(r *http.Request) (*auth.Fallback, error) {
	q, err := httpkit.ParseQuery(r)
	if err != nil {
		return nil, err
	}
	session, err := q.Required("session")
	if err != nil {
		return nil, err
	}
	return s.opt.Auth.Fallback(r.Context(), session, r.PathValue("authType"))
}

// readForm reads the body that a form of these pages sends.
func readForm(r *http.Request) (url.Values, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, mxerr.InvalidParam("This is not what the page sends")
	}
	body, err := httpkit.ReadBody(r, maxForm)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, mxerr.InvalidParam("This is not what the page sends").Because(err)
	}
	return form, nil
}

// refuse shows why there is nothing to complete.
func (s *stages) refuse(err error) (httpkit.Answer, error) {
	var refused *mxerr.Error
	if !errors.As(err, &refused) || refused.Status >= http.StatusInternalServerError {
		return httpkit.Answer{}, err
	}
	return s.render(refused.Status, stage{Gone: true, Wrong: refused.Message})
}

func (s *stages) about(f *auth.Fallback) stage {
	about := stage{Title: "One more step", Done: f.Done}
	switch f.Stage {
	case auth.StageTerms:
		about.Title, about.Policies = "Terms", policies(s.opt.Terms)
	case auth.StageRegistrationToken:
		about.AsksToken = true
	case auth.StagePassword:
		about.Title, about.AsksPassword, about.User = "Is it you?", true, f.User.String()
	}
	return about
}

func (s *stages) render(status int, about stage) (httpkit.Answer, error) {
	return stagePage.render(status, content{Server: s.opt.ServerName, stage: about})
}

// policies lists the documents, each in all its languages.
func policies(terms auth.Terms) []policy {
	var all []policy
	for _, document := range terms {
		for language, text := range document.Languages {
			all = append(all, policy{Name: text.Name, URL: text.URL, Language: language})
		}
	}
	slices.SortFunc(all, func(a, b policy) int { return strings.Compare(a.Name+"\n"+a.URL, b.Name+"\n"+b.URL) })
	return all
}
