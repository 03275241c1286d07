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
	statusGone    = 499 // the client disconnected before the answer was ready
	statusAborted = 599 // the handler failed after the answer had begun
)

// fail answers with err. An *mxerr.Error, or an error that Options.Translate maps to one,
// has its own status and errcode. Any other error is a fault: the client gets 500
// M_UNKNOWN with a request ID, and the log the error chain with the same ID.
//
// Spec: client-server-api#standard-error-response
func (x *exchange) fail(err error) {
	if x.status != 0 { // the handler failed after it had written an answer
		x.mux.log.Error("request failed after its answer began", "method", x.r.Method, "route", x.route.Pattern, "err", err)
		return
	}
	if known := x.mux.known(err); known != nil {
		x.logCause(known, err)
		x.writeError(known)
		return
	}
	if x.r.Context().Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		x.answering(statusGone) // only counted; the connection is closed
		x.w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	id := x.mux.requestID.next()
	x.mux.log.Error("request failed", "request_id", id, "method", x.r.Method, "route", x.route.Pattern,
		"took_ms", x.mux.clock().Sub(x.start).Milliseconds(), "err", err)
	x.writeFault(id)
}

// Fail answers a request with an error, for handlers that write their own answers.
func Fail(w http.ResponseWriter, r *http.Request, err error) { exchangeOf(w, r).fail(err) }

// known returns an error for clients, nil for a fault.
func (m *Mux) known(err error) *mxerr.Error {
	var known *mxerr.Error
	if !errors.As(err, &known) && m.translate != nil {
		known = m.translate(err)
	}
	return known
}

// logCause logs the cause of a refusal: as a warning if the server is at fault, otherwise
// at level debug. Overload is counted in the metrics and would only flood the log.
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

// fault is the error for clients after an unknown error.
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

// writeError writes the error body, and Retry-After if the time is known. The body of an
// error without an errcode has only its other keys (the flows of interactive
// authentication).
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
		x.fail(fmt.Errorf("encode error body: %w", err)) // a fault, whose body can always be encoded
		return
	}
	x.write(e.Status, jsonType, text)
}
