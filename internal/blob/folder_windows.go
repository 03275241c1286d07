package blob

import "syscall"

// errCrossDevice says that a file can't be renamed, since its new name is on another volume.
const errCrossDevice = syscall.Errno(17) // ERROR_NOT_SAME_DEVICE

// ignoreUnsupported drops the error of syncing a folder, which Windows does not do.
func ignoreUnsupported(error) error { return nil }
