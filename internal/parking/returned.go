package parking

import (
	"errors"
	"io"
	"net"
	"time"
)

// returnedConn is a connection that returned from parking to net/http. net/http takes it for a new one, whose first header has to
// come soon; but it is between requests, and may be idle for longer.
type returnedConn struct {
	net.Conn
	opt       *Options
	readAhead []byte // what was read of the next request
	idle      bool
	waited    bool // its last request waited for long
}

// NetConn returns the connection that was parked.
func (c *returnedConn) NetConn() net.Conn { return c.Conn }

// longAgo is later than the past deadlines by which net/http aborts a read.
var longAgo = time.Unix(1000, 0)

// SetReadDeadline implements net.Conn. While the connection is idle the idle timeout applies, whatever is asked.
func (c *returnedConn) SetReadDeadline(t time.Time) error {
	if c.idle && t.After(longAgo) {
		t = time.Now().Add(c.opt.Idle)
	}
	return c.Conn.SetReadDeadline(t)
}

// Read implements net.Conn. A request begins with its first byte.
func (c *returnedConn) Read(b []byte) (int, error) {
	if len(c.readAhead) > 0 {
		n := copy(b, c.readAhead)
		if c.readAhead = c.readAhead[n:]; len(c.readAhead) == 0 {
			c.readAhead = nil
		}
		return n, nil
	}
	n, err := c.Conn.Read(b)
	if c.idle && n > 0 {
		c.idle = false
		err = errors.Join(err, c.Conn.SetReadDeadline(time.Now().Add(c.opt.Header)))
	}
	return n, err
}

// ReadFrom implements io.ReaderFrom, so that files are sent without a copy.
func (c *returnedConn) ReadFrom(r io.Reader) (int64, error) {
	if to, ok := c.Conn.(io.ReaderFrom); ok {
		return to.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}

// CloseWrite closes the write side, so that a client can read the last answer before the connection is closed.
func (c *returnedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
