package webui

import (
	"errors"
	"net/http"
	"net/url"

	"stoa/internal/httpkit"
	"stoa/internal/store/userdb"
	"stoa/internal/threepid"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// confirmation is what the page shows that the link in a mail opens.
type confirmation struct {
	Title string
	// Wrong is why there is nothing to confirm.
	Wrong    string
	Done     bool
	Address  string
	User     id.UserID
	Password bool // it allows a new password
	SID      string
	Token    string
	NextLink string
}

// showConfirmation serves GET /_stoa/mail/confirm. It changes nothing: mail scanners open
// links too.
func (opt Options) showConfirmation(r *http.Request) (httpkit.Answer, error) {
	q, err := httpkit.ParseQuery(r)
	if err != nil {
		return opt.refuseConfirmation(err)
	}
	sid, token := q.Get("sid"), q.Get("token")
	p, err := opt.Threepids.Pending(r.Context(), sid, token)
	if err != nil {
		return opt.refuseConfirmation(err)
	}
	return opt.renderConfirmation(p, sid, token)
}

// confirm serves POST /_stoa/mail/confirm, the form of the page.
func (opt Options) confirm(r *http.Request) (httpkit.Answer, error) {
	form, err := readForm(r)
	if err != nil {
		return opt.refuseConfirmation(err)
	}
	p, err := opt.Threepids.Confirm(r.Context(), form.Get("sid"), form.Get("token"))
	if err != nil {
		return opt.refuseConfirmation(err)
	}
	if p.NextLink == "" {
		return opt.renderConfirmation(p, "", "")
	}
	answer, err := opt.renderConfirmation(p, "", "")
	answer.Status = http.StatusSeeOther
	answer.Header.Set("Location", p.NextLink)
	return answer, err
}

func (opt Options) renderConfirmation(p threepid.Pending, sid, token string) (httpkit.Answer, error) {
	about := confirmation{
		Title: "Confirm your email address", Done: p.Done, Address: p.Address, User: p.User, Password: p.Purpose == userdb.PurposePassword, SID: sid, Token: token, NextLink: p.NextLink,
	}
	if about.Password {
		about.Title = "Allow a new password"
	}
	answer, err := confirmPage.render(http.StatusOK, content{Server: opt.ServerName, Confirmation: about})
	if err == nil && p.NextLink != "" {
		// Browsers apply the policy on forms to the redirect that answers one, too.
		if u, perr := url.Parse(p.NextLink); perr == nil {
			answer.Header.Set("Content-Security-Policy", confirmPage.policy+" "+u.Scheme+"://"+u.Host)
		}
	}
	return answer, err
}

// refuseConfirmation shows why there is nothing to confirm.
func (opt Options) refuseConfirmation(err error) (httpkit.Answer, error) {
	var refused *mxerr.Error
	if !errors.As(err, &refused) || refused.Status >= http.StatusInternalServerError {
		return httpkit.Answer{}, err
	}
	return confirmPage.render(refused.Status, content{Server: opt.ServerName, Confirmation: confirmation{Wrong: refused.Message}})
}
