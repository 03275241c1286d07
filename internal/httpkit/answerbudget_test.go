package httpkit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"stoa/matrix/mxerr"
)

func TestAnswerBudget_leaves_room_for_others_and_wakes_those_who_wait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const mib = 1 << 20
		b := NewAnswerBudget(16 * mib)
		for range 4 {
			if err := b.Take(t.Context(), "eve", mib); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		var refused *mxerr.Error
		if err := b.Take(t.Context(), "eve", mib); !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable {
			t.Errorf("more than the share of one caller: %v", err)
		}
		if waited := time.Since(began); waited != answerWait {
			t.Errorf("it waited %v", waited)
		}
		if err := b.Take(t.Context(), "ann", mib); err != nil {
			t.Errorf("another caller: %v", err)
		}
		b.Add("ann", 11*mib) // her answer is larger than expected
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := b.Take(gone, "bob", mib); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller who hangs up: %v", err)
		}
		time.AfterFunc(time.Second, func() { b.Add("ann", -12*mib) })
		began = time.Now()
		if err := b.Take(t.Context(), "bob", mib); err != nil || time.Since(began) != time.Second {
			t.Errorf("memory that is free after a second: %v after %v", err, time.Since(began))
		}
		b.Add("bob", -mib)
		b.Add("eve", -4*mib)
		if b.inUse() != 0 || len(b.of) != 0 {
			t.Errorf("%d bytes remain, of %v", b.inUse(), b.of)
		}
	})
}

// Clients ask for many large answers and take nothing. The answers stay within the budget, a client that reads gets its
// own meanwhile, and the others lose their connections.
func TestLargeAnswers_of_slow_readers_stay_within_the_budget(t *testing.T) {
	t.Parallel()
	const size, budget = 12 << 20, 64 << 20 // more than the kernel buffers for a connection
	large := get("GET", "/large", func(*http.Request) (any, error) {
		return Page{ContentType: "text/plain", Body: make([]byte, size)}, nil
	})
	large.Token, large.Large = true, func(*http.Request) bool { return true }
	m, _ := testMux(t, Options{
		Answers: NewAnswerBudget(budget), Times: Times{Header: time.Second, Body: time.Second, Answer: time.Second, Idle: time.Second},
		Identify: func(r *http.Request) (string, error) { return r.Header.Get("Authorization"), nil },
	}, large)
	addr := serveMux(t, "127.0.0.1:0", DefaultTimes, m).Addr()
	ask := func(user string) string {
		return "GET /large HTTP/1.1\r\nHost: a\r\nAuthorization: " + user + "\r\n\r\n"
	}
	const slow = 20
	for i := range slow {
		sendFrom(t, "127.0.0.1", addr, ask(fmt.Sprint("eve", i%2)))
	}
	if status := askFrom(t, "127.0.0.1", addr, ask("ann")); status != http.StatusOK {
		t.Errorf("a client that reads got %d", status)
	}
	most := int64(0)
	for range 60_000 {
		most = max(most, m.answers.inUse())
		if m.answers.slow.Load()+m.answers.refused.Load() >= slow && m.answers.inUse() == 0 {
			break
		}
		time.Sleep(time.Millisecond) // a client that is cut off tells nobody
	}
	if used := m.answers.inUse(); used != 0 || m.answers.slow.Load() < 2 {
		t.Errorf("%d bytes remain, %d clients were cut off", used, m.answers.slow.Load())
	}
	// Each caller has four requests that expect largeAnswer, whose answers are larger.
	// The share of a caller is four requests, which expect 4 MiB each and then have 12.
	if most > 2*4*size+size {
		t.Errorf("answers took %d bytes", most)
	}
}
