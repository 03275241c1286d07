package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"stoa/internal/account"
	"stoa/internal/config"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
)

// pageLimits are the ways to make a SQLite database full and to give it room again.
var pageLimits = map[bool]*store.Stmt{
	true:  store.Prepare(`PRAGMA max_page_count = 1`), // at least the pages in use
	false: store.Prepare(`PRAGMA max_page_count = 1000000`),
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// diskServer is a server on one SQLite file, with an account and a room.
type diskServer struct {
	t           *testing.T
	srv         *Server
	st          *store.Store
	path        string
	token, room string
	txn         int
	log         *lockedBuffer
}

func newDiskServer(t *testing.T) *diskServer {
	t.Helper()
	d := &diskServer{t: t, path: filepath.Join(t.TempDir(), "stoa.db"), log: &lockedBuffer{}}
	d.st = storetest.OpenURL(t, d.path, func(o *store.Options) { o.Log = slog.New(slog.NewTextHandler(d.log, nil)) })
	cfg, _, err := config.Load("", []string{
		"STOA_SERVER_NAME=" + storetest.ServerName, "STOA_DATA_DIR=" + t.TempDir(), "STOA_REGISTRATION=open", "STOA_RATE_LIMITS=off",
	})
	if err != nil {
		t.Fatal(err)
	}
	d.srv, err = New(t.Context(), Options{Config: cfg, Store: d.st, Hasher: account.NewHasher(account.Cost{MemoryKiB: 64, Passes: 1, Threads: 1}, 2)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.srv.Stop() }) // what can't be saved at the stop is the subject of these tests
	if err := d.srv.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.srv.Start()
	_, answer := d.do(http.MethodPost, "/_matrix/client/v3/register", `{"username":"anna","password":"correct horse","auth":{"type":"m.login.dummy"}}`)
	d.token, _ = answer["access_token"].(string)
	_, answer = d.do(http.MethodPost, "/_matrix/client/v3/createRoom", `{}`)
	if d.room, _ = answer["room_id"].(string); d.room == "" {
		t.Fatalf("no room: %v", answer)
	}
	return d
}

func (d *diskServer) do(method, path, body string) (status int, answer map[string]any) {
	d.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if d.token != "" {
		r.Header.Set("Authorization", "Bearer "+d.token)
	}
	w := httptest.NewRecorder()
	d.srv.Handler().ServeHTTP(w, r)
	_ = json.Unmarshal(w.Body.Bytes(), &answer) // /ready has no body
	return w.Code, answer
}

func (d *diskServer) send(body string) (status int, answer map[string]any) {
	d.t.Helper()
	d.txn++
	return d.do(http.MethodPut, fmt.Sprintf("/_matrix/client/v3/rooms/%s/send/m.room.message/%d", d.room, d.txn),
		fmt.Sprintf(`{"msgtype":"m.text","body":%q}`, body))
}

func (d *diskServer) wantReady(want int) {
	d.t.Helper()
	if status, _ := d.do(http.MethodGet, "/ready", ""); status != want {
		d.t.Errorf("/ready answers %d, want %d", status, want)
	}
}

// setFull takes away the room on the disk, or gives it back.
func (d *diskServer) setFull(full bool) {
	d.t.Helper()
	err := d.st.Write(d.t.Context(), func(tx *store.Tx) error {
		return store.QueryEach(&tx.Read, pageLimits[full], func(*store.Row) error { return nil })
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// TestAFullDiskIsSaid fills the database until a message finds no room.
func TestAFullDiskIsSaid(t *testing.T) {
	t.Parallel()
	d := newDiskServer(t)
	d.wantReady(http.StatusOK)
	d.setFull(true)
	status, answer := 0, map[string]any(nil)
	for range 50 {
		if status, answer = d.send(strings.Repeat("x", 50_000)); status != http.StatusOK {
			break
		}
	}
	said, _ := answer["error"].(string)
	if status != http.StatusInsufficientStorage || answer["errcode"] != "M_UNKNOWN" || !strings.Contains(said, "disk") {
		t.Errorf("%d %v", status, answer)
	}
	d.wantReady(http.StatusServiceUnavailable)
	if status, _ := d.do(http.MethodGet, "/_matrix/client/v3/rooms/"+d.room+"/messages?dir=b", ""); status != http.StatusOK {
		t.Errorf("reading answers %d", status)
	}
	if n := strings.Count(d.log.String(), "level=ERROR"); n != 1 || !strings.Contains(d.log.String(), "disk") {
		t.Errorf("%d errors in the log:\n%s", n, d.log)
	}
	d.setFull(false)
	if status, answer := d.send("there is room"); status != http.StatusOK {
		t.Errorf("after that: %d %v", status, answer)
	}
	d.wantReady(http.StatusOK)
}

// TestADamagedFileAcknowledgesNothing changes the files of the database under the server.
func TestADamagedFileAcknowledgesNothing(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(path string) error{
		"truncated":     func(path string) error { return os.Truncate(path, 0) },
		"deleted":       os.Remove,
		"log_truncated": func(path string) error { return os.Truncate(path+"-wal", 0) },
		"log_deleted":   func(path string) error { return os.Remove(path + "-wal") },
		"replaced": func(path string) error {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if err := os.WriteFile(path+".new", data, 0o600); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDiskServer(t)
			if status, answer := d.send("before"); status != http.StatusOK {
				t.Fatalf("%d %v", status, answer)
			}
			d.wantReady(http.StatusOK)
			if err := damage(d.path); err != nil {
				t.Fatal(err)
			}
			status, answer := d.send("after")
			said, _ := answer["error"].(string)
			if status != http.StatusServiceUnavailable || !strings.Contains(said, "damaged") {
				t.Errorf("%d %v", status, answer)
			}
			d.wantReady(http.StatusServiceUnavailable)
			if n := strings.Count(d.log.String(), "level=ERROR"); n != 1 {
				t.Errorf("%d errors in the log:\n%s", n, d.log)
			}
		})
	}
}
