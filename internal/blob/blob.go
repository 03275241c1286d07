// Package blob keeps the bytes of media under names, in a folder or in an S3-compatible bucket.
//
// It owns the files below the media folder and the objects below the prefix of the bucket. It knows nothing of what they
// are: names, sizes and who needs them are in the database.
//
// The invariant that matters: a name never changes its content. A blob is there whole or not at all, also after a crash,
// and bytes pass through a spool file, so that the size of a blob takes no memory.
package blob

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// ErrNotFound says that there is no blob of a name.
var ErrNotFound = errors.New("blob: not found")

var (
	// ErrTooLarge says that what was to be spooled has more bytes than it may.
	ErrTooLarge = errors.New("blob: too large")
	// ErrFull says that the disk or the bucket has no room. Nothing was kept.
	ErrFull = errors.New("blob: no room left")
	// ErrUnreachable says that the bucket did not answer, or that it failed.
	ErrUnreachable = errors.New("blob: the bucket can't be reached")
)

// Content reads a blob. It can be read from several places, as ranges of a download need it.
type Content interface {
	io.ReadSeekCloser
}

// Entry is a blob in a listing.
type Entry struct {
	Name    string
	Size    int64
	Written time.Time
}

// Place is where blobs are kept. Errors other than ErrNotFound are faults of the disk or the bucket.
type Place interface {
	// Put takes over a spooled file under a name that no blob has had. The spool is gone afterwards.
	Put(ctx context.Context, name string, s *Spool) error
	// Open gives the bytes of a blob, or ErrNotFound.
	Open(ctx context.Context, name string) (Content, error)
	// Delete removes a blob. One that is not there is no error.
	Delete(ctx context.Context, name string) error
	// List calls each for all blobs, in no order. An error ends it.
	List(ctx context.Context, each func(Entry) error) error
	// Check reports why blobs can't be written or read now: ErrFull, ErrUnreachable, or a fault of the settings.
	Check(ctx context.Context) error
}

// NewName makes the name of a blob: the hash of its content, and a random part, so that a blob which is being deleted and
// one of the same content which is being written never meet.
func NewName(hash [sha256.Size]byte) string {
	var random [6]byte
	rand.Read(random[:]) // never fails
	return hex.EncodeToString(hash[:]) + "-" + hex.EncodeToString(random[:])
}

// isName says whether a text has the form that NewName gives.
func isName(s string) bool {
	const hash, random = 2 * sha256.Size, 12
	if len(s) != hash+1+random || s[hash] != '-' {
		return false
	}
	_, err1 := hex.DecodeString(s[:hash])
	_, err2 := hex.DecodeString(s[hash+1:])
	return err1 == nil && err2 == nil
}

// Spool is a file of bytes that have arrived and are kept nowhere yet.
type Spool struct {
	Size int64
	Hash [sha256.Size]byte
	file *os.File
}

// spoolPrefix begins the names of spool files.
const spoolPrefix = "spool-"

// Spools makes spool files.
type Spools struct {
	Dir string
	// Disk stands between spools and their files; nil = nothing. Tests break disks with it.
	Disk func(io.Writer) io.Writer
}

// New copies what src gives into a new file, up to a number of bytes, else ErrTooLarge. ErrFull says that the disk is full.
// Errors of src are given as they are.
func (sp Spools) New(src io.Reader, limit int64) (s *Spool, err error) {
	file, err := os.CreateTemp(sp.Dir, spoolPrefix+"*")
	if err != nil {
		return nil, diskError("make a spool file", err)
	}
	s = &Spool{file: file}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	var disk io.Writer = file
	if sp.Disk != nil {
		disk = sp.Disk(file)
	}
	hash := sha256.New()
	s.Size, err = io.Copy(io.MultiWriter(diskWriter{disk}, hash), io.LimitReader(src, limit+1))
	if err != nil {
		return s, err
	}
	if s.Size > limit {
		return s, ErrTooLarge
	}
	hash.Sum(s.Hash[:0])
	_, err = file.Seek(0, io.SeekStart)
	return s, err
}

// NewSpool makes a spool file in a folder.
func NewSpool(dir string, src io.Reader, limit int64) (*Spool, error) {
	return Spools{Dir: dir}.New(src, limit)
}

// diskWriter tells the errors of the disk from those of a source.
type diskWriter struct{ io.Writer }

func (w diskWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		err = diskError("write a spool file", err)
	}
	return n, err
}

// diskError is an error of the disk with what failed. A disk without room gives ErrFull.
func diskError(action string, err error) error {
	if isFull(err) {
		return fmt.Errorf("blob: %s: %w: %w", action, ErrFull, err)
	}
	return fmt.Errorf("blob: %s: %w", action, err)
}

// Read calls f with the bytes, before a place takes them over.
func (s *Spool) Read(f func(io.ReadSeeker) error) error {
	err := f(s.file)
	_, err2 := s.file.Seek(0, io.SeekStart)
	return errors.Join(err, err2)
}

// Close removes the file, unless a place has taken it over.
func (s *Spool) Close() error {
	if s.file == nil {
		return nil
	}
	name := s.file.Name()
	err := errors.Join(s.file.Close(), os.Remove(name))
	s.file = nil
	return err
}

// CleanSpools removes the spool files that a process left in a folder when it was killed: those not written to for an hour.
func CleanSpools(dir string, now time.Time) error {
	names, err := filepath.Glob(filepath.Join(dir, spoolPrefix+"*"))
	if err != nil {
		return err
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("blob: clean up: %w", err)
		}
		if now.Sub(info.ModTime()) < time.Hour {
			continue
		}
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("blob: clean up: %w", err)
		}
	}
	return nil
}
