package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Folder keeps blobs as files, 256 folders side by side.
type Folder struct {
	root string
}

// NewFolder makes the folder if it is not there, readable by nobody else.
func NewFolder(root string) (*Folder, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("blob: make the media folder: %w", err)
	}
	return &Folder{root: root}, nil
}

func (f *Folder) path(name string) (string, error) {
	if !isName(name) {
		return "", fmt.Errorf("blob: %q is no name of a blob", name)
	}
	return filepath.Join(f.root, name[:2], name), nil
}

// Put implements [Place]: the file is on disk when it returns. The spool must lie on the file system of the folder.
func (f *Folder) Put(_ context.Context, name string, s *Spool) error {
	path, err := f.path(name)
	if err != nil {
		return err
	}
	if err := f.put(path, s); err != nil {
		if s.file == nil { // it has its name already
			err = errors.Join(err, os.Remove(path))
		}
		return diskError("write", err)
	}
	return nil
}

func (f *Folder) put(path string, s *Spool) error {
	if err := s.file.Sync(); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	made := os.Mkdir(dir, 0o700)
	if made != nil && !errors.Is(made, fs.ErrExist) {
		return made
	}
	if err := os.Rename(s.file.Name(), path); err != nil {
		return err
	}
	err := s.file.Close()
	s.file = nil
	if err != nil {
		return err
	}
	if made == nil {
		if err := syncDir(f.root); err != nil {
			return err
		}
	}
	return syncDir(dir)
}

// syncDir makes new names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(ignoreUnsupported(d.Sync()), d.Close())
}

// Open implements [Place].
func (f *Folder) Open(_ context.Context, name string) (Content, error) {
	path, err := f.path(name)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("blob: read: %w", err)
	}
	return file, nil
}

// Delete implements [Place].
func (f *Folder) Delete(_ context.Context, name string) error {
	path, err := f.path(name)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("blob: delete: %w", err)
	}
	return nil
}

// List implements [Place].
func (f *Folder) List(ctx context.Context, each func(Entry) error) error {
	return filepath.WalkDir(f.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // deleted meanwhile
			}
			return fmt.Errorf("blob: list: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if d.IsDir() || !isName(d.Name()) {
			return nil
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("blob: list: %w", err)
		}
		return each(Entry{Name: d.Name(), Size: info.Size(), Written: info.ModTime()})
	})
}

// probeSize is how much Check writes: more than the smallest file takes on any file system.
const probeSize = 64 << 10

// Check implements [Place] by writing a file and removing it.
func (f *Folder) Check(context.Context) error {
	s, err := NewSpool(f.root, io.LimitReader(zeros{}, probeSize), probeSize)
	if err != nil {
		return err
	}
	err = s.file.Sync()
	if err != nil {
		err = diskError("write", err)
	}
	return errors.Join(err, s.Close())
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
