package httpkit

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"stoa/matrix/mxerr"
)

// sendFrom sends bytes on a connection from an address of this machine. It stays open until the test ends.
func sendFrom(t *testing.T, address string, to net.Addr, request string) net.Conn {
	t.Helper()
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	c, err := from.DialContext(t.Context(), to.Network(), to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, request); err != nil && !strings.Contains(err.Error(), "reset") && !strings.Contains(err.Error(), "broken pipe") {
		t.Fatal(err)
	}
	return c
}

// askFrom is sendFrom for a whole request. It gives the status.
func askFrom(t *testing.T, address string, to net.Addr, request string) int {
	t.Helper()
	c := sendFrom(t, address, to, request)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode
}

func post(path, token string, length int, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n%s", path, token, length, body)
}

// settled waits until n requests have either a holder or a refusal.
func settled(t *testing.T, m *Mux, n uint64) {
	t.Helper()
	a := &m.admission
	for range 10_000 {
		var count uint64
		a.mu.Lock()
		for _, h := range a.holders {
			if h.bytes > 0 {
				count += uint64(h.users)
			}
		}
		a.mu.Unlock()
		for why := range a.refused {
			count += a.refused[why].Load()
		}
		if count >= n {
			return
		}
		time.Sleep(time.Millisecond) // a request that waits for its body tells nobody
	}
	t.Fatal("the requests never arrived")
}

// attacked is a server with the routes of these tests, and small bounds.
func attacked(t *testing.T, opt Options) (*Mux, net.Addr) {
	t.Helper()
	opt.Identify = func(r *http.Request) (string, error) {
		if token := r.Header.Get("Authorization"); token != "" {
			return token, nil
		}
		return "", mxerr.MissingToken()
	}
	read := func(r *http.Request) (any, error) {
		_, err := ReadBody(r, MaxBody)
		return Empty{}, err
	}
	closed, probe := get("POST", "/closed", read), get("GET", "/probe", read)
	closed.Token, probe.Limit = true, LimitProbe
	m, _ := testMux(t, opt, get("POST", "/open", read), get("GET", "/", read), closed, probe)
	return m, serveMux(t, "127.0.0.1:0", DefaultTimes, m).Addr()
}

func TestHalfRequests_take_no_slot(t *testing.T) {
	t.Parallel()
	m, addr := attacked(t, Options{InFlight: map[Limit]int{LimitPlain: 4}})
	for i := range 200 {
		sendFrom(t, "127.0.0.1", addr, post([]string{"/open", "/closed"}[i%2], "eve", 100, "{"))
	}
	sendFrom(t, "127.0.0.1", addr, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{")
	settled(t, m, 201)
	for _, request := range []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /probe HTTP/1.1\r\nHost: a\r\n\r\n", post("/open", "", 2, "{}"), post("/closed", "ann", 2, "{}")} {
		if status := askFrom(t, "127.0.0.1", addr, request); status != 200 {
			t.Errorf("%q was answered with %d", request, status)
		}
	}
}

func TestBodies_are_bounded_in_bytes(t *testing.T) {
	t.Parallel()
	const budget = 2 << 20
	m, addr := attacked(t, Options{Bodies: budget})
	half := strings.Repeat("x", 60_000)
	for i := range 200 {
		sendFrom(t, fmt.Sprintf("127.0.0.%d", 10+i%8), addr, post("/open", "", 60_001, half))
	}
	settled(t, m, 200)
	if used := m.admission.inUse(); used > budget*9/10 || used < budget/2 {
		t.Errorf("bodies under way hold %d of %d bytes", used, budget)
	}
	if status := askFrom(t, "127.0.0.1", addr, post("/open", "", 60_000, half)); status != 200 {
		t.Errorf("a newcomer without a token got %d", status)
	}
	if status := askFrom(t, "127.0.0.10", addr, post("/closed", "ann", 60_000, half)); status != 200 {
		t.Errorf("somebody with a token on the address of an attacker got %d", status)
	}
}

func TestOneHolder_has_a_share_of_the_bodies(t *testing.T) {
	t.Parallel()
	m, addr := attacked(t, Options{})
	half := strings.Repeat("x", 60_000)
	for range 100 {
		sendFrom(t, "127.0.0.1", addr, post("/open", "", 60_001, half))
	}
	settled(t, m, 100)
	if used := m.admission.inUse(); used > addressBodies {
		t.Errorf("one address holds %d bytes", used)
	}
	if m.admission.refused[refusedOwnBodies].Load() == 0 {
		t.Error("nothing was refused")
	}
	if status := askFrom(t, "127.0.0.1", addr, post("/open", "", 60_000, half)); status != 429 {
		t.Errorf("one more got %d", status)
	}
}

func TestMemoryOfBodies_is_taken_as_bytes_arrive(t *testing.T) {
	t.Parallel()
	m, addr := attacked(t, Options{})
	for range 20 {
		sendFrom(t, "127.0.0.1", addr, post("/closed", "eve", MaxBody, "{"))
	}
	settled(t, m, 20)
	if used := m.admission.inUse(); used > 20*(firstPiece+requestBytes) {
		t.Errorf("20 bodies of one byte each hold %d bytes", used)
	}
}

func TestToken_is_asked_for_before_the_body(t *testing.T) {
	t.Parallel()
	_, addr := attacked(t, Options{})
	if status := askFrom(t, "127.0.0.1", addr, "POST /closed HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 100000\r\n\r\n"); status != 401 {
		t.Errorf("without a token and a body: %d", status)
	}
	if status := askFrom(t, "127.0.0.1", addr, post("/open", "", openBody+1, "")); status != 413 {
		t.Errorf("a large body without a token: %d", status)
	}
}

func TestShare_bounds_the_slots_of_one_holder(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	slow := Route{Method: "GET", Pattern: "/", Limit: LimitRegister, Handler: Adapt(func(*http.Request) (any, error) {
		entered <- struct{}{}
		<-leave
		return Empty{}, nil
	})}
	m, _ := testMux(t, Options{Share: true}, slow)
	addr := serveMux(t, "127.0.0.1:0", DefaultTimes, m).Addr()
	for range defaultShare[LimitRegister] {
		sendFrom(t, "127.0.0.1", addr, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		<-entered
	}
	if status := askFrom(t, "127.0.0.1", addr, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); status != 429 {
		t.Errorf("one more from the same address: %d", status)
	}
	sendFrom(t, "127.0.0.2", addr, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-entered // another address is served
	close(leave)
}

func TestHolders_are_forgotten(t *testing.T) {
	t.Parallel()
	m, addr := attacked(t, Options{Share: true})
	for i := range 50 {
		if status := askFrom(t, fmt.Sprintf("127.0.0.%d", 10+i), addr, post("/open", "", 2, "{}")); status != 200 {
			t.Fatal(status)
		}
	}
	for range 10_000 {
		m.admission.mu.Lock()
		n := len(m.admission.holders)
		m.admission.mu.Unlock()
		if n == 0 && m.admission.inUse() == 0 {
			return
		}
		time.Sleep(time.Millisecond) // an exchange ends after its answer
	}
	t.Error("holders or bytes are left when nothing is under way")
}
