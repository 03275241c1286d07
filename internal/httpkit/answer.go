package httpkit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
)

// Adapt turns a function that takes a request and returns a value or an error into a
// handler.
//
// The value is written as JSON with status 200, unless it is one of Raw, Empty, Answer,
// Page, an Appender or an http.Handler (which writes its own answer). A value with a
// method HTTPStatus() int determines its status. The error becomes the spec's error body
// (see fail).
func Adapt[T any](f func(*http.Request) (T, error)) http.Handler { return adapted[T](f) }

type adapted[T any] func(*http.Request) (T, error)

func (f adapted[T]) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := exchangeOf(w, r)
	v, err := f(r)
	if err == nil {
		err = x.answer(http.StatusOK, v)
	}
	if err != nil {
		x.fail(err)
	}
}

// Raw is an answer in JSON.
type Raw []byte

// Empty is the answer {}.
type Empty struct{}

// Answer is a value with its own status (0 for 200) and headers. Without a Body no body
// is sent.
type Answer struct {
	Status int
	Header http.Header
	Body   any
}

// Page is an answer that is not JSON.
type Page struct {
	ContentType string
	Body        []byte
}

// Appender is an answer that encodes itself. AppendJSON appends to dst and must not
// retain it.
type Appender interface {
	AppendJSON(dst []byte) ([]byte, error)
}

// Statuser is an answer that determines its status.
type Statuser interface{ HTTPStatus() int }

var emptyObject = []byte("{}")

// answer writes v. After an error nothing was written yet.
func (x *exchange) answer(status int, v any) error {
	if s, ok := v.(Statuser); ok {
		status = s.HTTPStatus()
	}
	switch v := v.(type) {
	case Raw:
		x.write(status, jsonType, v)
	case Empty:
		x.write(status, jsonType, emptyObject)
	case Page:
		x.write(status, []string{v.ContentType}, v.Body)
	case Answer:
		h := x.w.Header()
		for name, values := range v.Header {
			h[name] = values
		}
		if v.Status != 0 {
			status = v.Status
		}
		if v.Body == nil {
			x.WriteHeader(status)
			return nil
		}
		return x.answer(status, v.Body)
	case http.Handler:
		v.ServeHTTP(x, x.r)
	case Appender:
		return x.appended(status, v)
	default:
		return x.encoded(status, v)
	}
	return nil
}

// maxPooled is the largest buffer that is reused.
const maxPooled = 64 << 10

var appendBuffers = sync.Pool{New: func() any { return new([]byte) }}

func (x *exchange) appended(status int, v Appender) error {
	buf := appendBuffers.Get().(*[]byte)
	out, err := v.AppendJSON((*buf)[:0])
	if err == nil {
		x.write(status, jsonType, out)
	}
	if cap(out) <= maxPooled {
		*buf = out
		appendBuffers.Put(buf)
	}
	return err
}

// jsonEncoder is an encoder with the buffer that it writes to.
type jsonEncoder struct {
	buf bytes.Buffer
	enc *json.Encoder
}

var encoders = sync.Pool{New: func() any {
	e := new(jsonEncoder)
	e.enc = json.NewEncoder(&e.buf)
	e.enc.SetEscapeHTML(false)
	return e
}}

func (x *exchange) encoded(status int, v any) error {
	e := encoders.Get().(*jsonEncoder)
	e.buf.Reset()
	err := e.enc.Encode(v)
	if err == nil {
		b := e.buf.Bytes()
		x.write(status, jsonType, b[:len(b)-1]) // without Encode's newline
	} else {
		err = fmt.Errorf("encode answer: %w", err)
	}
	if e.buf.Cap() <= maxPooled {
		encoders.Put(e)
	}
	return err
}

// write sends a whole answer. For short ones, net/http sets the length.
func (x *exchange) write(status int, contentType []string, body []byte) {
	h := x.w.Header()
	h["Content-Type"] = contentType
	if len(body) > 2000 {
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	x.answering(status)
	x.w.WriteHeader(status)
	// An error means that the client has disconnected.
	_, _ = x.Write(body)
}
