package parking

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"sync"
)

// maxRequest bounds the header of a request that is served on a parked connection.
const maxRequest = 4 << 10

// requestParser holds the buffers for parsing a request.
type requestParser struct {
	raw    [maxRequest]byte
	source bytes.Reader
	reader *bufio.Reader
}

var requestParsers = sync.Pool{New: func() any { return &requestParser{reader: bufio.NewReaderSize(nil, maxRequest)} }}

var headEnd = []byte("\r\n\r\n")

// parse parses a request that is complete and plainly a GET of a path; nil if it is anything else. The rest goes to net/http, so
// parse accepts only what net/http would certainly accept the same way.
func (o *requestParser) parse(raw []byte, path string) *http.Request {
	rest, isGet := bytes.CutPrefix(raw, []byte("GET "))
	if !isGet || len(rest) <= len(path) || string(rest[:len(path)]) != path || rest[len(path)] != ' ' && rest[len(path)] != '?' ||
		bytes.Index(raw, headEnd) != len(raw)-len(headEnd) {
		return nil
	}
	line, lines, _ := bytes.Cut(raw[:len(raw)-len("\r\n")], []byte("\r\n"))
	if !bytes.HasSuffix(line, []byte(" HTTP/1.1")) || !isPrintable(line) || !isPlainHead(lines) {
		return nil
	}
	o.source.Reset(raw)
	o.reader.Reset(&o.source)
	r, err := http.ReadRequest(o.reader)
	if err != nil || r.URL.Path != path || r.URL.Host != "" || r.ContentLength != 0 || r.Close {
		return nil
	}
	return r
}

// isPlainHead reports whether header lines are well formed, name the host once, and do not concern a body or the connection.
func isPlainHead(lines []byte) bool {
	hosts := 0
	for len(lines) > 0 {
		line, rest, _ := bytes.Cut(lines, []byte("\r\n"))
		lines = rest
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || len(name) == 0 {
			return false
		}
		for _, c := range name {
			if c != '-' && !('a' <= c && c <= 'z') && !('A' <= c && c <= 'Z') && !('0' <= c && c <= '9') {
				return false
			}
		}
		if !isPrintable(value) {
			return false
		}
		value = bytes.TrimSpace(value)
		switch {
		case is(name, "Host"):
			hosts++
			if !isPlainHost(value) {
				return false
			}
		case is(name, "Connection"):
			if !is(value, "keep-alive") {
				return false
			}
		case is(name, "Content-Length"), is(name, "Transfer-Encoding"), is(name, "Trailer"), is(name, "Expect"), is(name, "Upgrade"):
			return false
		}
	}
	return hosts == 1
}

func isPrintable(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

func is(name []byte, known string) bool {
	return len(name) == len(known) && strings.EqualFold(string(name), known)
}

func isPlainHost(host []byte) bool {
	for _, c := range host {
		if c != '-' && c != '.' && c != ':' && c != '[' && c != ']' && c != '_' &&
			!('a' <= c && c <= 'z') && !('A' <= c && c <= 'Z') && !('0' <= c && c <= '9') {
			return false
		}
	}
	return len(host) > 0
}
