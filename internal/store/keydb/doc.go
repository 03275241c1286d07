// Package keydb stores keys: those of devices and of cross-signing, one-time and fallback
// keys, signatures, key backups, queued to-device messages, and the server's own signing
// keys.
//
// It owns the tables device_keys, one_time_keys, fallback_keys, cross_signing_keys,
// key_signatures, key_backups, key_backup_sessions, to_device and signing_keys. Keys are
// opaque to it: JSON, or bytes that package serverkey sealed.
//
// The invariant: a one-time key is given out once. The claiming statement decides, and a
// second change fails with [ErrKeyTaken].
//
// Every package may call functions that take a [store.Read]. Functions that write are
// called only by package e2ee, and by package serverkey for signing keys.
package keydb
