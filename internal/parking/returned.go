package parking

import (
	"errors"
	"io"
	"net"
	"time"
)

// returnedConn is a connection that was parked and that net/http serves again. net/http takes it for a new one, on which the header
// of a request has to come soon; but it is one between requests, which may be idle for longer.
type returnedConn struct {
	net.Conn
	opt    *Options
	early  []byte // what was read of the next request
	idle   bool
	waited bool // its last request waited for long
}

// longAgo is later than any time by which net/http ends a read.
var longAgo = time.Unix(1000, 0)

// SetReadDeadline implements net.Conn. While the connection is idle its deadline is that of idle ones, whatever is asked.
func (c *returnedConn) SetReadDeadline(t time.Time) error {
	if c.idle && t.After(longAgo) {
		t = time.Now().Add(c.opt.Idle)
	}
	return c.Conn.SetReadDeadline(t)
}

// Read implements net.Conn. With its first byte a request begins.
func (c *returnedConn) Read(b []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(b, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
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

// CloseWrite ends what is written, by which net/http has a client read the last answer before the connection is closed.
func (c *returnedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
