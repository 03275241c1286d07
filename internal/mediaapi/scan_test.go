package mediaapi_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/png"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"stoa/internal/server/servertest"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
)

// daemon speaks the protocol of clamd. It finds the word virus, and waits for a token before each verdict.
type daemon struct {
	t       *testing.T
	address string
	tokens  chan bool
	running sync.WaitGroup

	mu      sync.Mutex
	scanned []int // sizes
}

// startDaemon starts a daemon at an address; "" = a free port.
func startDaemon(t *testing.T, address string) *daemon {
	t.Helper()
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{t: t, address: l.Addr().String(), tokens: make(chan bool, 1000)}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		close(d.tokens)
		d.running.Wait()
	})
	d.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			d.running.Go(func() { d.serve(conn) })
		}
	})
	return d
}

func (d *daemon) allow(n int) {
	for range n {
		d.tokens <- true
	}
}

func (d *daemon) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	if command, err := r.ReadString(0); err != nil || command != "zINSTREAM\x00" {
		d.t.Errorf("the command is %q, %v", command, err)
		return
	}
	var content bytes.Buffer
	for {
		var size uint32
		if err := binary.Read(r, binary.BigEndian, &size); err != nil {
			return // the server stops
		}
		if size == 0 {
			break
		}
		if _, err := io.CopyN(&content, r, int64(size)); err != nil {
			return
		}
	}
	if !<-d.tokens {
		return
	}
	d.mu.Lock()
	d.scanned = append(d.scanned, content.Len())
	d.mu.Unlock()
	if strings.Contains(content.String(), "virus") {
		fmt.Fprint(conn, "stream: Test.Virus FOUND\x00")
	} else {
		fmt.Fprint(conn, "stream: OK\x00")
	}
}

func (d *daemon) scans() []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]int(nil), d.scanned...)
}

func TestUploads_wait_for_the_scanner(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		d := startDaemon(t, "")
		s := servertest.Start(t, open(), "STOA_MEDIA_SCANNER=clamd://"+d.address)
		c := clientOf(t, s)
		anna := c.register("anna")
		var pic bytes.Buffer
		if err := png.Encode(&pic, image.NewGray(image.Rect(0, 0, 100, 100))); err != nil {
			t.Fatal(err)
		}
		path := c.upload(anna, "image/png", "", pic.Bytes())
		for _, endpoint := range []string{download + path + "?timeout_ms=0", oldDownload + path + "?timeout_ms=0", getThumbnail + path + "?width=32&height=32&timeout_ms=0"} {
			if got := c.get(endpoint, anna).want(504, "M_NOT_YET_UPLOADED"); !strings.Contains(got.text("error"), "scanned") {
				t.Errorf("%s answers %s", endpoint, got.body)
			}
		}
		var waiting sync.WaitGroup
		for range 3 {
			waiting.Go(func() {
				if got := c.get(download+path, anna); got.status != 200 || !bytes.Equal(got.body, pic.Bytes()) {
					t.Errorf("a download that waits gets %d %.100q", got.status, got.body)
				}
			})
		}
		d.allow(1)
		waiting.Wait()
		c.get(getThumbnail+path+"?width=32&height=32&timeout_ms=0", anna).want(200, "")
		again := c.upload(anna, "image/png", "", pic.Bytes())
		c.get(download+again+"?timeout_ms=0", anna).want(200, "")
		if got := d.scans(); len(got) != 1 || got[0] != pic.Len() {
			t.Errorf("scanned were %v", got)
		}
	})
}

