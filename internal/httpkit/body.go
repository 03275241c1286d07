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

// openBody bounds the body of a request that needs no token. A login with a password of
// 512 characters, or a form, takes a few KiB.
const openBody = 64 << 10

// firstPiece is the first buffer of a body, which is pooled.
const firstPiece = 4 << 10

// growth is the factor by which the buffer of a body grows.
const growth = 4

// wholeBody is a request body that has arrived. A Mux reads it before it calls the
// handler, so that a request takes no scarce resource while its client sends.
type wholeBody struct {
	text   []byte
	read   int // bytes of text that Read has returned
	pooled *[firstPiece]byte
}

var firstPieces = sync.Pool{New: func() any { return new([firstPiece]byte) }}

// Read implements io.Reader.
func (b *wholeBody) Read(p []byte) (int, error) {
	n := copy(p, b.text[b.read:])
	b.read += n
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Close implements io.Closer.
func (b *wholeBody) Close() error { return nil }

// take returns the text, which then belongs to the caller.
func (b *wholeBody) take() []byte {
	text := b.text[b.read:]
	if b.pooled != nil {
		text = bytes.Clone(text)
	}
	b.read = len(b.text)
	return text
}

// arrive reads the body of a request up to a limit. Its buffer grows as the body arrives,
// and is counted before it is allocated. x.bytes has the counted bytes, even after an
// error.
func (x *exchange) arrive(limit, own int64) error {
	r, b := x.r, &x.whole
	if r.ContentLength > limit {
		x.w.Header()["Connection"] = closeConnection // otherwise net/http would first read the rest of the body
		return tooLarge(limit)
	}
	most := limit + 1 // one more, to detect a longer body
	if r.ContentLength >= 0 {
		most = r.ContentLength
	}
	if err := x.charge(min(most, firstPiece)+requestBytes, own); err != nil {
		return err
	}
	b.pooled = firstPieces.Get().(*[firstPiece]byte)
	buf := b.pooled[:0:min(most, firstPiece)]
	for {
		if len(buf) == cap(buf) {
			if int64(len(buf)) == most && r.ContentLength >= 0 {
				break // net/http returns exactly that many bytes, or an error
			}
			next := min(int64(cap(buf))*growth, most)
			if next > int64(cap(buf)) {
				if err := x.charge(next-int64(cap(buf)), own); err != nil {
					return err
				}
				grown := append(make([]byte, 0, next), buf...)
				b.giveBack()
				buf = grown
			}
		}
		n, err := r.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if int64(len(buf)) > limit {
			return tooLarge(limit)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return brokenBody(err)
		}
	}
	b.text = buf
	return nil
}

// giveBack returns a pooled buffer.
func (b *wholeBody) giveBack() {
	if b.pooled != nil {
		firstPieces.Put(b.pooled)
		b.pooled = nil
	}
}

// ReadBody returns the whole body, which belongs to the caller. A body of more than limit
// bytes gives 413 M_TOO_LARGE, before it is read if its length is declared.
func ReadBody(r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	if whole, ok := r.Body.(*wholeBody); ok {
		if int64(len(whole.text)) > limit {
			return nil, tooLarge(limit)
		}
		return whole.take(), nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	switch {
	case err != nil:
		return nil, brokenBody(err)
	case int64(len(body)) > limit:
		return nil, tooLarge(limit)
	}
	return body, nil
}

func tooLarge(limit int64) error {
	return mxerr.TooLarge("The request's body is larger than %d bytes", limit)
}

// brokenBody is the error for a body that did not arrive completely.
func brokenBody(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return mxerr.NotJSON("The request's body did not arrive in time").WithStatus(http.StatusRequestTimeout).Because(err)
	}
	return mxerr.NotJSON("The request's body ended early").Because(err)
}

// ReadJSON decodes a body that must be one JSON object into v, a pointer to a struct or
// map, as encoding/json does. Invalid JSON is M_NOT_JSON; another type than an object, a
// member of the wrong type, a duplicate key, or too deep nesting is M_BAD_JSON; more than
// MaxBody is M_TOO_LARGE. The content type is ignored, since many clients send none.
func ReadJSON(r *http.Request, v any) error { return decodeBody(r, v, MaxBody, false) }

// ReadJSONLimit is ReadJSON with another limit in bytes.
func ReadJSONLimit(r *http.Request, v any, limit int64) error { return decodeBody(r, v, limit, false) }

// ReadOptionalJSON is ReadJSON for endpoints whose body is optional: a missing body
// counts as {}.
func ReadOptionalJSON(r *http.Request, v any) error { return decodeBody(r, v, MaxBody, true) }

func decodeBody(r *http.Request, v any, limit int64, optional bool) error {
	var body []byte
	var err error
	if whole, ok := r.Body.(*wholeBody); ok && int64(len(whole.text)) <= limit {
		body = whole.text[whole.read:] // v does not refer to it afterwards
	} else if body, err = ReadBody(r, limit); err != nil {
		return err
	}
	if optional && len(body) == 0 {
		return nil
	}
	return DecodeJSON(body, v)
}

// ReadObject returns the bytes of a body that must be one JSON object, with the checks of
// ReadJSON. They belong to the caller.
func ReadObject(r *http.Request, limit int64) (json.RawMessage, error) {
	body, err := ReadBody(r, limit)
	if err != nil {
		return nil, err
	}
	return body, checkObject(body)
}

// DecodeJSON is ReadJSON for bytes in memory. v does not refer to them afterwards.
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
		// UnmarshalText of the identifiers returns such errors.
		return mxerr.BadJSON("%s", plainError(err)).Because(err)
	}
}

// plainError returns the text of an error without the words of package json.
func plainError(err error) string {
	var known *mxerr.Error
	if errors.As(err, &known) {
		return known.Message
	}
	return fmt.Sprintf("The body has a value that is not allowed: %v", err)
}

// checkObject checks that body is one well-formed JSON object.
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
