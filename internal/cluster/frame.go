package cluster

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"net/http"
	"slices"
	"strings"

	"stoa/internal/httpkit"
	"stoa/internal/packed"
)

// protocolName is the protocol that two instances negotiate in the TLS handshake (ALPN):
// the frames below.
//
// The kinds of frames and their bounds are part of the protocol. A new kind, or a smaller
// bound, needs a new name.
const protocolName = "stoa/1"

// kind is the kind of a frame.
type kind uint8

const (
	// kindRequest, from the dialing side: a whole request. The numbers of streams
	// increase.
	kindRequest kind = iota + 1
	// kindCancel, from the dialing side: the answer is no longer needed.
	kindCancel
	// kindAnswer, from the accepting side: the whole answer.
	kindAnswer
	// kindRefused, from the accepting side: the request did not begin.
	kindRefused
	// kindBroken, from the accepting side: the request began, but has no answer.
	kindBroken
	// kindGoAway, from the accepting side, on stream 0: it stops, and refuses requests
	// from now on. The dialing side closes the connection when no request is in progress
	// on it.
	kindGoAway
	kinds
)

// A frame is a head, the block of the headers, and the body. The head is
//
//	size    4 bytes  of block and body together
//	block   4 bytes  size of the block
//	stream  8 bytes  which request this is about
//	kind    1 byte
//
// with the greatest byte of a number first. Frames of the kinds that have neither
// block nor body end with the head.
const (
	headSize = 4 + 4 + 8 + 1
	maxBlock = 64 << 10
	maxBody  = max(httpkit.MaxBody, maxAnswer)
)

type frame struct {
	stream      uint64
	kind        kind
	block, body []byte // valid until the next frame is read
}

// errMalformed closes a connection: the peer does not speak the protocol.
var errMalformed = errors.New("malformed frame")

// errTooLarge says that a request or answer does not fit a frame.
var errTooLarge = errors.New("the headers are too large")

// readFrame reads a frame. It calls waits when only a part of the frame has arrived.
func readFrame(in *bufio.Reader, waits func()) (frame, error) {
	head, err := in.Peek(headSize)
	if err != nil {
		return frame{}, err
	}
	size, block := binary.BigEndian.Uint32(head), binary.BigEndian.Uint32(head[4:])
	f := frame{stream: binary.BigEndian.Uint64(head[8:]), kind: kind(head[16])}
	hasBlock := f.kind == kindRequest || f.kind == kindAnswer
	if f.kind == 0 || f.kind >= kinds || block > maxBlock || block > size || size-block > maxBody ||
		hasBlock != (block > 0) || !hasBlock && size > 0 || (f.kind == kindGoAway) != (f.stream == 0) {
		return frame{}, errMalformed
	}
	_, _ = in.Discard(headSize) // it is in the buffer
	if size == 0 {
		return f, nil
	}
	if in.Buffered() < int(size) {
		waits()
	}
	var all []byte
	if int(size) <= in.Size() {
		if all, err = in.Peek(int(size)); err != nil {
			return frame{}, err
		}
		_, _ = in.Discard(int(size)) // the data stays in place until the next read
	} else if all, err = readSome(in, int(size)); err != nil {
		return frame{}, err
	}
	f.block, f.body = all[:block:block], all[block:]
	return f, nil
}

// readSome reads size bytes, and allocates memory only as they arrive.
func readSome(in *bufio.Reader, size int) ([]byte, error) {
	all := make([]byte, 0, in.Size())
	for len(all) < size {
		if _, err := in.Peek(1); err != nil {
			return nil, err
		}
		piece, _ := in.Peek(min(in.Buffered(), size-len(all)))
		all = append(all, piece...)
		_, _ = in.Discard(len(piece))
	}
	return all, nil
}

// appendHead appends a head. For kinds with neither block nor body it is the whole frame;
// for others endFrame sets the sizes.
func appendHead(dst []byte, k kind, stream uint64) []byte {
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, stream)
	return append(dst, byte(k))
}

// endFrame completes the frame that begins at start with a body. If a part is too large
// it removes the frame.
func endFrame(dst []byte, start int, body []byte) ([]byte, error) {
	block := len(dst) - start - headSize
	if block > maxBlock || len(body) > maxBody {
		return dst[:start], errTooLarge
	}
	binary.BigEndian.PutUint32(dst[start:], uint32(block+len(body)))
	binary.BigEndian.PutUint32(dst[start+4:], uint32(block))
	return append(dst, body...), nil
}

// question is a request as it is sent to a peer, without the headers of the client's
// connection.
type question struct {
	method, uri, host string
	header            http.Header
	address           string // of the client
	body              []byte
}

// appendRequest appends the frame of a request. Its block has the method, URI and host,
// then the number of headers with the name and value of each. Texts are prefixed with
// their length; counts and lengths are uvarints.
func appendRequest(dst []byte, stream uint64, q *question) ([]byte, error) {
	start := len(dst)
	dst = appendHead(dst, kindRequest, stream)
	dst = packed.AppendText(packed.AppendText(packed.AppendText(dst, q.method), q.uri), q.host)
	count := 1
	for name, values := range q.header {
		if !slices.Contains(hopHeaders, name) {
			count += len(values)
		}
	}
	dst = packed.AppendNumber(dst, count)
	dst = packed.AppendText(packed.AppendText(dst, addressHeader), q.address)
	for name, values := range q.header {
		if slices.Contains(hopHeaders, name) {
			continue
		}
		for _, value := range values {
			dst = packed.AppendText(packed.AppendText(dst, name), value)
		}
	}
	return endFrame(dst, start, q.body)
}

// appendAnswer appends the frame of an answer. Its block has the status and the headers,
// encoded as for a request.
func appendAnswer(dst []byte, stream uint64, a *answer) ([]byte, error) {
	start := len(dst)
	dst = appendHead(dst, kindAnswer, stream)
	dst = packed.AppendNumber(dst, a.status)
	count := 0
	for _, values := range a.header {
		count += len(values)
	}
	dst = packed.AppendNumber(dst, count)
	for name, values := range a.header {
		for _, value := range values {
			dst = packed.AppendText(packed.AppendText(dst, name), value)
		}
	}
	return endFrame(dst, start, a.body)
}

// parseRequest parses the frame of a request. It does not retain f.
func parseRequest(f frame) (*question, error) {
	r := packed.Read(string(f.block))
	q := &question{method: r.Text(), uri: r.Text(), host: r.Text()}
	var ok bool
	if q.header, ok = readHeader(r); !ok || q.method == "" || q.uri == "" {
		return nil, errMalformed
	}
	q.body = bytes.Clone(f.body)
	return q, nil
}

// parseAnswer parses the frame of an answer. It does not retain f.
func parseAnswer(f frame) (*answer, error) {
	r := packed.Read(string(f.block))
	status := r.Number()
	header, ok := readHeader(r)
	if !ok || status < 200 || status > 999 {
		return nil, errMalformed
	}
	return &answer{status: int(status), header: header, body: bytes.Clone(f.body)}, nil
}

func readHeader(r *packed.Reader) (h http.Header, ok bool) {
	count := r.Count(2) // each has at least two lengths
	h = make(http.Header, count)
	values := make([]string, count)
	for i := range values {
		name := r.Text()
		if name == "" || strings.ContainsAny(name, "\r\n") {
			return nil, false
		}
		values[i] = r.Text()
		if before, some := h[name]; some {
			h[name] = append(before, values[i])
		} else {
			h[name] = values[i : i+1 : i+1]
		}
	}
	return h, r.Done() == nil
}
