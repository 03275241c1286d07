package parking_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"stoa/internal/httpkit"
	"stoa/internal/parking"
	"stoa/matrix/mxerr"
)

// parkServer is a server whose /it parks if the query says so, and does what else it says.
type parkServer struct {
	testServer
	mu       sync.Mutex        // guards listener
	listener *parking.Listener // of the last parked request
}

func newParkServer(t *testing.T, times httpkit.Times) *parkServer {
	t.Helper()
	y := &parkServer{}
	mux, err := httpkit.NewMux(httpkit.Options{Instance: "here"}, []httpkit.Route{
		{Method: "GET", Pattern: "/it", Handler: http.HandlerFunc(y.it)},
		{Method: "POST", Pattern: "/it", Handler: httpkit.Adapt(func(r *http.Request) (httpkit.Raw, error) { return io.ReadAll(r.Body) })},
		{Method: "GET", Pattern: "/it/{more}", Handler: httpkit.Adapt(func(r *http.Request) (httpkit.Raw, error) { return httpkit.Raw(`"more"`), nil })},
	})
	if err != nil {
		t.Fatal(err)
	}
	y.testServer = startServer(t, mux, times)
	return y
}

func (y *parkServer) lastListener() *parking.Listener {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.listener
}

func (y *parkServer) it(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Query().Get("do") {
	case "park":
		if !parking.Park(w, r, func(line *parking.Parked) {
			y.mu.Lock()
			y.listener = line.Listener()
			y.mu.Unlock()
			_ = line.Answer([]byte(`"parked"`)) // the test sees what arrives
		}) {
			y.t.Error("could not park")
		}
	case "long":
		w.Header()["Content-Length"] = []string{strconv.Itoa(len(long))}
		_, _ = io.WriteString(w, long) // as above
	case "pieces":
		w.Header().Set("Content-Type", "text/plain")
		for range 3 {
			_, _ = io.WriteString(w, "piece ") // as above
		}
	case "status":
		w.WriteHeader(http.StatusTeapot)
	case "fail":
		httpkit.Fail(w, r, mxerr.Forbidden("You shall not"))
	case "fault":
		httpkit.Fail(w, r, errors.New("secret"))
	case "panic":
		panic("on purpose")
	case "late panic":
		_, _ = io.WriteString(w, "half an ans") // as above
		panic("on purpose")
	default:
		_, _ = io.WriteString(w, r.Host+r.URL.String()+r.Header.Get("X-Some")) // as above
	}
}

const parkingRequest = "GET /it?do=park HTTP/1.1\r\nHost: x\r\n\r\n"

// park parks a request and has it answered, so that the connection is parked.
func (y *parkServer) park(c net.Conn, r *bufio.Reader) {
	y.t.Helper()
	if _, err := io.WriteString(c, parkingRequest); err != nil {
		y.t.Fatal(err)
	}
	if got := answerText(r); !strings.HasSuffix(got, `"parked"`) {
		y.t.Fatalf("got %q", got)
	}
}

// answerText is an answer, to a GET if nothing is said, without what differs from one to the next.
func answerText(r *bufio.Reader, to ...*http.Request) string {
	res, err := http.ReadResponse(r, append(to, nil)[0])
	if err != nil {
		return "no answer"
	}
	body, err := io.ReadAll(res.Body)
	for _, name := range []string{"Date", "X-Request-Id"} {
		if res.Header.Get(name) != "" {
			res.Header.Set(name, "x")
		}
	}
	var text bytes.Buffer
	text.WriteString(res.Proto + " " + res.Status + "\r\n")
	_ = res.Header.Write(&text) // a buffer takes everything
	if i := bytes.Index(body, []byte("here-")); i >= 0 {
		body = body[:i] // the name of a fault
	}
	text.Write(body)
	if err != nil {
		text.WriteString(" and then an error")
	}
	if res.Close {
		text.WriteString(" and the end")
	}
	return text.String()
}

