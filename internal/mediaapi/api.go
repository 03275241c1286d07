// Package mediaapi is the content repository over HTTP: uploads, downloads, thumbnails, previews of links.
//
// It owns the list of its routes, what requests and answers look like, and the headers that keep browsers from running what
// strangers have uploaded. What is kept, and who may keep how much, is package media's.
//
// The invariant that matters: what a browser would run is never shown inline, whatever type an upload states.
//
// Spec: client-server-api#content-repository
package mediaapi

import (
	"net/http"
	"strings"
	"time"

	"stoa/internal/auth"
	"stoa/internal/httpkit"
	"stoa/internal/media"
	"stoa/internal/preview"
)

// Options are what the API needs.
type Options struct {
	Auth  *auth.Auth
	Media *media.Media
	// Previews makes previews of links; nil = they are off.
	Previews *preview.Previews
	// Freeze is the time from which on uploads are served with an access token only; zero = never.
	Freeze time.Time
}

// API serves the content repository.
type API struct{ opt Options }

// New makes an API.
func New(opt Options) *API { return &API{opt} }

const (
	clientMedia = "/_matrix/client/v1/media"
	oldMedia    = "/_matrix/media"
)

// Routes lists every endpoint.
func (a *API) Routes() []httpkit.Route {
	list := []httpkit.Route{
		upload("POST", oldMedia+"/v3/upload", a.upload),
		upload("PUT", oldMedia+"/v3/upload/{serverName}/{mediaId}", a.uploadTo),
		route("POST", oldMedia+"/v1/create", a.create),
		route("GET", clientMedia+"/config", a.config),
		lookup("GET", clientMedia+"/preview_url", a.previewURL),
		route("GET", clientMedia+"/download/{serverName}/{mediaId}", a.download),
		route("GET", clientMedia+"/download/{serverName}/{mediaId}/{fileName}", a.download),
		route("GET", clientMedia+"/thumbnail/{serverName}/{mediaId}", a.thumbnail),

		// Deprecated: without an access token, for what was uploaded before the freeze.
		route("GET", oldMedia+"/v3/config", a.config),
		lookup("GET", oldMedia+"/v3/preview_url", a.previewURL),
		open("GET", oldMedia+"/v3/download/{serverName}/{mediaId}", a.oldDownload),
		open("GET", oldMedia+"/v3/download/{serverName}/{mediaId}/{fileName}", a.oldDownload),
		open("GET", oldMedia+"/v3/thumbnail/{serverName}/{mediaId}", a.oldThumbnail),
	}
	for _, r := range list[:len(list):len(list)] { // under r0, as old clients ask
		if rest, ok := strings.CutPrefix(r.Pattern, oldMedia+"/v3/"); ok {
			r.Pattern = oldMedia + "/r0/" + rest
			list = append(list, r)
		}
	}
	return list
}

func route[T any](method, pattern string, f func(*http.Request) (T, error)) httpkit.Route {
	r := open(method, pattern, f)
	r.Limit, r.Token = httpkit.LimitPlain, true
	if method != http.MethodGet {
		r.Rate = httpkit.RateWrite
	}
	return r
}

func lookup[T any](method, pattern string, f func(*http.Request) (T, error)) httpkit.Route {
	r := route(method, pattern, f)
	r.Rate = httpkit.RateLookup
	return r
}

func open[T any](method, pattern string, f func(*http.Request) (T, error)) httpkit.Route {
	return httpkit.Route{Method: method, Pattern: pattern, Handler: httpkit.Adapt(f), Limit: httpkit.LimitLookup}
}

func upload[T any](method, pattern string, f func(*http.Request) (T, error)) httpkit.Route {
	r := route(method, pattern, f)
	r.Stream = true
	return r
}

type configAnswer struct {
	Size int64 `json:"m.upload.size"` // in bytes
}

// config serves GET /_matrix/client/v1/media/config.
//
// Spec: client-server-api#get_matrixclientv1mediaconfig
func (a *API) config(r *http.Request) (configAnswer, error) {
	if _, err := a.opt.Auth.Caller(r); err != nil {
		return configAnswer{}, err
	}
	return configAnswer{a.opt.Media.MaxUpload()}, nil
}

type uploadAnswer struct {
	URI     string `json:"content_uri"`
	Expires int64  `json:"unused_expires_at,omitempty"` // ms since 1970
}

// upload serves POST /_matrix/media/v3/upload.
//
// Spec: client-server-api#post_matrixmediav3upload
func (a *API) upload(r *http.Request) (uploadAnswer, error) {
	caller, up, err := a.readUpload(r)
	if err != nil {
		return uploadAnswer{}, err
	}
	uri, err := a.opt.Media.Upload(r.Context(), caller.User, up)
	if err != nil {
		return uploadAnswer{}, uploadError(err)
	}
	return uploadAnswer{URI: uri.String()}, nil
}

// uploadTo serves PUT /_matrix/media/v3/upload/{serverName}/{mediaId}.
//
// Spec: client-server-api#put_matrixmediav3uploadservernamemediaid
func (a *API) uploadTo(r *http.Request) (httpkit.Empty, error) {
	caller, up, err := a.readUpload(r)
	if err != nil {
		return httpkit.Empty{}, err
	}
	uri, err := media.ParseURI(r.PathValue("serverName"), r.PathValue("mediaId"))
	if err != nil {
		return httpkit.Empty{}, err
	}
	return httpkit.Empty{}, uploadError(a.opt.Media.UploadTo(r.Context(), caller.User, uri, up))
}

// create serves POST /_matrix/media/v1/create.
//
// Spec: client-server-api#post_matrixmediav1create
func (a *API) create(r *http.Request) (uploadAnswer, error) {
	caller, err := a.opt.Auth.Caller(r)
	if err != nil {
		return uploadAnswer{}, err
	}
	if err := caller.MayAct(); err != nil {
		return uploadAnswer{}, err
	}
	uri, expires, err := a.opt.Media.Create(r.Context(), caller.User)
	if err != nil {
		return uploadAnswer{}, err
	}
	return uploadAnswer{uri.String(), expires.UnixMilli()}, nil
}
