// Package keydb keeps keys: those of devices and of cross-signing, one-time and
// fallback keys, signatures, key backups, messages that wait for a device, and the
// server's own signing keys.
//
// It owns the tables device_keys, one_time_keys, fallback_keys, cross_signing_keys,
// key_signatures, key_backups, key_backup_sessions, to_device and signing_keys. It
// never looks into a key: they are JSON, or bytes that package serverkey sealed.
//
// The invariant that matters: a one-time key is given out once. The statement that
// claims it decides, and the change that comes second fails with [ErrKeyTaken].
//
// Functions that take a [store.Read] may be called by everybody. Those that write
// are called by package e2ee, for signing keys by package serverkey.
package keydb
