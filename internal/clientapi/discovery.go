package clientapi

import (
	"net/http"

	"stoa/internal/httpkit"
	"stoa/matrix/mxerr"
	"stoa/matrix/roomversion"
)

// versions serves GET /_matrix/client/versions.
//
// Spec: client-server-api#api-versions
func (a *API) versions(*http.Request) (httpkit.Raw, error) { return a.versionsAnswer, nil }

// homeserver is the m.homeserver of the discovery information.
type homeserver struct {
	BaseURL string `json:"base_url"`
}

// discovery is the discovery information, in answers to a login too.
type discovery struct {
	Homeserver homeserver `json:"m.homeserver"`
	// RTC is where clients from before /rtc/transports look for it.
	RTC []rtcTransport `json:"org.matrix.msc4143.rtc_foci,omitempty"`
}

func (a *API) discovery() discovery { return discovery{homeserver{a.opt.PublicURL}, a.transports()} }

// wellKnownClient serves GET /.well-known/matrix/client.
//
// Spec: client-server-api#well-known-uris
func (a *API) wellKnownClient(*http.Request) (discovery, error) { return a.discovery(), nil }

// Support is how to reach the people behind the server. At least one of its
// fields is set.
//
// Spec: client-server-api#well-known-uris
type Support struct {
	Contacts    []Contact `json:"contacts,omitempty"`
	SupportPage string    `json:"support_page,omitempty"`
}

// Contact is a way to reach someone; at least one of MatrixID and EmailAddress
// is set.
type Contact struct {
	MatrixID     string `json:"matrix_id,omitempty"`
	EmailAddress string `json:"email_address,omitempty"`
	Role         string `json:"role"` // m.role.admin, m.role.security
}

// wellKnownSupport serves GET /.well-known/matrix/support.
//
// Spec: client-server-api#well-known-uris
func (a *API) wellKnownSupport(*http.Request) (*Support, error) {
	if a.opt.Support == nil {
		return nil, mxerr.NotFound("This server gives no support information")
	}
	return a.opt.Support, nil
}

type enabled struct {
	Enabled bool `json:"enabled"`
}

type roomVersions struct {
	Default   string            `json:"default"`
	Available map[string]string `json:"available"`
}

type moderation struct {
	Suspend bool `json:"suspend"`
	Lock    bool `json:"lock"`
}

type capabilities struct {
	Capabilities struct {
		ChangePassword  enabled      `json:"m.change_password"`
		RoomVersions    roomVersions `json:"m.room_versions"`
		SetDisplayName  enabled      `json:"m.set_displayname"`
		SetAvatarURL    enabled      `json:"m.set_avatar_url"`
		ThreepidChanges enabled      `json:"m.3pid_changes"`
		GetLoginToken   enabled      `json:"m.get_login_token"`
		ProfileFields   enabled      `json:"m.profile_fields"`
		OldFields       enabled      `json:"uk.tcpip.msc4133.profile_fields"` // the same, for clients from before version 1.16
		ForgetUponLeave enabled      `json:"m.forget_forced_upon_leave"`
		Moderation      *moderation  `json:"m.account_moderation,omitempty"`
	} `json:"capabilities"`
}

// capabilities serves GET /_matrix/client/v3/capabilities.
//
// Spec: client-server-api#capabilities-negotiation
func (a *API) capabilities(r *http.Request) (out capabilities, err error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return out, err
	}
	account, err := a.accounts.AccountByNum(r.Context(), caller.UserNum)
	if err != nil {
		return out, err
	}
	c := &out.Capabilities
	c.ChangePassword.Enabled = account.HasPassword
	c.GetLoginToken.Enabled = account.HasPassword // the password is what confirms it
	c.SetDisplayName.Enabled = true
	c.ThreepidChanges.Enabled = a.addresses.Enabled()
	c.SetAvatarURL.Enabled = true
	c.ProfileFields.Enabled, c.OldFields.Enabled = true, true
	if caller.Admin {
		c.Moderation = &moderation{Suspend: true, Lock: true}
	}
	c.RoomVersions = roomVersions{Default: a.opt.RoomVersion, Available: map[string]string{}}
	for _, rules := range roomversion.All() {
		stability := "unstable"
		if rules.Stable {
			stability = "stable"
		}
		c.RoomVersions.Available[rules.Version] = stability
	}
	return out, nil
}
