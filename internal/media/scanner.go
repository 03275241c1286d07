package media

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Scanner looks for viruses.
type Scanner interface {
	// Scan reads content of some bytes. It returns the name of the virus; "" if there is none. After an error nothing is known.
	Scan(ctx context.Context, content io.Reader, size int64) (virus string, err error)
}

// scanConnect bounds the time in which a scanner must take a connection.
const scanConnect = 10 * time.Second

// NewScanner returns the scanner at an address: clamd:/PATH or clamd://HOST:PORT for ClamAV, or an http or https URL to
// which content is posted, and which answers 200 or 204 if it is clean and 406 if it is not.
func NewScanner(address string) (Scanner, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, errors.New("it is no URL")
	case u.Scheme == "clamd" && u.Host != "" && u.Port() != "" && u.Path == "":
		return clamd{"tcp", u.Host}, nil
	case u.Scheme == "clamd" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
		return clamd{"unix", u.Path}, nil
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
		t := &http.Transport{DialContext: (&net.Dialer{Timeout: scanConnect}).DialContext, TLSHandshakeTimeout: scanConnect, IdleConnTimeout: time.Minute}
		return &webScanner{u.String(), http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
	}
	return nil, errors.New("it must be clamd:/PATH, clamd://HOST:PORT, or an http or https URL")
}

// clamd is the daemon of ClamAV.
type clamd struct{ network, address string }

// clamdChunk bounds a chunk of a stream to clamd, in bytes.
const clamdChunk = 64 << 10

// Scan sends content by the command INSTREAM: chunks with their length before them, then one of length 0.
func (s clamd) Scan(ctx context.Context, content io.Reader, _ int64) (virus string, err error) {
	conn, err := (&net.Dialer{Timeout: scanConnect}).DialContext(ctx, s.network, s.address)
	if err != nil {
		return "", fmt.Errorf("clamd: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	sent := sendStream(conn, content)
	if readErr := (contentError{}); errors.As(sent, &readErr) {
		return "", readErr.error
	}
	// When clamd ends a stream early it has said why.
	answer, err := bufio.NewReader(io.LimitReader(conn, 4096)).ReadString(0)
	if answer == "" {
		return "", fmt.Errorf("clamd: %w", errors.Join(ctx.Err(), sent, err))
	}
	answer = strings.TrimSpace(strings.TrimSuffix(answer, "\x00"))
	result, _ := strings.CutPrefix(answer, "stream: ")
	if name, ok := strings.CutSuffix(result, " FOUND"); ok {
		return name, nil
	}
	if result == "OK" && sent == nil {
		return "", nil
	}
	return "", fmt.Errorf("clamd answers %q; if it is about the size, raise StreamMaxLength in its configuration: %w", answer, errors.Join(sent, errRefused))
}

// errRefused says that a scanner is there and does not give a verdict.
var errRefused = errors.New("no verdict")

// contentError is an error of the content, not of the scanner.
type contentError struct{ error }

func sendStream(w io.Writer, content io.Reader) error {
	if _, err := io.WriteString(w, "zINSTREAM\x00"); err != nil {
		return err
	}
	chunk := make([]byte, 4+clamdChunk)
	for {
		n, err := io.ReadFull(content, chunk[4:])
		if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
			return contentError{err}
		}
		binary.BigEndian.PutUint32(chunk, uint32(n))
		if _, err := w.Write(chunk[:4+n]); err != nil || n == 0 {
			return err
		}
	}
}

// webScanner is a scanner that speaks HTTP.
type webScanner struct {
	url    string
	client http.Client
}

func (s *webScanner) Scan(ctx context.Context, content io.Reader, size int64) (virus string, err error) {
	body := &scanBody{src: content, closed: make(chan struct{})}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, body)
	if err != nil {
		return "", err
	}
	if r.ContentLength = size; size == 0 {
		r.Body = http.NoBody
	}
	r.Header.Set("Content-Type", "application/octet-stream")
	res, err := s.client.Do(r)
	var text []byte
	if err == nil {
		text, err = io.ReadAll(io.LimitReader(res.Body, 500))
		err = errors.Join(err, res.Body.Close())
	}
	if size > 0 {
		<-body.closed // until then the content is being read
	}
	if err != nil {
		return "", fmt.Errorf("scanner: %w", err)
	}
	switch res.StatusCode {
	case http.StatusOK, http.StatusNoContent:
		return "", nil
	case http.StatusNotAcceptable:
		if text := strings.TrimSpace(string(text)); text != "" {
			return text, nil
		}
		return "unnamed", nil
	}
	return "", fmt.Errorf("scanner: it answers %s: %w", res.Status, errRefused)
}

// scanBody is the body of a request to a scanner. It tells when it is read no longer.
type scanBody struct {
	src    io.Reader
	once   sync.Once
	closed chan struct{}
}

func (b *scanBody) Read(p []byte) (int, error) { return b.src.Read(p) }

func (b *scanBody) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}
