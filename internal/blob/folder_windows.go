package blob

// ignoreUnsupported drops the error of syncing a folder, which Windows does not do.
func ignoreUnsupported(error) error { return nil }
