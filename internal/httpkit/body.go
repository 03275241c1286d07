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

// openBody is the limit of a body of a request that needs no token: a password of 512 characters with all that
// belongs to a login, or a form, takes a few KiB.
const openBody = 64 << 10

// firstPiece is how much memory a body gets before its first byte has arrived; it is pooled.
const firstPiece = 4 << 10

// growth is by how much the memory of a body grows when it is full.
const growth = 4

// wholeBody is the body of a request that has arrived. A Mux reads it before its handler is called, so that a request
// takes none of what is scarce while its client sends.
type wholeBody struct {
	text   []byte
	read   int // of text, by Read
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

// take gives the text to the caller.
func (b *wholeBody) take() []byte {
	text := b.text[b.read:]
	if b.pooled != nil {
		text = bytes.Clone(text)
	}
	b.read = len(b.text)
	return text
}

// arrive reads the body of a request within the limit. Its memory grows as it comes, and is counted before it is taken;
// what is counted is in x.bytes, also after an error.
func (x *exchange) arrive(limit, own int64) error {
	r, b := x.r, &x.whole
	if r.ContentLength > limit {
		x.w.Header()["Connection"] = closeConnection // net/http would read the rest of the body first
		return tooLarge(limit)
	}
	most := limit + 1 // one more, to see whether there is more
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
				break // net/http gives exactly that many bytes, or an error
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

// giveBack ends the use of pooled memory.
func (b *wholeBody) giveBack() {
	if b.pooled != nil {
		firstPieces.Put(b.pooled)
		b.pooled = nil
	}
}

// ReadBody gives the whole body, which is the caller's. More than limit bytes
// is 413 M_TOO_LARGE, before reading where the length is declared.
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

// brokenBody is the answer to a body that did not arrive whole.
func brokenBody(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return mxerr.NotJSON("The request's body did not arrive in time").WithStatus(http.StatusRequestTimeout).Because(err)
	}
	return mxerr.NotJSON("The request's body ended early").Because(err)
}

// ReadJSON reads a body that must be one JSON object into v, a pointer to a
// struct or map, as encoding/json does. Not JSON is M_NOT_JSON; another type
// than an object, a member of the wrong type, a key that stands twice, and too
// deep nesting are M_BAD_JSON; more than MaxBody is M_TOO_LARGE. The content
// type is not looked at, since many clients send none.
func ReadJSON(r *http.Request, v any) error { return decodeBody(r, v, MaxBody, false) }

// ReadJSONLimit is ReadJSON with a limit in bytes of its own.
func ReadJSONLimit(r *http.Request, v any, limit int64) error { return decodeBody(r, v, limit, false) }

// ReadOptionalJSON is ReadJSON for endpoints whose body clients leave out: no
// body is read as {}.
func ReadOptionalJSON(r *http.Request, v any) error { return decodeBody(r, v, MaxBody, true) }

func decodeBody(r *http.Request, v any, limit int64, optional bool) error {
	var body []byte
	var err error
	if whole, ok := r.Body.(*wholeBody); ok && int64(len(whole.text)) <= limit {
		body = whole.text[whole.read:] // nothing in v refers to it after
	} else if body, err = ReadBody(r, limit); err != nil {
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
