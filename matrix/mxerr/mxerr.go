// Package mxerr holds the errors that Matrix names: an errcode, an HTTP status and a text for people.
//
// It owns the list of errcodes of the specification, each with its usual status. It never writes an answer and never
// logs; the HTTP edges do that. The invariant: Message and Extra are public, Cause is not. Cause goes to the log and never
// into an answer.
//
// Spec: client-server-api#standard-error-response
package mxerr

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"
)

// Error is an error with an errcode.
type Error struct {
	// Status is the HTTP status.
	Status int
	// Code is the errcode.
	Code string
	// Message is the public text.
	Message string
	// RetryAfter is the time to wait before another try; 0 if none is given. M_LIMIT_EXCEEDED and TryAgain have one.
	RetryAfter time.Duration
	// Extra holds more public keys of the answer; nil if there are none.
	Extra map[string]any
	// Cause is what went wrong inside; nil if there is nothing more to say. It is for the log.
	Cause error
}

// New makes an error of any errcode.
func New(status int, code, format string, args ...any) *Error {
	message := format
	if len(args) > 0 {
		message = fmt.Sprintf(format, args...)
	}
	return &Error{Status: status, Code: code, Message: message}
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Code)
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	if e.Cause != nil {
		b.WriteString(" (" + e.Cause.Error() + ")")
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Because returns a copy with a cause, for the log.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.Cause = cause
	return &c
}

// With returns a copy with one more public key.
func (e *Error) With(key string, value any) *Error {
	c := *e
	c.Extra = maps.Clone(e.Extra)
	if c.Extra == nil {
		c.Extra = make(map[string]any, 1)
	}
	c.Extra[key] = value
	return &c
}

// WithStatus returns a copy with another HTTP status: the specification gives some errcodes a status per endpoint.
func (e *Error) WithStatus(status int) *Error {
	c := *e
	c.Status = status
	return &c
}

// MarshalJSON writes the body of the answer: errcode, error, retry_after_ms if there is one, and the extra keys.
//
// Spec: client-server-api#standard-error-response
func (e *Error) MarshalJSON() ([]byte, error) {
	body := make(map[string]any, 3+len(e.Extra))
	maps.Copy(body, e.Extra)
	body["errcode"] = e.Code
	body["error"] = e.Message
	if e.RetryAfter > 0 {
		body["retry_after_ms"] = (e.RetryAfter + time.Millisecond - 1).Milliseconds()
	}
	return json.Marshal(body)
}

// As returns the errcode error in a chain of errors.
func As(err error) (*Error, bool) {
	var e *Error
	ok := errors.As(err, &e)
	return e, ok
}

// Is says whether a chain of errors has an errcode.
func Is(err error, code string) bool {
	e, ok := As(err)
	return ok && e.Code == code
}