func TestInfected_uploads_are_quarantined(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		d := startDaemon(t, "")
		d.allow(10)
		s := servertest.Start(t, open(), "STOA_MEDIA_SCANNER=clamd://"+d.address)
		c := clientOf(t, s)
		anna := c.register("anna")
		body := []byte(strings.Repeat("x", 200_000) + "a virus")
		path := c.upload(anna, "text/plain", "", body)
		c.get(download+path, anna).want(404, "M_NOT_FOUND")
		again := c.upload(anna, "text/plain", "", body)
		c.get(download+again+"?timeout_ms=0", anna).want(404, "M_NOT_FOUND")
		clean := c.upload(anna, "text/plain", "", nil) // also an empty file is scanned
		c.get(download+clean, anna).want(200, "")
		if got := d.scans(); fmt.Sprint(got) != "[200007 0]" {
			t.Errorf("scanned were %v", got)
		}
		if log := s.Log.String(); !strings.Contains(log, "an upload is infected") || !strings.Contains(log, "Test.Virus") {
			t.Error("the log does not say what was found")
		}
	})
}

// Nothing is lost while the scanner is down, also if the server stops meanwhile.
func TestUploads_outlive_a_scanner_that_is_down(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		st, folder := open(), "STOA_MEDIA_FOLDER="+t.TempDir()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().String()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		scanner := "STOA_MEDIA_SCANNER=clamd://" + address
		var anna, path string
		t.Run("down", func(t *testing.T) {
			c := clientOf(t, servertest.Start(t, st, folder, scanner))
			anna = c.register("anna")
			path = c.upload(anna, "text/plain", "", []byte("kept"))
			c.get(download+path+"?timeout_ms=1100", anna).want(504, "M_NOT_YET_UPLOADED")
		})
		startDaemon(t, address).allow(1)
		c := clientOf(t, servertest.Start(t, st, folder, scanner))
		if got := c.get(download+path, anna).want(200, ""); string(got.body) != "kept" {
			t.Errorf("got %q", got.body)
		}
	})
}

func TestUploads_are_served_once_scanning_is_off(t *testing.T) {
	t.Parallel()
	st, folder := storetest.SQLite(t), "STOA_MEDIA_FOLDER="+t.TempDir()
	var anna, path string
	t.Run("on", func(t *testing.T) {
		d := startDaemon(t, "")
		c := clientOf(t, servertest.Start(t, st, folder, "STOA_MEDIA_SCANNER=clamd://"+d.address))
		anna = c.register("anna")
		path = c.upload(anna, "text/plain", "", []byte("kept"))
		c.get(download+path+"?timeout_ms=0", anna).want(504, "M_NOT_YET_UPLOADED")
	})
	c := clientOf(t, servertest.Start(t, st, folder))
	c.get(download+path+"?timeout_ms=0", anna).want(200, "")
}

// TestClamd_itself asks a clamd that has a signature for the EICAR test file, and takes streams of 1 MiB. scripts/clamav starts one.
func TestClamd_itself(t *testing.T) {
	t.Parallel()
	address := os.Getenv("STOA_TEST_CLAMD")
	if address == "" {
		t.Skip("STOA_TEST_CLAMD is not set: make clamav starts a clamd")
	}
	s := servertest.SQLite(t, "STOA_MEDIA_SCANNER="+address)
	c := clientOf(t, s)
	anna := c.register("anna")
	eicar := `X5O!P%@AP[4\PZX54(P^)7CC)7}` + `$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*` // in two parts, so that no scanner takes this file for it
	infected := c.upload(anna, "application/octet-stream", "", []byte(eicar))
	c.get(download+infected, anna).want(404, "M_NOT_FOUND")
	clean := bytes.Repeat([]byte("clean "), 100_000)
	if got := c.get(download+c.upload(anna, "text/plain", "", clean), anna).want(200, ""); !bytes.Equal(got.body, clean) {
		t.Error("the download is not what was uploaded")
	}
	large := c.upload(anna, "application/octet-stream", "", make([]byte, 2<<20))
	c.get(download+large+"?timeout_ms=2000", anna).want(504, "M_NOT_YET_UPLOADED")
	if log := s.Log.String(); !strings.Contains(log, "Stoa.Eicar") || !strings.Contains(log, "StreamMaxLength") {
		t.Errorf("the log does not say what happened: %s", log)
	}
}
