//go:build unix

package blob

func ignoreUnsupported(err error) error { return err }
