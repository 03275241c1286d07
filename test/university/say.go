package main

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// speaker is a connection for requests that are answered at once. It connects when
// it is first used, and again after an error.
type speaker struct {
	address string
	conn    net.Conn
	in, out []byte
}

// answerWithin bounds such an answer.
const answerWithin = 30 * time.Second

// errStatus is an answer other than a 200.
type errStatus struct {
	status int
	text   string
}

func (e *errStatus) Error() string { return fmt.Sprintf("%d %s", e.status, e.text) }

// do sends a request and wants a 200.
func (s *speaker) do(method, target, token string, body []byte) error {
	if s.conn == nil {
		c, err := net.Dial("tcp", s.address)
		if err != nil {
			return err
		}
		s.conn = c
	}
	err := s.exchange(method, target, token, body)
	var refused *errStatus
	if err != nil && !errors.As(err, &refused) {
		s.close()
	}
	return err
}

func (s *speaker) exchange(method, target, token string, body []byte) error {
	s.out = appendRequest(s.out[:0], method, target, token, body)
	if err := s.conn.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return err
	}
	if _, err := s.conn.Write(s.out); err != nil {
		return err
	}
	if s.in == nil {
		s.in = make([]byte, 8192)
	}
	for filled := 0; ; {
		n, err := s.conn.Read(s.in[filled:])
		if err != nil {
			return err
		}
		filled += n
		status, answer, length, last, err := parseAnswer(s.in[:filled])
		switch {
		case err != nil:
			return err
		case length == 0 && filled == len(s.in):
			return fmt.Errorf("%s %s: the answer is longer than %d bytes", method, target, filled)
		case length == 0:
			continue
		}
		if last {
			s.close()
		}
		if status != 200 {
			return &errStatus{status, string(answer)}
		}
		return nil
	}
}

func (s *speaker) close() {
	if s.conn != nil {
		_ = s.conn.Close() // nothing is under way on it
		s.conn = nil
	}
}

// repeat sends a request up to tries times.
func (s *speaker) repeat(method, target, token string, body []byte) (err error) {
	for range tries {
		if err = s.do(method, target, token, body); err == nil {
			break
		}
	}
	return err
}

// job is a request of somebody to say something.
type job struct {
	method, target, token string
	body                  []byte
	done                  func(error) // may be nil
}

// chorus are some connections that share jobs.
type chorus struct {
	jobs chan job
	g    sync.WaitGroup
}

// tries is how often a request is made that fails; the same transaction ID makes
// the same message.
const tries = 3

func newChorus(addresses []string, size, queue int) *chorus {
	c := &chorus{jobs: make(chan job, queue)}
	for i := range size {
		s := &speaker{address: addresses[i%len(addresses)]}
		c.g.Go(func() {
			defer s.close()
			for j := range c.jobs {
				err := s.repeat(j.method, j.target, j.token, j.body)
				if j.done != nil {
					j.done(err)
				}
			}
		})
	}
	return c
}

// end waits until all jobs are done.
func (c *chorus) end() {
	close(c.jobs)
	c.g.Wait()
}
