package httpkit

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// discard is a ResponseWriter that costs next to nothing.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

// BenchmarkMux measures what the package adds to a request: routing, headers,
// reading a body, writing an answer and counting.
func BenchmarkMux(b *testing.B) {
	m, err := NewMux(Options{Instance: "bench"}, []Route{{
		Method: "PUT", Pattern: "/_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}",
		Handler: Adapt(func(r *http.Request) (greeting, error) {
			if _, err := ReadObject(r, MaxBody); err != nil {
				return greeting{}, err
			}
			return greeting{r.PathValue("txnId")}, nil
		}),
	}})
	if err != nil {
		b.Fatal(err)
	}
	const body = `{"msgtype":"m.text","body":"hello, this is an ordinary message of some length"}`
	r := httptest.NewRequest("PUT", "/_matrix/client/v3/rooms/!abcdefghijkl:example.org/send/m.room.message/txn1", nil)
	r.ContentLength = int64(len(body))
	w := &discard{h: http.Header{}}
	text := strings.NewReader(body)
	b.ReportAllocs()
	for b.Loop() {
		text.Reset(body)
		r.Body = io.NopCloser(text)
		m.ServeHTTP(w, r)
	}
}
