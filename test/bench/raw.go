package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
)

// conn is an HTTP/1.1 client of the least cost: one socket, requests written
// as bytes, answers read by length. It exists so that the load takes little of
// the two cores that it shares with the server; net/http's client takes as
// much as the server does.
type conn struct {
	net.Conn
	in     *bufio.Reader
	out    []byte
	header string // a line that all requests have; "" = none
	home   string // X-Stoa-Home of the last answer
}

func dial(addr string, readBuffer int) (*conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, in: bufio.NewReaderSize(c, readBuffer)}, nil
}

// write sends one request. The body may be nil.
func (c *conn) write(method, target, token string, body []byte) error {
	out := append(c.out[:0], method...)
	out = append(out, ' ')
	out = append(out, target...)
	out = append(out, " HTTP/1.1\r\nHost: bench\r\n"...)
	if token != "" {
		out = append(out, "Authorization: Bearer "...)
		out = append(out, token...)
		out = append(out, "\r\n"...)
	}
	if c.header != "" {
		out = append(out, c.header...)
		out = append(out, "\r\n"...)
	}
	if body != nil {
		out = append(out, "Content-Type: application/json\r\nContent-Length: "...)
		out = strconv.AppendInt(out, int64(len(body)), 10)
		out = append(out, "\r\n"...)
	}
	out = append(out, "\r\n"...)
	out = append(out, body...)
	c.out = out
	_, err := c.Conn.Write(out)
	return err
}

// read takes one answer; body is valid until the next call with the same buf.
func (c *conn) read(buf []byte) (status int, body []byte, err error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 12 {
		return 0, nil, fmt.Errorf("not an HTTP answer: %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, nil, fmt.Errorf("not an HTTP answer: %q", line)
	}
	length, chunked := 0, false
	for {
		if line, err = c.in.ReadSlice('\n'); err != nil {
			return 0, nil, err
		}
		if len(line) <= 2 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, nil, err
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = bytes.EqualFold(value, []byte("chunked"))
		case bytes.EqualFold(name, []byte("X-Stoa-Home")) && string(value) != c.home:
			c.home = string(value)
		}
	}
	if chunked {
		body, err = c.readChunks(buf[:0])
		return status, body, err
	}
	if cap(buf) < length {
		buf = make([]byte, length)
	}
	_, err = io.ReadFull(c.in, buf[:length])
	return status, buf[:length], err
}

func (c *conn) readChunks(buf []byte) ([]byte, error) {
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		n, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 16, 32)
		if err != nil {
			return nil, err
		}
		start := len(buf)
		buf = append(buf, make([]byte, n)...)
		if _, err := io.ReadFull(c.in, buf[start:]); err != nil {
			return nil, err
		}
		if line, err = c.in.ReadSlice('\n'); err != nil || len(line) != 2 {
			return nil, errors.Join(err, errors.New("chunk without end"))
		}
		if n == 0 {
			return buf, nil
		}
	}
}

// do sends a request and wants a 200.
func (c *conn) do(method, target, token string, body, buf []byte) ([]byte, error) {
	if err := c.write(method, target, token, body); err != nil {
		return nil, err
	}
	status, answer, err := c.read(buf)
	if err != nil {
		return nil, err
	}
	if status != 200 {
		return nil, fmt.Errorf("%s %s: %d %s", method, target, status, answer)
	}
	return answer, nil
}

// field cuts a string member out of a JSON object that the server wrote; the
// values looked for here hold no escapes.
func field(body []byte, name string) string {
	key := []byte(`"` + name + `":"`)
	i := bytes.Index(body, key)
	if i < 0 {
		return ""
	}
	rest := body[i+len(key):]
	j := bytes.IndexByte(rest, '"')
	if j < 0 {
		return ""
	}
	return string(rest[:j])
}
