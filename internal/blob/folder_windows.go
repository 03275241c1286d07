package blob

import (
	"errors"
	"syscall"
)

// ignoreUnsupported drops the error of syncing a folder, which Windows does not do.
func ignoreUnsupported(error) error { return nil }

// Errors of Windows: ERROR_HANDLE_DISK_FULL and ERROR_DISK_FULL.
const (
	handleDiskFull syscall.Errno = 39
	diskFull       syscall.Errno = 112
)

// isFull says whether an error of the disk means that it has no room.
func isFull(err error) bool { return errors.Is(err, diskFull) || errors.Is(err, handleDiskFull) }