// TestConnectionAnswers: a request on a parked connection is answered as on a new one, wherever it is served.
func TestConnectionAnswers(t *testing.T) {
	t.Parallel()
	y := newParkServer(t, httpkit.DefaultTimes)
	get := func(target, more string) string { return "GET " + target + " HTTP/1.1\r\nHost: x\r\n" + more + "\r\n" }
	for name, test := range map[string]struct {
		request string
		here    bool // served on the parked connection
	}{
		"the same again":               {parkingRequest, true},
		"another query":                {get("/it?a=b", "X-Some: thing\r\n"), true},
		"no query":                     {get("/it", ""), true},
		"kept alive":                   {get("/it", "Connection: Keep-Alive\r\nAccept: */*\r\n"), true},
		"a long answer":                {get("/it?do=long", ""), true},
		"an answer in pieces":          {get("/it?do=pieces", ""), true},
		"a status":                     {get("/it?do=status", ""), true},
		"a failure":                    {get("/it?do=fail", ""), true},
		"a fault":                      {get("/it?do=fault", ""), true},
		"a panic":                      {get("/it?do=panic", ""), true},
		"a bad query":                  {get("/it?a=%zz", ""), true},
		"another path":                 {get("/it/more", ""), false},
		"a longer path":                {get("/items", ""), false},
		"a written-out path":           {get("/%69t", ""), false},
		"another method":               {"POST /it HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\ntrue", false},
		"a request for its head":       {"HEAD /it HTTP/1.1\r\nHost: x\r\n\r\n", false},
		"no such method":               {"get /it HTTP/1.1\r\nHost: x\r\n\r\n", false},
		"a body":                       {get("/it", "Content-Length: 2\r\n") + "{}", false},
		"a body to come":               {get("/it", "Content-Length: 0\r\n"), false},
		"a body in chunks":             {get("/it", "transfer-encoding: chunked\r\n") + "2\r\n{}\r\n0\r\n\r\n", false},
		"two lengths":                  {get("/it", "Content-Length: 0\r\nContent-Length: 2\r\n"), false},
		"an expectation":               {get("/it", "Expect: 100-continue\r\n"), false},
		"an upgrade":                   {get("/it", "Connection: upgrade\r\nUpgrade: h2c\r\n"), false},
		"the last":                     {get("/it", "Connection: close\r\n"), false},
		"an old version":               {"GET /it HTTP/1.0\r\nHost: x\r\n\r\n", false},
		"no version":                   {"GET /it\r\nHost: x\r\n\r\n", false},
		"a new version":                {"GET /it HTTP/2.0\r\nHost: x\r\n\r\n", false},
		"a whole address":              {get("http://x/it", ""), false},
		"a space in the path":          {get("/it a", ""), false},
		"a control character":          {get("/it?\x01", ""), false},
		"no host":                      {"GET /it HTTP/1.1\r\n\r\n", false},
		"two hosts":                    {get("/it", "Host: y\r\n"), false},
		"an odd host":                  {"GET /it HTTP/1.1\r\nHost: x/y\r\n\r\n", false},
		"an empty host":                {"GET /it HTTP/1.1\r\nHost:\r\n\r\n", false},
		"a line that goes on":          {get("/it", "X-Some: a\r\n b\r\n"), false},
		"a line without a colon":       {get("/it", "X-Some\r\n"), false},
		"a space before the colon":     {get("/it", "X-Some : a\r\n"), false},
		"a name that is none":          {get("/it", "X(Some): a\r\n"), false},
		"no name":                      {get("/it", ": a\r\n"), false},
		"a NUL":                        {get("/it", "X-Some: \x00\r\n"), false},
		"another letter":               {get("/it", "X-Some: ä\r\n"), false},
		"lines that end early":         {"GET /it HTTP/1.1\nHost: x\n\n", false},
		"a first line that ends early": {"GET /it HTTP/1.1\nHost: x\n\nGET /it/more HTTP/1.1\r\nHost: y\r\n\r\n", false},
		"half a line end":              {get("/it", "X-Some: a\nX-Other: b\r\n"), false},
		"a long header":                {get("/it", "X-Some: "+strings.Repeat("a", parking.MaxRequest)+"\r\n"), false},
		"too long a header":            {get("/it", "X-Some: "+strings.Repeat("a", 2*(64<<10))+"\r\n"), false},
		"nothing known":                {"\x16\x03\x01\r\n\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if len(test.request) <= parking.MaxRequest {
				if got := parking.IsServed(test.request, "/it"); got != test.here {
					t.Errorf("served on the parked connection: %v", got)
				}
			}
			c, r := y.dial()
			if _, err := io.WriteString(c, test.request); err != nil {
				t.Fatal(err)
			}
			var to *http.Request
			if strings.HasPrefix(test.request, "HEAD") {
				to = &http.Request{Method: http.MethodHead}
			}
			want := answerText(r, to)
			c, r = y.dial()
			for range 3 {
				y.park(c, r)
			}
			if _, err := io.WriteString(c, test.request); err != nil {
				t.Fatal(err)
			}
			if got := answerText(r, to); got != want {
				t.Errorf("got\n%.1000s\n\nand on a new connection\n%.1000s", got, want)
			} else if test.here {
				y.park(c, r) // the connection goes on
			}
		})
	}
}

