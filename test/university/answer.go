package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// errNotHTTP says that what came is no answer of a Matrix server.
var errNotHTTP = errors.New("not an HTTP answer")

// parseAnswer looks for a whole answer at the beginning of b. It is length bytes
// long, 0 if it is not complete yet. The body is a part of b, or a copy if it came
// in chunks. last says that the connection ends with it.
func parseAnswer(b []byte) (status int, body []byte, length int, last bool, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return 0, nil, 0, false, nil
	}
	head := b[:end]
	line, rest, _ := bytes.Cut(head, []byte("\r\n"))
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return 0, nil, 0, false, fmt.Errorf("%w: %q", errNotHTTP, line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, nil, 0, false, fmt.Errorf("%w: %q", errNotHTTP, line)
	}
	size, chunked := 0, false
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if size, err = strconv.Atoi(string(value)); err != nil {
				return 0, nil, 0, false, fmt.Errorf("%w: %q", errNotHTTP, line)
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = bytes.EqualFold(value, []byte("chunked"))
		case bytes.EqualFold(name, []byte("Connection")):
			last = bytes.EqualFold(value, []byte("close"))
		}
	}
	begin := end + 4
	if chunked {
		body, length, err = joinChunks(b, begin)
		return status, body, length, last, err
	}
	if len(b) < begin+size {
		return 0, nil, 0, false, nil
	}
	return status, b[begin : begin+size], begin + size, last, nil
}

// joinChunks puts a body together that begins at a place of b.
func joinChunks(b []byte, at int) (body []byte, length int, err error) {
	for {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return nil, 0, nil
		}
		n, err := strconv.ParseInt(string(bytes.TrimSpace(b[at:at+i])), 16, 32)
		if err != nil {
			return nil, 0, fmt.Errorf("%w: %w", errNotHTTP, err)
		}
		at += i + 1
		if len(b) < at+int(n)+2 {
			return nil, 0, nil
		}
		body = append(body, b[at:at+int(n)]...)
		at += int(n) + 2
		if n == 0 {
			return body, at, nil
		}
	}
}

// appendRequest appends a request. The body may be nil.
func appendRequest(out []byte, method, target, token string, body []byte) []byte {
	out = append(out, method...)
	out = append(out, ' ')
	out = append(out, target...)
	out = append(out, " HTTP/1.1\r\nHost: "+serverName+"\r\nAuthorization: Bearer "...)
	out = append(out, token...)
	if body != nil {
		out = append(out, "\r\nContent-Type: application/json\r\nContent-Length: "...)
		out = strconv.AppendInt(out, int64(len(body)), 10)
	}
	out = append(out, "\r\n\r\n"...)
	return append(out, body...)
}

// field cuts a string member out of a JSON object that the server wrote; the
// values looked for hold no escapes.
func field(body []byte, key string) []byte {
	i := bytes.Index(body, []byte(key))
	if i < 0 {
		return nil
	}
	rest := body[i+len(key):]
	j := bytes.IndexByte(rest, '"')
	if j < 0 {
		return nil
	}
	return rest[:j]
}

// Keys as field looks for them.
const (
	keyNextBatch = `"next_batch":"`
	keyFilterID  = `"filter_id":"`
	keyEventID   = `"event_id":"`
)

// stamp marks a message of the run, and is followed by when it was due (ns since
// 1970) and the room's place in the plan, so that who sees it knows its age.
const stamp = "university "

func message(due int64, room int) []byte { return pad(appendStamp(nil, due, room)) }

// numberedMessage is one of a sender whose messages are numbered from 0 on, so that a device knows which it has not seen.
func numberedMessage(due int64, room, sender, number int) []byte {
	m := append(strconv.AppendInt(appendStamp(nil, due, room), int64(sender), 10), ' ')
	return pad(append(strconv.AppendInt(m, int64(number), 10), ' '))
}

// senderNumber reads what follows the stamp of a numbered message.
func senderNumber(rest []byte) (sender, number int, ok bool) {
	first, rest, _ := bytes.Cut(rest, []byte(" "))
	second, _, _ := bytes.Cut(rest, []byte(" "))
	sender, err1 := strconv.Atoi(string(first))
	number, err2 := strconv.Atoi(string(second))
	return sender, number, err1 == nil && err2 == nil
}

func appendStamp(m []byte, due int64, room int) []byte {
	m = append(append(m, `{"body":"`+stamp...), strconv.FormatInt(due, 10)...)
	m = strconv.AppendInt(append(m, ' '), int64(room), 10)
	return append(m, ' ')
}

// pad ends a message, which has a usual length.
func pad(m []byte) []byte {
	for len(m) < 150 {
		m = append(m, 'x')
	}
	return append(m, `","msgtype":"m.text"}`...)
}

// eachStamp calls seen for each message of the run in an answer; rest is what
// follows the stamp.
func eachStamp(body []byte, seen func(due int64, room int, rest []byte)) {
	for {
		i := bytes.Index(body, []byte(stamp))
		if i < 0 {
			return
		}
		body = body[i+len(stamp):]
		first, rest, ok1 := bytes.Cut(body, []byte(" "))
		second, rest, ok2 := bytes.Cut(rest, []byte(" "))
		if !ok1 || !ok2 || len(first) > 20 || len(second) > 20 {
			continue
		}
		due, err1 := strconv.ParseInt(string(first), 10, 64)
		room, err2 := strconv.Atoi(string(second))
		if err1 == nil && err2 == nil {
			seen(due, room, rest)
			body = rest
		}
	}
}
