//go:build unix

package blob

import "syscall"

// errCrossDevice says that a file can't be renamed, since its new name is on another file system.
const errCrossDevice = syscall.EXDEV

func ignoreUnsupported(err error) error { return err }
