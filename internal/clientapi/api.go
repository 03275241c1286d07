// Package clientapi serves the client-server API over HTTP.
//
// It owns the list of its routes, the form of requests and answers, and
// nothing else: a handler parses, calls one function of a domain package, and
// returns a value or an error. It never touches the store, holds no state of
// its own, and never logs; package httpkit writes answers and turns errors
// into errcodes.
//
// The invariant: an endpoint is in the list of Routes only if it follows the
// specification. All others answer 404 M_UNRECOGNIZED.
//
// Spec: client-server-api
package clientapi

import (
	"time"

	"stoa/internal/account"
	"stoa/internal/auth"
	"stoa/internal/clientsync"
	"stoa/internal/directory"
	"stoa/internal/e2ee"
	"stoa/internal/ephemeral"
	"stoa/internal/history"
	"stoa/internal/httpkit"
	"stoa/internal/notice"
	"stoa/internal/push"
	"stoa/internal/report"
	"stoa/internal/room"
	"stoa/internal/search"
	"stoa/internal/slidingsync"
	"stoa/internal/streamcache"
	"stoa/internal/threepid"
	"stoa/internal/userdata"
	"stoa/matrix/id"
)

// Registration says who may make an account by themselves.
type Registration string

// Values of the setting STOA_REGISTRATION.
const (
	RegistrationClosed Registration = "closed"
	RegistrationToken  Registration = "token"
	RegistrationOpen   Registration = "open"
)

// RegistrationEmail says whether people confirm an email address to make an account.
type RegistrationEmail string

// Values of the setting STOA_REGISTRATION_EMAIL.
const (
	EmailOff      RegistrationEmail = "off"
	EmailOptional RegistrationEmail = "optional"
	EmailRequired RegistrationEmail = "required"
)

// Options are what the API needs.
type Options struct {
	ServerName id.ServerName
	// PublicURL is the address that clients use, without a slash at its end.
	PublicURL string
	// RoomVersion is that of new rooms.
	RoomVersion string
	// Registration is closed if empty.
	Registration Registration
	// RegistrationEmail is off if empty.
	RegistrationEmail RegistrationEmail
	// SharedSecret enables registration by shared secret if not empty.
	SharedSecret string
	// Terms are the documents that people must accept to register; none if nil.
	Terms auth.Terms
	// Support is what /.well-known/matrix/support tells; nothing if nil.
	Support *Support

	// TURNURIs are the TURN servers for calls; none if empty.
	TURNURIs []string
	// TURNSecret is what the TURN servers and this server know.
	TURNSecret string
	// LiveKitURL is the service that authorises users for group calls; empty = none.
	LiveKitURL string

	// Limits bound the invitations that users give and get; nil = nothing does.
	Limits    *httpkit.UserLimits
	Auth      *auth.Auth
	Accounts  *account.Accounts
	Addresses *threepid.Threepids
	Keys      *e2ee.Keys
	Data      *userdata.Data
	Push      *push.Push
	Rooms     *room.Rooms
	History   *history.Reader
	Directory *directory.Directory
	Search    *search.Search
	Reports   *report.Reports
	Notices   *notice.Notices
	Typing    *ephemeral.Typing
	Presence  *ephemeral.Presence
	Receipts  *ephemeral.Receipts
	Sync      *clientsync.Renderer
	Sliding   *slidingsync.Renderer
	Stream    *streamcache.Cache
	// Clock is time.Now if nil.
	Clock func() time.Time
}

// API serves the client-server API. Its handlers are in files named after the
// specification's chapters, its routes in [API.Routes].
type API struct {
	opt       Options
	auth      *auth.Auth
	accounts  *account.Accounts
	addresses *threepid.Threepids
	keys      *e2ee.Keys
	data      *userdata.Data
	push      *push.Push
	rooms     *room.Rooms
	history   *history.Reader
	directory *directory.Directory
	search    *search.Search
	reports   *report.Reports
	notices   *notice.Notices
	typing    *ephemeral.Typing
	presence  *ephemeral.Presence
	receipts  *ephemeral.Receipts
	syncs     *clientsync.Renderer
	sliding   *slidingsync.Renderer
	stream    *streamcache.Cache
	secret    *account.SharedSecret // nil = off

	versionsAnswer httpkit.Raw // only the settings decide it
}

// New makes an API.
func New(opt Options) *API {
	if opt.Registration == "" {
		opt.Registration = RegistrationClosed
	}
	if opt.Clock == nil {
		opt.Clock = time.Now
	}
	a := &API{
		opt:       opt,
		auth:      opt.Auth,
		accounts:  opt.Accounts,
		addresses: opt.Addresses,
		keys:      opt.Keys,
		data:      opt.Data,
		push:      opt.Push,
		rooms:     opt.Rooms,
		history:   opt.History,
		directory: opt.Directory,
		search:    opt.Search,
		reports:   opt.Reports,
		notices:   opt.Notices,
		typing:    opt.Typing,
		presence:  opt.Presence,
		receipts:  opt.Receipts,
		syncs:     opt.Sync,
		sliding:   opt.Sliding,
		stream:    opt.Stream,

		versionsAnswer: versionsAnswer(opt),
	}
	if opt.SharedSecret != "" {
		a.secret = account.NewSharedSecret(opt.SharedSecret, nil)
	}
	return a
}
