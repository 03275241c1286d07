package media_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"stoa/internal/blob"
	"stoa/internal/media"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/internal/store/userdb"
	"stoa/internal/thumbnail"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

type fixture struct {
	*media.Media
	t      *testing.T
	store  *store.Store
	folder string
	user   who.User
}

func onEach(t *testing.T, f func(*fixture)) {
	t.Helper()
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) { f(newFixture(t, open(), nil)) })
}

func newFixture(t *testing.T, s *store.Store, bucket blob.Place, change ...func(*media.Options)) *fixture {
	t.Helper()
	server, err := id.ParseServerName(storetest.ServerName)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, store: s, folder: filepath.Join(t.TempDir(), "media")}
	opt := media.Options{
		Store: s, ServerName: server, Folder: f.folder, Bucket: bucket, MaxUpload: 1 << 20, ThumbnailMemory: 64 << 20,
	}
	for _, c := range change {
		c(&opt)
	}
	f.Media, err = media.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	userID, err := id.ParseUserID("@anna:" + storetest.ServerName)
	if err != nil {
		t.Fatal(err)
	}
	nums, err := s.InternUsers(t.Context(), func(string) bool { return true }, userID.String())
	if err != nil {
		t.Fatal(err)
	}
	c := store.NewChange()
	userdb.AddAccount(c, nums[0], "", false, 1)
	if _, err := s.Commit(t.Context(), c); err != nil && !errors.Is(err, userdb.ErrUserInUse) {
		t.Fatal(err)
	}
	f.user = who.User{UserID: userID, UserNum: nums[0]}
	return f
}

func (f *fixture) upload(content string) media.URI {
	f.t.Helper()
	uri, err := f.Upload(f.t.Context(), f.user, media.Upload{Body: strings.NewReader(content), Size: int64(len(content)), Type: "text/plain"})
	if err != nil {
		f.t.Fatal(err)
	}
	return uri
}

func (f *fixture) read(uri media.URI) (string, error) {
	file, err := f.Open(f.t.Context(), uri, 0)
	if err != nil {
		return "", err
	}
	defer file.Close()
	b, err := io.ReadAll(file)
	return string(b), err
}

func (f *fixture) files() (names []string) {
	f.t.Helper()
	err := filepath.WalkDir(f.folder, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return names
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func isCode(err error, code string) bool {
	var e *mxerr.Error
	return errors.As(err, &e) && e.Code == code
}

func TestSame_content_is_kept_once(t *testing.T) {
	onEach(t, func(f *fixture) {
		var all sync.WaitGroup
		uris := make([]media.URI, 16)
		for i := range uris {
			all.Go(func() { uris[i] = f.upload(fmt.Sprint("content ", i%2)) })
		}
		all.Wait()
		if n := len(f.files()); n != 2 {
			f.t.Errorf("2 contents of 16 uploads take %d files", n)
		}
		for i, uri := range uris {
			if got, err := f.read(uri); err != nil || got != fmt.Sprint("content ", i%2) {
				f.t.Errorf("%s is %q, %v", uri, got, err)
			}
		}
	})
}

func TestDeleted_content_goes_when_nothing_names_it(t *testing.T) {
	onEach(t, func(f *fixture) {
		a, b := f.upload("same"), f.upload("same")
		f.must(f.Delete(f.t.Context(), a))
		if err := f.Delete(f.t.Context(), a); !isCode(err, mxerr.CodeNotFound) {
			f.t.Errorf("deleted twice: %v", err)
		}
		if _, err := f.read(a); !isCode(err, mxerr.CodeNotFound) {
			f.t.Errorf("a deleted upload is read with %v", err)
		}
		f.SetGrace(-time.Second)
		f.must(f.Sweep(f.t.Context()))
		if got, err := f.read(b); err != nil || got != "same" {
			f.t.Fatalf("another upload of the same content is %q, %v", got, err)
		}
		f.must(f.Delete(f.t.Context(), b))
		f.SetGrace(time.Hour)
		f.must(f.Sweep(f.t.Context()))
		if len(f.files()) != 1 {
			f.t.Fatal("the content went before its time")
		}
		c := f.upload("same") // named again within the time
		f.SetGrace(-time.Second)
		f.must(f.Sweep(f.t.Context()))
		if got, err := f.read(c); err != nil || got != "same" {
			f.t.Fatalf("content that was named again is %q, %v", got, err)
		}
		f.must(f.Delete(f.t.Context(), c))
		f.must(f.Sweep(f.t.Context()))
		if left := f.files(); len(left) > 0 {
			f.t.Errorf("after all was deleted, %v is left", left)
		}
	})
}

func TestDeletion_beside_uploads_loses_nothing(t *testing.T) {
	onEach(t, func(f *fixture) {
		f.SetGrace(-time.Second)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 10 {
					uri := f.upload("again and again")
					if got, err := f.read(uri); err != nil || got != "again and again" {
						f.t.Errorf("%s is %q, %v", uri, got, err)
					}
					if err := f.Delete(f.t.Context(), uri); err != nil {
						f.t.Error(err)
					}
				}
			})
		}
		for range 20 {
			f.must(f.Sweep(f.t.Context()))
		}
		all.Wait()
		f.must(f.Sweep(f.t.Context()))
		if left := f.files(); len(left) > 0 {
			f.t.Errorf("%v is left", left)
		}
	})
}

