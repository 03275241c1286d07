package httpkit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"unicode/utf8"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/mxerr"
)

// MaxBody is the limit of a JSON body in bytes, unless a route says otherwise.
const MaxBody = 1 << 20

// ReadBody gives the whole body, which is the caller's. More than limit bytes
// is 413 M_TOO_LARGE, before reading where the length is declared.
func ReadBody(r *http.Request, limit int64) ([]byte, error) {
	return readInto(nil, r, limit)
}

// readInto reads the body into buf, which grows as needed.
func readInto(buf []byte, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return buf, tooLarge(limit)
	}
	if r.ContentLength >= 0 { // net/http gives exactly that many bytes, or an error
		n := int(r.ContentLength)
		if cap(buf) < n {
			buf = make([]byte, n)
		}
		buf = buf[:n]
		if _, err := io.ReadFull(r.Body, buf); err != nil {
			return buf, brokenBody(err)
		}
		return buf, nil
	}
	buf = buf[:0]
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if int64(len(buf)) > limit {
			return buf, tooLarge(limit)
		}
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return buf, brokenBody(err)
		}
	}
}

func tooLarge(limit int64) error {
	return mxerr.TooLarge("The request's body is larger than %d bytes", limit)
}

// brokenBody is the answer to a body that did not arrive whole.
func brokenBody(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return mxerr.NotJSON("The request's body did not arrive in time").WithStatus(http.StatusRequestTimeout).Because(err)
	}
	return mxerr.NotJSON("The request's body ended early").Because(err)
}

var bodyBuffers = sync.Pool{New: func() any { return new([]byte) }}

// ReadJSON reads a body that must be one JSON object into v, a pointer to a
// struct or map, as encoding/json does. Not JSON is M_NOT_JSON; another type
// than an object, a member of the wrong type, a key that stands twice, and too
// deep nesting are M_BAD_JSON; more than MaxBody is M_TOO_LARGE. The content
// type is not looked at, since many clients send none.
func ReadJSON(r *http.Request, v any) error { return readJSON(r, v, MaxBody, false) }

// ReadJSONLimit is ReadJSON with a limit in bytes of its own.
func ReadJSONLimit(r *http.Request, v any, limit int64) error { return readJSON(r, v, limit, false) }

// ReadOptionalJSON is ReadJSON for endpoints whose body clients leave out: no
// body is read as {}.
func ReadOptionalJSON(r *http.Request, v any) error { return readJSON(r, v, MaxBody, true) }

func readJSON(r *http.Request, v any, limit int64, optional bool) error {
	pooled := bodyBuffers.Get().(*[]byte)
	body, err := readInto(*pooled, r, limit)
	if cap(body) <= maxPooled {
		defer func() {
			*pooled = body[:0]
			bodyBuffers.Put(pooled)
		}()
	}
	if err != nil {
		return err
	}
	if optional && len(body) == 0 {
		return nil
	}
	return DecodeJSON(body, v)
}

// ReadObject gives a body that must be one JSON object as it came, checked as
// ReadJSON does. The bytes are the caller's.
func ReadObject(r *http.Request, limit int64) (json.RawMessage, error) {
	body, err := ReadBody(r, limit)
	if err != nil {
		return nil, err
	}
	return body, checkObject(body)
}

// DecodeJSON is ReadJSON for bytes at hand. Nothing in v refers to them after.
func DecodeJSON(body []byte, v any) error {
	if err := checkObject(body); err != nil {
		return err
	}
	err := json.Unmarshal(body, v)
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong) && wrong.Field != "":
		return mxerr.BadJSON("%s has the wrong type: a JSON %s", wrong.Field, wrong.Value).Because(err)
	default:
		// Errors of the UnmarshalText of identifiers land here.
		return mxerr.BadJSON("%s", plainError(err)).Because(err)
	}
}

// plainError is what is wrong with a value, without Go's words around it.
func plainError(err error) string {
	var known *mxerr.Error
	if errors.As(err, &known) {
		return known.Message
	}
	return fmt.Sprintf("The body has a value that is not allowed: %v", err)
}

// checkObject says whether body is one well-formed JSON object.
func checkObject(body []byte) error {
	if err := canonicaljson.Check(body); err != nil {
		if !json.Valid(body) || !utf8.Valid(body) {
			return mxerr.NotJSON("The request's body is not JSON").Because(err)
		}
		return mxerr.BadJSON("The request's body is not allowed: %v", err)
	}
	if start := bytes.TrimLeft(body, " \t\r\n"); start[0] != '{' {
		return mxerr.BadJSON("The request's body must be a JSON object")
	}
	return nil
}
