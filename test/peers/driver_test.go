package peers

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"stoa/test/kit"
)

// answerWithin bounds one call; the driver's own waits end after 60 s.
const answerWithin = 90 * time.Second

// driver is a program of ours in a process of its own that drives one client library. Requests and answers are lines
// of JSON on its standard input and output.
type driver struct {
	t     *testing.T
	name  string
	in    io.WriteCloser
	log   kit.Output
	mu    sync.Mutex // guards next and calls
	next  int
	calls map[int]chan answer
}

type answer struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  string          `json:"error"`
}

func newDriver(t *testing.T, name string, cmd *exec.Cmd) *driver {
	t.Helper()
	c := &driver{t: t, name: name, calls: map[int]chan answer{}}
	cmd.Stderr = &c.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if c.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		c.read(out)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill() // it may be gone already, which is as good
		<-read
		cmd.Wait()
		if t.Failed() {
			t.Logf("the log of %s:\n%s", name, lastOf(c.log.String(), 20000))
		}
	})
	return c
}

func lastOf(s string, n int) string { return s[max(0, len(s)-n):] }

func (c *driver) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var a answer
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			fmt.Fprintf(&c.log, "not an answer: %s\n", lines.Text())
			continue
		}
		c.mu.Lock()
		call := c.calls[a.ID]
		delete(c.calls, a.ID)
		c.mu.Unlock()
		if call != nil {
			call <- a
		}
	}
}

// begin calls a method of the driver; the channel gives its answer.
func (c *driver) begin(method string, args map[string]any) <-chan answer {
	c.t.Helper()
	call := make(chan answer, 1)
	c.mu.Lock()
	c.next++
	n := c.next
	c.calls[n] = call
	c.mu.Unlock()
	line, err := json.Marshal(map[string]any{"id": n, "method": method, "args": args})
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		c.t.Fatalf("%s.%s: %v\n%s", c.name, method, err, lastOf(c.log.String(), 4000))
	}
	return call
}

func (c *driver) end(method string, call <-chan answer, result any) {
	c.t.Helper()
	select {
	case a := <-call:
		if a.Error != "" {
			c.t.Fatalf("%s.%s: %s", c.name, method, a.Error)
		}
		if result != nil {
			if err := json.Unmarshal(a.Result, result); err != nil {
				c.t.Fatalf("%s.%s: %v in %s", c.name, method, err, a.Result)
			}
		}
	case <-time.After(answerWithin):
		c.t.Fatalf("%s.%s gave no answer within %v", c.name, method, answerWithin)
	}
}

func (c *driver) call(method string, args map[string]any, result any) {
	c.t.Helper()
	c.end(method, c.begin(method, args), result)
}
