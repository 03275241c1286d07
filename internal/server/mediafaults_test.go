package server

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"stoa/internal/account"
	"stoa/internal/blob"
	"stoa/internal/config"
	"stoa/internal/media"
	"stoa/internal/store/storetest"
)

// bucketServer is an S3 server that a test breaks.
type bucketServer struct {
	down     atomic.Bool  // it closes every connection
	truncate atomic.Int64 // > 0: it closes connections after so many bytes of an answer
}

func (b *bucketServer) start(t *testing.T) blob.Place {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("media"); err != nil {
		t.Fatal(err)
	}
	s3 := gofakes3.New(backend).Server()
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b.down.Load() {
			panic(http.ErrAbortHandler)
		}
		if n := b.truncate.Load(); n > 0 && r.Method == http.MethodGet {
			w = &truncatingWriter{w, n}
		}
		s3.ServeHTTP(w, r)
	}))
	web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	web.StartTLS()
	t.Cleanup(web.Close)
	bucket, err := blob.NewBucket(blob.BucketOptions{
		URL: web.URL + "/media", Region: "us-east-1", AccessKey: "key", Secret: "secret", Transport: web.Client().Transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	return bucket
}

type truncatingWriter struct {
	http.ResponseWriter
	left int64
}

func (c *truncatingWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > c.left {
		_, _ = c.ResponseWriter.Write(p[:c.left])
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= int64(len(p))
	return c.ResponseWriter.Write(p)
}

// mediaServer is a server with an account, on a listener.
type mediaServer struct {
	t      *testing.T
	srv    *Server
	base   string
	folder string
	token  string
}

func newMediaServer(t *testing.T, change func(*media.Options)) *mediaServer {
	t.Helper()
	m := &mediaServer{t: t, folder: filepath.Join(t.TempDir(), "media")}
	cfg, _, err := config.Load("", []string{
		"STOA_SERVER_NAME=" + storetest.ServerName, "STOA_DATA_DIR=" + t.TempDir(), "STOA_MEDIA_FOLDER=" + m.folder,
		"STOA_REGISTRATION=open", "STOA_RATE_LIMITS=off",
	})
	if err != nil {
		t.Fatal(err)
	}
	m.srv, err = New(t.Context(), Options{
		Config: cfg, Store: storetest.SQLite(t), Media: change, Hasher: account.NewHasher(account.Cost{MemoryKiB: 64, Passes: 1, Threads: 1}, 2),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.srv.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := m.srv.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.srv.Start()
	web := httptest.NewUnstartedServer(m.srv.Handler())
	web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	web.Start()
	t.Cleanup(web.Close)
	m.base = web.URL
	_, answer := m.do("POST", "/_matrix/client/v3/register", `{"username":"anna","password":"correct horse","auth":{"type":"m.login.dummy"}}`)
	m.token = field(t, answer, "access_token")
	return m
}

func field(t *testing.T, text []byte, key string) string {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	s, _ := all[key].(string)
	return s
}

// get sends a request. An answer that does not arrive as a whole is an error.
func (m *mediaServer) get(method, path, body string) (status int, header http.Header, answer []byte, err error) {
	m.t.Helper()
	r, err := http.NewRequestWithContext(m.t.Context(), method, m.base+path, strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+m.token)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil, nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(res.Body)
	return res.StatusCode, res.Header, answer, err
}

func (m *mediaServer) do(method, path, body string) (status int, answer []byte) {
	m.t.Helper()
	status, _, answer, err := m.get(method, path, body)
	if err != nil {
		m.t.Fatal(err)
	}
	return status, answer
}

func (m *mediaServer) upload(content string) string {
	m.t.Helper()
	status, answer := m.do("POST", "/_matrix/media/v3/upload", content)
	if status != http.StatusOK {
		m.t.Fatalf("upload: %d %s", status, answer)
	}
	return strings.TrimPrefix(field(m.t, answer, "content_uri"), "mxc://")
}

const downloadPath = "/_matrix/client/v1/media/download/"

func (m *mediaServer) wantDownload(path, content string) {
	m.t.Helper()
	if status, answer := m.do("GET", downloadPath+path, ""); status != http.StatusOK || string(answer) != content {
		m.t.Errorf("a download answers %d with %d bytes, want %d", status, len(answer), len(content))
	}
}

func (m *mediaServer) wantReady(body string) {
	m.t.Helper()
	for range 5000 {
		if status, answer := m.do("GET", "/ready", ""); status != http.StatusOK {
			m.t.Fatalf("/ready answers %d", status)
		} else if strings.TrimSpace(string(answer)) == body {
			return
		}
		time.Sleep(time.Millisecond) // a check of the storage tells nobody
	}
	m.t.Errorf("/ready never says %s", body)
}

func (m *mediaServer) wantNoSpools() {
	m.t.Helper()
	var names []string
	for range 5000 {
		var err error
		if names, err = filepath.Glob(filepath.Join(m.folder, "spool-*")); err != nil {
			m.t.Fatal(err)
		}
		if len(names) == 0 {
			return
		}
		time.Sleep(time.Millisecond) // a check of the folder has one for a moment
	}
	m.t.Errorf("%v is left", names)
}

// TestAFullMediaDiskIsSaid uploads to a disk without room, and again when there is some.
func TestAFullMediaDiskIsSaid(t *testing.T) {
	t.Parallel()
	var full atomic.Bool
	m := newMediaServer(t, func(o *media.Options) {
		o.Disk = func(w io.Writer) io.Writer {
			return writerFunc(func(p []byte) (int, error) {
				if full.Load() {
					return 0, &os.PathError{Op: "write", Path: "spool", Err: syscall.ENOSPC}
				}
				return w.Write(p)
			})
		}
	})
	kept := m.upload("before")
	full.Store(true)
	for _, method := range []string{"POST", "PUT"} {
		path := "/_matrix/media/v3/upload"
		if method == "PUT" {
			_, answer := m.do("POST", "/_matrix/media/v1/create", "")
			path += "/" + strings.TrimPrefix(field(t, answer, "content_uri"), "mxc://")
		}
		status, answer := m.do(method, path, "no room for this")
		if status != http.StatusInsufficientStorage || field(t, answer, "errcode") != "M_UNKNOWN" || !strings.Contains(field(t, answer, "error"), "no room") {
			t.Errorf("%s answers %d %s", method, status, answer)
		}
	}
	m.wantNoSpools()
	m.wantDownload(kept, "before")
	if status, answer := m.do("POST", "/_matrix/client/v3/createRoom", "{}"); status != http.StatusOK {
		t.Errorf("a room: %d %s", status, answer)
	}
	full.Store(false)
	m.wantDownload(m.upload("after"), "after")
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestABucketThatIsGone takes the bucket away and gives it back.
func TestABucketThatIsGone(t *testing.T) {
	t.Parallel()
	var b bucketServer
	place := b.start(t)
	m := newMediaServer(t, func(o *media.Options) { o.Bucket = place })
	first := m.upload("before")
	m.wantReady("")
	b.down.Store(true)
	status, header, answer, err := m.get("POST", "/_matrix/media/v3/upload", "lost")
	if err != nil || status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" || !strings.Contains(string(answer), "storage") {
		t.Errorf("an upload answers %d %s %v", status, answer, err)
	}
	m.wantReady(`{"degraded":["media"]}`)
	status, answer = m.do("POST", "/_matrix/media/v3/upload", "refused at once")
	if status != http.StatusServiceUnavailable {
		t.Errorf("an upload answers %d %s", status, answer)
	}
	if unmet := m.srv.health.Unmet(t.Context()); len(unmet) != 1 || unmet["media"] == "" {
		t.Errorf("/health says %v", unmet)
	}
	if status, answer := m.do("GET", downloadPath+first, ""); status != http.StatusServiceUnavailable {
		t.Errorf("a download answers %d %s", status, answer)
	}
	if status, answer := m.do("POST", "/_matrix/client/v3/createRoom", "{}"); status != http.StatusOK {
		t.Errorf("a room: %d %s", status, answer)
	}
	b.down.Store(false)
	m.wantReady("")
	m.wantDownload(first, "before")
	m.wantDownload(m.upload("after"), "after")
	m.wantNoSpools()
}

// TestABucketThatFailsInADownload cuts the bucket's answer.
func TestABucketThatFailsInADownload(t *testing.T) {
	t.Parallel()
	var b bucketServer
	place := b.start(t)
	m := newMediaServer(t, func(o *media.Options) { o.Bucket = place })
	content := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	path := m.upload(content)
	m.wantDownload(path, content)
	for _, n := range []int64{1, 1000, 600_000, 1<<20 - 1} {
		b.truncate.Store(n)
		status, _, answer, err := m.get("GET", downloadPath+path, "")
		if err == nil && status == http.StatusOK {
			t.Errorf("cut after %d bytes, a download is a whole answer of %d", n, len(answer))
		}
		if !bytes.HasPrefix([]byte(content), answer) && status == http.StatusOK {
			t.Errorf("cut after %d bytes, it has other bytes", n)
		}
	}
	b.truncate.Store(0)
	m.wantDownload(path, content)
}
