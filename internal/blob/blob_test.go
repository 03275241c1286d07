package blob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// onEach runs a test with a folder and with a bucket.
func onEach(t *testing.T, f func(t *testing.T, p Place)) {
	t.Helper()
	t.Parallel()
	t.Run("folder", func(t *testing.T) {
		t.Parallel()
		p, err := NewFolder(filepath.Join(t.TempDir(), "media"))
		if err != nil {
			t.Fatal(err)
		}
		f(t, p)
	})
	for _, prefix := range []string{"", "/stoa/media"} {
		t.Run("bucket"+strings.ReplaceAll(prefix, "/", " "), func(t *testing.T) {
			t.Parallel()
			f(t, startBucket(t, prefix))
		})
	}
}

func startBucket(t *testing.T, prefix string) *Bucket {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("pictures"); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewTLSServer(gofakes3.New(backend).Server()) // without TLS, parts are signed in a way that it does not know
	t.Cleanup(web.Close)
	b, err := NewBucket(BucketOptions{
		URL: web.URL + "/pictures" + prefix, Region: "us-east-1", AccessKey: "key", Secret: "secret", Transport: web.Client().Transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func spool(t *testing.T, content []byte) *Spool {
	t.Helper()
	s, err := NewSpool(t.TempDir(), bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func read(t *testing.T, p Place, name string) []byte {
	t.Helper()
	c, err := p.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPlace(t *testing.T) {
	onEach(t, func(t *testing.T, p Place) {
		ctx := t.Context()
		large := bytes.Repeat([]byte("0123456789abcdef"), 20<<16) // 20 MiB, two parts
		names := map[string][]byte{}
		for _, content := range [][]byte{nil, []byte("a"), large} {
			s := spool(t, content)
			name := NewName(s.Hash)
			file := s.file.Name()
			if err := p.Put(ctx, name, s); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the spool file is still there: %v", err)
			}
			names[name] = content
		}
		for name, content := range names {
			if got := read(t, p, name); !bytes.Equal(got, content) {
				t.Errorf("%d bytes came back as %d", len(content), len(got))
			}
		}
		c := open(t, p, names, large)
		defer c.Close()
		if _, err := c.Seek(-4, io.SeekEnd); err != nil {
			t.Fatal(err)
		}
		if end, err := io.ReadAll(c); err != nil || string(end) != "cdef" {
			t.Errorf("the end is %q, %v", end, err)
		}
		if at, err := c.Seek(16, io.SeekStart); err != nil || at != 16 {
			t.Fatal(at, err)
		}
		var part [3]byte
		if _, err := io.ReadFull(c, part[:]); err != nil || string(part[:]) != "012" {
			t.Errorf("a part is %q, %v", part, err)
		}

		listed := map[string]int64{}
		list := func() error {
			return p.List(ctx, func(e Entry) error {
				if time.Since(e.Written) > time.Hour {
					t.Errorf("%s was written at %v", e.Name, e.Written)
				}
				listed[e.Name] = e.Size
				return nil
			})
		}
		if err := list(); err != nil {
			t.Fatal(err)
		}
		for name, content := range names {
			if size, is := listed[name]; !is || size != int64(len(content)) || len(listed) != len(names) {
				t.Errorf("the listing is %v", listed)
			}
			for range 2 { // the second time it is gone already
				if err := p.Delete(ctx, name); err != nil {
					t.Error(err)
				}
			}
			if _, err := p.Open(ctx, name); !errors.Is(err, ErrNotFound) {
				t.Errorf("deleted, it opens with %v", err)
			}
		}
		clear(listed)
		if err := list(); err != nil || len(listed) > 0 {
			t.Errorf("after all were deleted, the listing is %v, %v", listed, err)
		}
		end := errors.New("enough")
		s := spool(t, []byte("x"))
		if err := p.Put(ctx, NewName(s.Hash), s); err != nil {
			t.Fatal(err)
		}
		if err := p.List(ctx, func(Entry) error { return end }); !errors.Is(err, end) {
			t.Errorf("an error does not end a listing: %v", err)
		}
		for _, name := range []string{"", "../../etc/passwd", "a/b", strings.Repeat("g", 64) + "-0123456789ab"} {
			if _, err := p.Open(ctx, name); err == nil || errors.Is(err, ErrNotFound) {
				t.Errorf("the name %q is taken: %v", name, err)
			}
			if err := p.Delete(ctx, name); err == nil {
				t.Errorf("the name %q is deleted", name)
			}
		}
	})
}

func open(t *testing.T, p Place, names map[string][]byte, content []byte) Content {
	t.Helper()
	for name, c := range names {
		if bytes.Equal(c, content) {
			opened, err := p.Open(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			return opened
		}
	}
	t.Fatal("no such blob")
	return nil
}

func TestSpool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := NewSpool(dir, strings.NewReader("12345"), 4); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one byte too many: %v", err)
	}
	broken := errors.New("broken")
	if _, err := NewSpool(dir, io.MultiReader(strings.NewReader("12"), failing{broken}), 4); !errors.Is(err, broken) {
		t.Errorf("a source that breaks: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("they leave %v, %v", left, err)
	}
	s, err := NewSpool(dir, strings.NewReader("1234"), 4)
	if err != nil || s.Size != 4 {
		t.Fatal(s, err)
	}
	if err := CleanSpools(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.file.Name()); err != nil {
		t.Errorf("a new spool file is cleaned up: %v", err)
	}
	if err := CleanSpools(dir, time.Now().Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("after two hours, %v is left, %v", left, err)
	}
}

type failing struct{ error }

func (f failing) Read([]byte) (int, error) { return 0, f.error }

func TestBucket_that_is_gone(t *testing.T) {
	t.Parallel()
	b := startBucket(t, "")
	missing := *b
	missing.bucket = "elsewhere"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := spool(t, []byte("x"))
	defer s.Close()
	if err := missing.Put(ctx, NewName(s.Hash), s); err == nil {
		t.Error("a bucket that is not there takes a blob")
	}
	if _, err := missing.Open(ctx, NewName(s.Hash)); err == nil {
		t.Error("a bucket that is not there has a blob")
	}
	for _, address := range []string{"", "pictures", "ftp://host/pictures", "https://host", "https:///pictures", "https://host/pictures?x", "https://me@host/pictures"} {
		if _, err := NewBucket(BucketOptions{URL: address}); err == nil || !strings.Contains(err.Error(), "https://HOST/BUCKET") {
			t.Errorf("the address %q: %v", address, err)
		}
	}
}
