package mediaapi

import (
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"stoa/internal/httpkit"
	"stoa/internal/media"
	"stoa/internal/thumbnail"
	"stoa/matrix/mxerr"
)

// Waits for an upload that has not come yet.
//
// Spec: client-server-api#get_matrixclientv1mediadownloadservernamemediaid
const (
	usualWait = 20 * time.Second
	maxWait   = 60 * time.Second
)

// inlineTypes are the types that browsers show without running anything.
//
// Spec: client-server-api#serving-inline-content
var inlineTypes = map[string]bool{
	"text/css": true, "text/plain": true, "text/csv": true, "application/json": true, "application/ld+json": true,
	"image/jpeg": true, "image/gif": true, "image/png": true, "image/apng": true, "image/webp": true, "image/avif": true,
	"video/mp4": true, "video/webm": true, "video/ogg": true, "video/quicktime": true,
	"audio/mp4": true, "audio/webm": true, "audio/aac": true, "audio/mpeg": true, "audio/ogg": true, "audio/wave": true,
	"audio/wav": true, "audio/x-wav": true, "audio/x-pn-wav": true, "audio/flac": true, "audio/x-flac": true,
}

// policy is the Content-Security-Policy of every download.
//
// Spec: client-server-api#content-repository
const policy = "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; style-src 'unsafe-inline'; object-src 'self';"

// content is an answer that is a file.
type content struct {
	file *media.File
	name string
}

// ServeHTTP writes the file: all of it, a range, or that it has not changed.
func (c content) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer c.file.Close() // it was only read
	h := w.Header()
	h.Set("Content-Type", c.file.Type)
	h.Set("Content-Disposition", disposition(c.file.Type, c.name))
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "private, max-age=31536000, immutable")
	h.Set("ETag", `"`+hex.EncodeToString(c.file.Hash)+`"`)
	body := &bodyReader{Reader: c.file}
	http.ServeContent(w, r, "", c.file.Time, readSeeker{body, c.file})
	if body.err != nil {
		panic(http.ErrAbortHandler) // the storage failed: cut the connection, since headers promised all of it
	}
}

type readSeeker struct {
	io.Reader
	io.Seeker
}

// disposition says whether a browser shows a file or saves it, and under which name.
func disposition(contentType, name string) string {
	how := "attachment"
	if base, _, err := mime.ParseMediaType(contentType); err == nil && inlineTypes[base] {
		how = "inline"
	}
	if name == "" {
		return how
	}
	return mime.FormatMediaType(how, map[string]string{"filename": name})
}

// target is what a download asks for.
type target struct {
	uri  media.URI
	wait time.Duration
	q    httpkit.Query
}

func readTarget(r *http.Request) (t target, err error) {
	if t.q, err = httpkit.ParseQuery(r); err != nil {
		return t, err
	}
	if t.uri, err = media.ParseURI(r.PathValue("serverName"), r.PathValue("mediaId")); err != nil {
		return t, err
	}
	// The deprecated endpoints have these two. Nothing is fetched from elsewhere or redirected, whatever they say.
	for _, name := range [2]string{"allow_remote", "allow_redirect"} {
		if _, err := boolean(t.q, name); err != nil {
			return t, err
		}
	}
	t.wait = usualWait
	if text, ok := t.q.Lookup("timeout_ms"); ok {
		ms, err := strconv.ParseInt(text, 10, 64)
		if err != nil || ms < 0 {
			return t, mxerr.InvalidParam("timeout_ms must be a number of milliseconds")
		}
		t.wait = min(time.Duration(min(ms, maxWait.Milliseconds()))*time.Millisecond, maxWait)
	}
	return t, nil
}

// boolean reads a parameter that is true or false; false if it is missing.
func boolean(q httpkit.Query, name string) (bool, error) {
	text, ok := q.Lookup(name)
	if ok && text != "true" && text != "false" {
		return false, mxerr.InvalidParam("%s must be true or false", name)
	}
	return text == "true", nil
}

// download serves GET /_matrix/client/v1/media/download/….
//
// Spec: client-server-api#get_matrixclientv1mediadownloadservernamemediaid
func (a *API) download(r *http.Request) (content, error) {
	if _, err := a.opt.Auth.Caller(r); err != nil {
		return content{}, err
	}
	return a.file(r)
}

func (a *API) file(r *http.Request) (content, error) {
	t, err := readTarget(r)
	if err != nil {
		return content{}, err
	}
	file, err := a.opt.Media.Open(r.Context(), t.uri, t.wait)
	if err != nil {
		return content{}, err
	}
	name := r.PathValue("fileName")
	if name == "" {
		name = file.Name
	}
	return content{file, name}, nil
}

// thumbnail serves GET /_matrix/client/v1/media/thumbnail/….
//
// Spec: client-server-api#get_matrixclientv1mediathumbnailservernamemediaid
func (a *API) thumbnail(r *http.Request) (content, error) {
	if _, err := a.opt.Auth.Caller(r); err != nil {
		return content{}, err
	}
	return a.small(r)
}

func (a *API) small(r *http.Request) (content, error) {
	t, err := readTarget(r)
	if err != nil {
		return content{}, err
	}
	var sides [2]int
	for i, name := range [2]string{"width", "height"} {
		text, ok := t.q.Lookup(name)
		if !ok {
			return content{}, mxerr.MissingParam("%s is missing", name)
		}
		if sides[i], err = strconv.Atoi(text); err != nil || sides[i] < 1 {
			return content{}, mxerr.InvalidParam("%s must be a number of pixels above 0", name)
		}
	}
	method := thumbnail.Scale
	switch text := t.q.Get("method"); text {
	case "", "scale":
	case "crop":
		method = thumbnail.Crop
	default:
		return content{}, mxerr.InvalidParam("method must be crop or scale, not %q", text)
	}
	animated, err := boolean(t.q, "animated")
	if err != nil {
		return content{}, err
	}
	file, err := a.opt.Media.Thumbnail(r.Context(), t.uri, sides[0], sides[1], method, animated, t.wait)
	if err != nil {
		return content{}, err
	}
	return content{file, "thumbnail"}, nil
}

// oldDownload serves GET /_matrix/media/v3/download/….
//
// Spec: client-server-api#get_matrixmediav3downloadservernamemediaid
func (a *API) oldDownload(r *http.Request) (content, error) { return a.unfrozen(a.file(r)) }

// oldThumbnail serves GET /_matrix/media/v3/thumbnail/….
//
// Spec: client-server-api#get_matrixmediav3thumbnailservernamemediaid
func (a *API) oldThumbnail(r *http.Request) (content, error) { return a.unfrozen(a.small(r)) }

// unfrozen hides what was uploaded after the freeze.
func (a *API) unfrozen(c content, err error) (content, error) {
	if err == nil && !a.opt.Freeze.IsZero() && !c.file.Time.Before(a.opt.Freeze) {
		return content{}, errors.Join(mxerr.NotFound("Media is only served with an access token, under /_matrix/client/v1/media"), c.file.Close())
	}
	return c, err
}
