package httpkit

import (
	"io"
	"log/slog"
	"net"
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

// BenchmarkPark measures a long poll that is parked, woken and answered, with its client: of 512 connections 64 have their turn
// together.
func BenchmarkPark(b *testing.B) {
	const conns, together = 512, 64
	parked := make(chan *Parked, together)
	answer := []byte(strings.Repeat("x", 1000))
	m, err := NewMux(Options{Instance: "bench"}, []Route{{Method: "GET", Pattern: "/sync", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		Park(w, r, func(line *Parked) {
			line.Wait(func(bool) { _ = line.Answer(answer) }) // the client sees what arrives
			parked <- line
		})
	})}})
	if err != nil {
		b.Fatal(err)
	}
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := NewServer(l, m, ServerOptions{Log: slog.New(slog.DiscardHandler), Workers: NewWorkers()})
	go func() { _ = server.Serve() }() // the requests see what comes of it
	var clients [conns]net.Conn
	for i := range clients {
		if clients[i], err = net.Dial("tcp", l.Addr().String()); err != nil {
			b.Fatal(err)
		}
		defer clients[i].Close()
	}
	request := []byte("GET /sync?timeout=30000&since=s1_2_3_4 HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer abcdefghijklmnopqrstuvwxyz\r\n\r\n")
	into := make([]byte, 4096)
	b.ReportAllocs()
	for done := 0; b.Loop(); done++ {
		if done%together != 0 {
			continue // it was done with the others
		}
		turn := clients[done%conns:][:together]
		for _, c := range turn {
			if _, err := c.Write(request); err != nil {
				b.Fatal(err)
			}
		}
		var lines [together]*Parked
		for i := range lines {
			lines[i] = <-parked
		}
		for _, line := range lines {
			line.Wake()
		}
		for _, c := range turn {
			for n := 0; n < len(answer); {
				got, err := c.Read(into)
				if err != nil {
					b.Fatal(err)
				}
				n += got
			}
		}
	}
}