func TestOrphans_are_swept(t *testing.T) {
	onEach(t, func(f *fixture) {
		kept := f.upload("kept")
		folder, err := blob.NewFolder(f.folder)
		f.must(err)
		spool, err := blob.NewSpool(f.folder, strings.NewReader("written before a crash"), 100)
		f.must(err)
		f.must(folder.Put(f.t.Context(), blob.NewName(spool.Hash), spool))
		f.must(f.SweepOrphans(f.t.Context()))
		if len(f.files()) != 2 {
			f.t.Fatal("bytes went that an upload under way may have written")
		}
		f.SetGrace(-time.Hour)
		f.must(f.SweepOrphans(f.t.Context()))
		if len(f.files()) != 1 {
			f.t.Errorf("%v is left", f.files())
		}
		if got, err := f.read(kept); err != nil || got != "kept" {
			f.t.Errorf("what is named is %q, %v", got, err)
		}
	})
}

func TestThumbnails_go_with_their_image(t *testing.T) {
	onEach(t, func(f *fixture) {
		img, err := os.ReadFile("testdata/wide.png")
		f.must(err)
		uri, err := f.Upload(f.t.Context(), f.user, media.Upload{Body: bytes.NewReader(img), Size: -1})
		f.must(err)
		var all sync.WaitGroup
		for range 4 { // asked for by several at once, it is kept once
			all.Go(func() {
				small, err := f.Thumbnail(f.t.Context(), uri, 32, 32, thumbnail.Crop, false, 0)
				if err != nil {
					f.t.Error(err)
					return
				}
				small.Close()
			})
		}
		all.Wait()
		if n := len(f.files()); n != 2 {
			f.t.Errorf("an image with one thumbnail takes %d files", n)
		}
		f.must(f.Delete(f.t.Context(), uri))
		f.SetGrace(-time.Second)
		f.must(f.Sweep(f.t.Context()))
		if left := f.files(); len(left) > 0 {
			f.t.Errorf("%v is left", left)
		}
	})
}

func TestExpired_addresses_take_no_upload_and_go(t *testing.T) {
	onEach(t, func(f *fixture) {
		uri, expires, err := f.Create(f.t.Context(), f.user)
		f.must(err)
		if in := time.Until(expires); in < media.PendingTime-time.Minute || in > media.PendingTime+time.Minute {
			f.t.Errorf("it expires in %v", in)
		}
		f.SetGrace(-48 * time.Hour)
		f.must(f.Sweep(f.t.Context()))
		err = f.UploadTo(f.t.Context(), f.user, uri, media.Upload{Body: strings.NewReader("x"), Size: 1})
		if !isCode(err, mxerr.CodeNotFound) || len(f.files()) > 0 {
			f.t.Errorf("it takes an upload: %v", err)
		}
		if _, err := f.Open(f.t.Context(), uri, time.Hour); !isCode(err, mxerr.CodeNotFound) {
			f.t.Errorf("a download of it waits: %v", err)
		}
	})
}

func TestDeactivated_users_upload_nothing(t *testing.T) {
	onEach(t, func(f *fixture) {
		c := store.NewChange()
		userdb.Deactivate(c, f.user.UserNum)
		if _, err := f.store.Commit(f.t.Context(), c); err != nil {
			f.t.Fatal(err)
		}
		_, err := f.Upload(f.t.Context(), f.user, media.Upload{Body: strings.NewReader("x"), Size: 1})
		if !errors.Is(err, store.ErrDeactivated) || len(f.files()) > 0 {
			f.t.Errorf("an upload ends with %v and leaves %v", err, f.files())
		}
	})
}

// fullPlace takes nothing.
type fullPlace struct{ blob.Place }

var errFull = errors.New("no space left")

func (fullPlace) Put(context.Context, string, *blob.Spool) error { return errFull }

func TestFull_place_refuses_and_keeps_nothing(t *testing.T) {
	onEach(t, func(f *fixture) {
		full := newFixture(f.t, f.store, fullPlace{})
		_, err := full.Upload(f.t.Context(), full.user, media.Upload{Body: strings.NewReader("x"), Size: 1})
		if !errors.Is(err, errFull) || len(full.files()) > 0 {
			f.t.Errorf("an upload ends with %v and leaves %v", err, full.files())
		}
		uri, _, err := full.Create(f.t.Context(), full.user)
		f.must(err)
		if err := full.UploadTo(f.t.Context(), full.user, uri, media.Upload{Body: strings.NewReader("x"), Size: 1}); !errors.Is(err, errFull) {
			f.t.Errorf("an upload to an address ends with %v", err)
		}
		f.must(f.UploadTo(f.t.Context(), f.user, uri, media.Upload{Body: strings.NewReader("x"), Size: 1})) // when there is room again
		if got, err := f.read(uri); err != nil || got != "x" {
			f.t.Errorf("then it is %q, %v", got, err)
		}
	})
}

// fullDisk takes some bytes.
type fullDisk struct {
	io.Writer
	room int
}

func (d *fullDisk) Write(p []byte) (n int, err error) {
	n, err = d.Writer.Write(p[:min(len(p), d.room)])
	if d.room -= n; err == nil && n < len(p) {
		err = &os.PathError{Op: "write", Path: "spool", Err: syscall.ENOSPC}
	}
	return n, err
}

func TestFull_disk_keeps_nothing(t *testing.T) {
	onEach(t, func(f *fixture) {
		full := newFixture(f.t, f.store, nil, func(o *media.Options) {
			o.Disk = func(w io.Writer) io.Writer { return &fullDisk{w, 100} }
		})
		_, err := full.Upload(f.t.Context(), full.user, media.Upload{Body: strings.NewReader(strings.Repeat("x", 101)), Size: -1})
		if !errors.Is(err, blob.ErrFull) || len(full.files()) > 0 {
			f.t.Errorf("an upload ends with %v and leaves %v", err, full.files())
		}
		full.upload("small enough")
	})
}
