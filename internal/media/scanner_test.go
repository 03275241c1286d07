package media_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stoa/internal/media"
)

func scannerAt(t *testing.T, address string) media.Scanner {
	t.Helper()
	s, err := media.NewScanner(address)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNewScanner_refuses(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "clamd", "clamd:", "clamd:relative", "clamd://host", "clamd://host:1/path", "ftp://host/", "http:", "/run/clamd"} {
		if s, err := media.NewScanner(address); err == nil {
			t.Errorf("%q gives %v", address, s)
		}
	}
}

// clamdThat answers on a Unix socket, once it has read some bytes.
func clamdThat(t *testing.T, answer string, after int64) media.Scanner {
	t.Helper()
	dir, err := os.MkdirTemp("", "clamd") // the name of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan bool)
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.CopyN(io.Discard, conn, after) // less is an answer too
		_, _ = io.WriteString(conn, answer)
	}()
	t.Cleanup(func() {
		if err := errors.Join(l.Close(), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
		<-done
	})
	return scannerAt(t, "clamd:"+path)
}

func TestClamd(t *testing.T) {
	t.Parallel()
	all := int64(len("zINSTREAM\x00") + 4 + 5 + 4)
	for answer, want := range map[string]string{
		"stream: OK\x00": "", "stream: Win.Test FOUND\x00": "Win.Test",
		"INSTREAM size limit exceeded. ERROR\x00": "error", "stream: OK FOUND ERROR\x00": "error", "": "error", "nonsense": "error",
	} {
		virus, err := clamdThat(t, answer, all).Scan(t.Context(), strings.NewReader("hello"), 5)
		if virus != want && want != "error" || (err != nil) != (want == "error") {
			t.Errorf("%q gives %q, %v", answer, virus, err)
		}
	}
	// It ends long streams early, and says why.
	_, err := clamdThat(t, "INSTREAM size limit exceeded. ERROR\x00", 100_000).Scan(t.Context(), bytes.NewReader(make([]byte, 50<<20)), 50<<20)
	if err == nil {
		t.Error("a stream that was cut off is clean")
	}
	broken := errors.New("the disk is broken")
	if _, err := clamdThat(t, "stream: OK\x00", 3).Scan(t.Context(), io.MultiReader(strings.NewReader("x"), failing{broken}), 5); !errors.Is(err, broken) {
		t.Errorf("content that can't be read gives %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := clamdThat(t, "", 1<<40).Scan(ctx, strings.NewReader("hello"), 5); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a daemon that hangs gives %v", err)
	}
	if _, err := scannerAt(t, "clamd:"+filepath.Join(t.TempDir(), "none")).Scan(t.Context(), strings.NewReader(""), 0); err == nil {
		t.Error("without a daemon everything is clean")
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestWeb_scanner(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/early" {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		body, err := io.ReadAll(r.Body)
		switch {
		case err != nil || int64(len(body)) != r.ContentLength:
			t.Errorf("of %d bytes came %d: %v", r.ContentLength, len(body), err)
		case r.URL.Path == "/elsewhere":
			http.Redirect(w, r, "/", http.StatusTemporaryRedirect)
		case string(body) == "virus":
			w.WriteHeader(http.StatusNotAcceptable)
			io.WriteString(w, "Win.Test\n")
		case string(body) == "other":
			w.WriteHeader(http.StatusNotAcceptable)
		}
	}))
	t.Cleanup(web.Close)
	for content, want := range map[string]string{"": "", "good": "", "virus": "Win.Test", "other": "unnamed"} {
		virus, err := scannerAt(t, web.URL+"/").Scan(t.Context(), strings.NewReader(content), int64(len(content)))
		if virus != want || err != nil {
			t.Errorf("%q gives %q, %v", content, virus, err)
		}
	}
	for _, path := range []string{"/early", "/elsewhere"} {
		if virus, err := scannerAt(t, web.URL+path).Scan(t.Context(), bytes.NewReader(make([]byte, 30<<20)), 30<<20); err == nil {
			t.Errorf("%s gives %q and no error", path, virus)
		}
	}
}
