//go:build unix

package blob

import (
	"errors"
	"syscall"
)

func ignoreUnsupported(err error) error { return err }

// isFull says whether an error of the disk means that it has no room, or the user's quota.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
