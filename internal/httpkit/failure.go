package httpkit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"stoa/matrix/mxerr"
)

// Statuses that are counted but never sent.
const (
	statusGone    = 499 // the client went away before its answer was ready
	statusAborted = 599 // the handler broke off after the answer had begun
)

// fail answers with err: an *mxerr.Error as its own status and errcode, what
// Options.Translate knows as that, and anything else as a fault: 500 M_UNKNOWN
// with a request id outside, and the whole chain with the same id in the log.
//
// Spec: client-server-api#standard-error-response
func (x *exchange) fail(err error) {
	if x.status != 0 { // the handler wrote an answer and failed after it
		x.mux.log.Error("request failed after its answer began", "method", x.r.Method, "route", x.route.Pattern, "err", err)
		return
	}
	if known := x.mux.known(err); known != nil {
		x.logCause(known, err)
		x.writeError(known)
		return
	}
	if x.r.Context().Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		x.answering(statusGone) // counted; the connection is closed already
		x.w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	id := x.mux.requestID.next()
	x.mux.log.Error("request failed", "request_id", id, "method", x.r.Method, "route", x.route.Pattern,
		"took_ms", x.mux.clock().Sub(x.start).Milliseconds(), "err", err)
	x.writeFault(id)
}

// Fail answers a request with an error, for handlers that write their answers themselves.
func Fail(w http.ResponseWriter, r *http.Request, err error) { exchangeOf(w, r).fail(err) }

// known is an error as clients are told of it, nil for a fault.
func (m *Mux) known(err error) *mxerr.Error {
	var known *mxerr.Error
	if !errors.As(err, &known) && m.translate != nil {
		known = m.translate(err)
	}
	return known
}

// logCause keeps the cause of a refusal for whoever asks why: a warning when
// the server is at fault, else visible at level debug. Overload is counted by
// the metrics and would only flood the log.
func (x *exchange) logCause(known *mxerr.Error, err error) {
	level := slog.LevelDebug
	if known.Status >= 500 && known.Code != mxerr.CodeLimitExceeded {
		level = slog.LevelWarn
	}
	if log := x.mux.log; log.Enabled(x.r.Context(), level) {
		log.Log(x.r.Context(), level, "request refused", "method", x.r.Method, "route", x.route.Pattern,
			"status", known.Status, "errcode", known.Code, "err", err, "cause", known.Cause)
	}
}

func (x *exchange) writeFault(id string) {
	x.w.Header()["X-Request-Id"] = []string{id}
	x.writeError(fault(id))
}

// fault is what clients are told of an error that is not known.
func fault(id string) *mxerr.Error {
	return &mxerr.Error{
		Status:  http.StatusInternalServerError,
		Code:    mxerr.CodeUnknown,
		Message: "The server failed to answer this request. Its log says why under request id " + id,
	}
}

// retryAfter is the value of the header Retry-After, in seconds.
func retryAfter(e *mxerr.Error) string {
	return strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10)
}

// writeError writes the error body, and Retry-After where the time is known. An
// error without an errcode is only what it carries besides (the flows of
// interactive authentication).
func (x *exchange) writeError(e *mxerr.Error) {
	if e.RetryAfter > 0 {
		x.w.Header()["Retry-After"] = []string{retryAfter(e)}
	}
	var text []byte
	var err error
	if e.Code != "" {
		text, err = e.MarshalJSON()
	} else {
		text, err = json.Marshal(e.Extra)
	}
	if err != nil {
		x.fail(fmt.Errorf("encode error body: %w", err)) // a fault, whose body always encodes
		return
	}
	x.write(e.Status, jsonType, text)
}
