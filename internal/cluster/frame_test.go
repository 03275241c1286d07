package cluster

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

func read(data []byte) (frame, error) {
	return readFrame(bufio.NewReaderSize(bytes.NewReader(data), inbox), func() {})
}

func TestFrame_gives_back_what_was_put_in(t *testing.T) {
	t.Parallel()
	for name, q := range map[string]*question{
		"nothing but a path": {method: "GET", uri: "/"},
		"all":                {method: "PUT", uri: "/a%20b?c=d&e", host: "example.org", address: "[::1]:1", body: []byte(`{"a":1}`), header: http.Header{"Accept": {"a", "", "b"}, "X": {strings.Repeat("x", 1000)}}},
		"a large body":       {method: "POST", uri: "/", body: bytes.Repeat([]byte("0123456789abcdef"), maxBody/16)},
	} {
		data, err := appendRequest(nil, 7, q)
		if err != nil {
			t.Fatal(err)
		}
		f, err := read(data)
		if err != nil || f.stream != 7 || f.kind != kindRequest {
			t.Fatalf("%s: %v %v", name, f, err)
		}
		got, err := parseRequest(f)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got.method != q.method || got.uri != q.uri || got.host != q.host || !bytes.Equal(got.body, q.body) {
			t.Errorf("%s: %.200v", name, got)
		}
		if got.header.Get(addressHeader) != q.address {
			t.Errorf("%s: the client is %v", name, got.header)
		}
		got.header.Del(addressHeader)
		if len(q.header)+len(got.header) > 0 && !reflect.DeepEqual(got.header, q.header) {
			t.Errorf("%s: the headers are %v", name, got.header)
		}
	}
	want := &answer{status: 418, header: http.Header{"A": {"b", "c"}, "D": {""}}, body: []byte("x")}
	data, err := appendAnswer(nil, 1, want)
	if err != nil {
		t.Fatal(err)
	}
	f, err := read(data)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parseAnswer(f); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestFrame_takes_nothing_too_large(t *testing.T) {
	t.Parallel()
	before := []byte("before")
	for name, q := range map[string]*question{
		"a header": {method: "GET", uri: "/", header: http.Header{"X": {strings.Repeat("x", maxBlock)}}},
		"a body":   {method: "GET", uri: "/", body: make([]byte, maxBody+1)},
	} {
		if got, err := appendRequest(before, 1, q); !errors.Is(err, errTooLarge) || string(got) != "before" {
			t.Errorf("%s: %.50q %v", name, got, err)
		}
	}
}

// malformed are frames that close a connection from either side.
var malformed = map[string]string{
	"no kind":                     "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00",
	"an unknown kind":             "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x07",
	"a size beyond all bounds":    "\xff\xff\xff\xff\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x01",
	"a block beyond its bound":    "\x00\x02\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01",
	"a block beyond its frame":    "\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01\x01ab",
	"a request without a block":   "\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01a",
	"a cancel with a body":        "\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x02a",
	"a request of stream 0":       "\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01a",
	"a goodbye of a stream":       "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x06",
	"a text beyond its block":     "\x00\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01\x01\x05a",
	"a length without an end":     "\x00\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01\x01\xff\xff",
	"more headers than there are": "\x00\x00\x00\x06\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00\x01\x01\x01a\x01/\x00\x7f",
	"a header without a name":     "\x00\x00\x00\x08\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x01\x01\x01a\x01/\x00\x01\x00\x00",
	"more than the headers":       "\x00\x00\x00\x07\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x01\x01\x01a\x01/\x00\x00\x00",
	"a request without a method":  "\x00\x00\x00\x05\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x01\x01\x00\x01/\x00\x00",
	"an answer with status 100":   "\x00\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01\x03\x64\x00",
}

func TestFrame_refuses_what_is_malformed(t *testing.T) {
	t.Parallel()
	for name, data := range malformed {
		f, err := read([]byte(data))
		if err == nil && f.kind == kindAnswer {
			_, err = parseAnswer(f)
		} else if err == nil {
			_, err = parseRequest(f)
		}
		if !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
}

// FuzzFrame: no input does harm, and every parsed frame can be encoded and parsed again
// with the same result.
func FuzzFrame(f *testing.F) {
	for _, data := range malformed {
		f.Add([]byte(data))
	}
	request, _ := appendRequest(nil, 1, &question{method: "PUT", uri: "/a?b", host: "c", header: http.Header{"D": {"e", "f"}}, body: []byte("{}")})
	answered, _ := appendAnswer(request, 1, &answer{status: 200, header: http.Header{"D": {"e"}}, body: []byte("{}")})
	f.Add(answered)
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bufio.NewReaderSize(bytes.NewReader(data), 1<<10)
		for {
			got, err := readFrame(in, func() {})
			if err != nil {
				if !errors.Is(err, errMalformed) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatal(err)
				}
				return
			}
			switch got.kind {
			case kindRequest:
				if q, err := parseRequest(got); err == nil {
					if again, err := appendRequest(nil, got.stream, q); err == nil {
						back, err := read(again)
						if err != nil {
							t.Fatal(err)
						}
						if q2, err := parseRequest(back); err != nil || q2.uri != q.uri || !bytes.Equal(q2.body, q.body) {
							t.Fatalf("%v became %v, %v", q, q2, err)
						}
					}
				}
			case kindAnswer:
				if a, err := parseAnswer(got); err == nil {
					again, err := appendAnswer(nil, got.stream, a)
					if err != nil {
						continue // a uvarint may be longer than necessary
					}
					back, err := read(again)
					if err != nil {
						t.Fatal(err)
					}
					if b, err := parseAnswer(back); err != nil || b.status != a.status || !reflect.DeepEqual(a.header, b.header) || !bytes.Equal(b.body, a.body) {
						t.Fatalf("%v became %v, %v", a, b, err)
					}
				}
			}
		}
	})
}
