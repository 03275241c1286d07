package httpkit

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestLull: leisurely requests begin when the instance keeps up, in order and in parts, and others at once.
func TestLull(t *testing.T) {
	t.Parallel()
	lull := &Lull{}
	began := make(chan string, 2*lullPart)
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { began <- r.URL.Path })
	m, err := NewMux(Options{Lull: lull}, []Route{
		{Method: "POST", Pattern: "/receipt", Handler: handler, Leisurely: true},
		{Method: "PUT", Pattern: "/message", Handler: handler},
	})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(ctx context.Context, method, path string) {
		m.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, method, path, nil))
	}
	ask(t.Context(), "POST", "/receipt")
	<-began
	lull.Tick(false)
	ask(t.Context(), "PUT", "/message")
	if path := <-began; path != "/message" {
		t.Errorf("%s did not wait", path)
	}

	gone, leave := context.WithCancel(t.Context())
	left := make(chan struct{})
	go func() {
		defer close(left)
		ask(gone, "POST", "/receipt")
	}()
	for lull.count() == 0 {
	}
	leave()
	<-left // the client has gone, and nobody waits for it
	<-began
	if n := lull.count(); n != 0 {
		t.Errorf("%d wait of whom none is there", n)
	}

	const many = lullPart + 1
	for range many {
		go ask(t.Context(), "POST", "/receipt")
	}
	for lull.count() < many {
	}
	lull.Tick(false)
	if n := lull.count(); n != many {
		t.Errorf("%d wait of %d while the instance does not keep up", n, many)
	}
	lull.Tick(true)
	for range lullPart {
		<-began
	}
	if n := lull.count(); n != 1 {
		t.Errorf("%d wait after the first part", n)
	}
	lull.Tick(true)
	<-began
	ask(t.Context(), "POST", "/receipt")
	<-began
}

// TestLullBound: of very many some don't wait.
func TestLullBound(t *testing.T) {
	t.Parallel()
	lull := &Lull{}
	lull.Tick(false)
	for range lullCrowd {
		if lull.enter() == nil {
			t.Fatal("somebody did not wait")
		}
	}
	if lull.enter() != nil {
		t.Error("one more waits")
	}
	lull.End()
	lull.Tick(false)
	if n := lull.count(); n > 0 || lull.enter() != nil {
		t.Errorf("%d wait at the end, or one more", n)
	}
}

func (l *Lull) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}
