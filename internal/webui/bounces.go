package webui

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"

	"stoa/internal/email"
	"stoa/internal/httpkit"
	"stoa/internal/mail"
	"stoa/matrix/mxerr"
)

// bouncesPattern is where mails that came back are reported.
const bouncesPattern = "/_stoa/mail/bounces"

// maxBounces bounds the body of a report in bytes.
const maxBounces = 256 << 10

// bounces serves POST /_stoa/mail/bounces: whoever has the secret, a mail provider or the
// script of an operator, names addresses whose mails came back.
func (opt Options) bounces(r *http.Request) (httpkit.Empty, error) {
	given, want := sha256.Sum256([]byte(httpkit.BearerToken(r))), sha256.Sum256([]byte(opt.BounceSecret))
	if opt.BounceSecret == "" || subtle.ConstantTimeCompare(given[:], want[:]) != 1 {
		return httpkit.Empty{}, mxerr.Forbidden("The secret is wrong, or mail_bounce_secret is not set")
	}
	var body struct {
		Addresses []string `json:"addresses"`
		Reason    string   `json:"reason"`
	}
	if err := httpkit.ReadJSONLimit(r, &body, maxBounces); err != nil {
		return httpkit.Empty{}, err
	}
	if len(body.Addresses) == 0 || len(body.Addresses) > mail.MaxReported {
		return httpkit.Empty{}, mxerr.InvalidParam("addresses must be a list of 1 to %d email addresses", mail.MaxReported)
	}
	var list []email.Address
	for _, text := range body.Addresses {
		address, err := email.Parse(text)
		if err != nil {
			return httpkit.Empty{}, mxerr.InvalidParam("%q is no email address", text).Because(err)
		}
		list = append(list, address)
	}
	return httpkit.Empty{}, opt.Mail.Report(r.Context(), list, body.Reason)
}
