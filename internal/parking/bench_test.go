package parking_test

import (
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"stoa/internal/httpkit"
	"stoa/internal/parking"
)

// BenchmarkPark measures a long poll that is parked, woken and answered, with its client: of 512 connections 64 have their turn
// together.
func BenchmarkPark(b *testing.B) {
	const conns, together = 512, 64
	parked := make(chan *parking.Parked, together)
	answer := []byte(strings.Repeat("x", 1000))
	m, err := httpkit.NewMux(httpkit.Options{Instance: "bench"}, []httpkit.Route{{Method: "GET", Pattern: "/sync", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parking.Park(w, r, func(line *parking.Parked) {
			line.Wait(func(bool) { _ = line.Answer(answer) }) // the client sees what arrives
			parked <- line
		})
	})}})
	if err != nil {
		b.Fatal(err)
	}
	l, err := httpkit.Listen("127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := httpkit.NewServer(l, m, httpkit.ServerOptions{Log: slog.New(slog.DiscardHandler), Workers: parking.NewWorkerPool()})
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
		active := clients[done%conns:][:together]
		for _, c := range active {
			if _, err := c.Write(request); err != nil {
				b.Fatal(err)
			}
		}
		var lines [together]*parking.Parked
		for i := range lines {
			lines[i] = <-parked
		}
		for _, line := range lines {
			line.Wake()
		}
		for _, c := range active {
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
