package store

import (
	"errors"
	"fmt"
	"syscall"
)

// fileLock is held as long as a SQLite store is open, so that no second
// process opens it. It ends with the process.
type fileLock struct{ h syscall.Handle }

// errSharingViolation is Windows's error for a file that another process has open
// exclusively.
const errSharingViolation syscall.Errno = 32

func lockFile(path string) (*fileLock, error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	h, err := syscall.CreateFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, nil,
		syscall.OPEN_ALWAYS, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	if errors.Is(err, errSharingViolation) {
		return nil, fmt.Errorf("%w: %s is locked", ErrInUse, path)
	}
	if err != nil {
		return nil, err
	}
	return &fileLock{h}, nil
}

func (l *fileLock) unlock() error { return syscall.CloseHandle(l.h) }