func TestConnection(t *testing.T) {
	t.Parallel()
	t.Run("a client that asks the same again stays on it", func(t *testing.T) {
		t.Parallel()
		p := newPollServer(t)
		c, r := p.dial()
		var first, last *parking.Parked
		for i := range 5 {
			p.ask(c, "/park")
			line := <-p.parked
			line.Wake()
			p.want(r, `"later"`)
			if i == 0 {
				first = line
			} else if !line.SharesConnection(first) {
				t.Error("it was parked anew")
			}
			last = line
		}
		p.ask(c, "/now")
		p.want(r, `"now"`)
		if n := last.Listener().Watched(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
		_ = c.Close()
		p.drain()
	})
	t.Run("a client that asks and goes away is noticed", func(t *testing.T) {
		t.Parallel()
		p := newPollServer(t)
		for range 100 {
			c, r := p.dial()
			p.ask(c, "/park")
			(<-p.parked).Wake()
			p.want(r, `"later"`)
			p.ask(c, "/park")
			if err := c.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			<-p.parked
			<-p.gone
			_ = c.Close()
		}
		p.drain()
	})
	t.Run("what comes behind the longest header is answered too", func(t *testing.T) {
		t.Parallel()
		y := newParkServer(t, httpkit.DefaultTimes)
		c, r := y.dial()
		y.park(c, r)
		head, end := "GET /it?do=park HTTP/1.1\r\nHost: x\r\nX-Some: ", "\r\n\r\n"
		longest := head + strings.Repeat("a", parking.MaxRequest-len(head)-len(end)) + end
		if _, err := io.WriteString(c, longest+"GET /it HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{`"parked"`, "x/it"} {
			if got := answerText(r); !strings.HasSuffix(got, want) {
				t.Errorf("got %q", got)
			}
		}
		_ = c.Close()
		y.drain()
	})
	t.Run("half an answer closes the connection", func(t *testing.T) {
		t.Parallel()
		y := newParkServer(t, httpkit.DefaultTimes)
		c, r := y.dial()
		y.park(c, r)
		if _, err := io.WriteString(c, "GET /it?do=late+panic HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if got := answerText(r); got != "no answer" {
			t.Errorf("got %q", got)
		}
		y.drain()
	})
	t.Run("an idle connection is closed in time", func(t *testing.T) {
		t.Parallel()
		y := newParkServer(t, httpkit.Times{Header: time.Hour, Body: time.Hour, Answer: time.Hour, Idle: 2 * time.Second})
		c, r := y.dial()
		for range 3 {
			y.park(c, r)
		}
		began := time.Now()
		if _, err := r.ReadByte(); err != io.EOF || time.Since(began) < time.Second {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		y.drain()
	})
	t.Run("a drain closes idle connections, and those that ask meanwhile after their answers", func(t *testing.T) {
		t.Parallel()
		y := newParkServer(t, httpkit.DefaultTimes)
		var idle, asking []*bufio.Reader
		var conns []net.Conn
		for i := range 20 {
			c, r := y.dial()
			y.park(c, r)
			if i%2 == 0 {
				idle = append(idle, r)
			} else {
				asking, conns = append(asking, r), append(conns, c)
			}
		}
		y.server.WindDown()
		for i, c := range conns {
			if _, err := io.WriteString(c, "GET /it HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if got := answerText(asking[i]); !strings.HasSuffix(got, "x/it and the end") {
				t.Errorf("got %q", got)
			}
		}
		y.drain()
		for _, r := range append(idle, asking...) {
			if _, err := r.ReadByte(); err != io.EOF {
				t.Error(err)
			}
		}
	})
	t.Run("a request of another kind that comes while the server drains is answered", func(t *testing.T) {
		t.Parallel()
		y := newParkServer(t, httpkit.DefaultTimes)
		c, r := y.dial()
		y.park(c, r)
		open, _ := y.dial() // on which nothing is asked: the server waits for that
		drained := make(chan struct{})
		go func() {
			y.drain()
			close(drained)
		}()
		<-y.lastListener().Closed()
		if _, err := io.WriteString(c, "POST /it HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\ntrue"); err != nil {
			t.Fatal(err)
		}
		if got := answerText(r); !strings.HasSuffix(got, "true and the end") {
			t.Errorf("got %q", got)
		}
		_ = open.Close()
		<-drained
	})
	t.Run("clients that go away leave nothing behind", func(t *testing.T) {
		t.Parallel()
		y := newParkServer(t, httpkit.DefaultTimes)
		for range 200 {
			c, r := y.dial()
			y.park(c, r)
			if _, err := io.WriteString(c, parkingRequest); err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
		}
		y.drain() // waits for ever if a request is not ended, panics if one is twice
		if n := y.lastListener().Watched(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
}
