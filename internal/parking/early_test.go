package parking_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"stoa/internal/httpkit"
	"stoa/internal/parking"
)

// TestParkedIsWokenBeforeItWaits: a wake-up that comes first ends the wait that follows.
func TestParkedIsWokenBeforeItWaits(t *testing.T) {
	t.Parallel()
	mux, err := httpkit.NewMux(httpkit.Options{Instance: "here", Times: httpkit.DefaultTimes}, []httpkit.Route{
		{Method: "GET", Pattern: "/park", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ok := parking.Park(w, r, func(line *parking.Parked) {
				line.Wake()
				line.Wait(func(bool) { _ = line.Answer([]byte(`"later"`)) }) // the test sees what arrives
			})
			if !ok {
				t.Error("could not park")
			}
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	p := &pollServer{testServer: startServer(t, mux, httpkit.DefaultTimes)}
	c, r := p.dial()
	for range 3 { // the first comes from net/http, the others are served where they are
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		p.ask(c, "/park")
		p.want(r, `"later"`)
	}
	_ = c.Close()
	p.drain()
}

// TestDrainIsNotOverBeforeAParkedRequest: a drain ends with its context if a request is still parked then.
func TestDrainIsNotOverBeforeAParkedRequest(t *testing.T) {
	t.Parallel()
	p := newPollServer(t)
	c, _ := p.dial()
	p.ask(c, "/park")
	line := <-p.parked
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := p.server.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the drain gives %v", err)
	}
	line.Wake()
	if err := <-p.ended; err != nil {
		t.Error(err)
	}
}
