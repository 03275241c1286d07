package httpkit

import (
	"net/http"
	"time"

	"stoa/internal/parking"
)

// parkedHead is the part of an answer's head after the status line that is the same for
// all parked requests.
func (m *Mux) parkedHead() string {
	head := "Access-Control-Allow-Headers: " + corsHeaders[0] + "\r\n" +
		"Access-Control-Allow-Methods: " + corsMethods[0] + "\r\n" +
		"Access-Control-Allow-Origin: " + corsOrigin[0] + "\r\n" +
		"Access-Control-Expose-Headers: " + corsExpose[0] + "\r\n" +
		"Content-Type: application/json\r\n"
	if m.instance != nil {
		head += "X-Stoa-Instance: " + m.instance[0] + "\r\n"
	}
	return head
}

// Park implements parking.Parkable. It counts the request as answered.
func (x *exchange) Park() parking.Responder {
	x.status = http.StatusOK
	return x.route
}

// Head implements parking.Responder.
func (r *mountedRoute) Head() string { return r.mux.parked }

// String implements parking.Responder.
func (r *mountedRoute) String() string { return r.Pattern }

// Error implements parking.Responder. The answer is that of fail.
func (r *mountedRoute) Error(err error, took time.Duration) (status int, head string, body []byte) {
	m := r.mux
	known := m.known(err)
	if known == nil {
		id := m.requestID.next()
		m.log.Error("request failed", "request_id", id, "route", r.Pattern, "took_ms", took.Milliseconds(), "err", err)
		head, known = "X-Request-Id: "+id+"\r\n", fault(id)
	}
	if body, err = known.MarshalJSON(); err != nil {
		m.log.Error("encode error body", "route", r.Pattern, "err", err)
		return 0, "", nil
	}
	if known.RetryAfter > 0 {
		head += "Retry-After: " + retryAfter(known) + "\r\n"
	}
	return known.Status, head, body
}
