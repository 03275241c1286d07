// Package userdb stores local users: accounts, profiles, devices, tokens, account data,
// filters, presence, rate limits, and the state of their authentication.
//
// It owns the tables profiles, registration_tokens, devices, dehydrated_devices, access_tokens,
// refresh_tokens, login_tokens, openid_tokens, uia_sessions, uia_stages, limits, account_data, filters
// and presence, and the columns of an account in users; package store writes the row
// itself with its head and slot. It never hashes a password or a token: its callers do.
//
// The invariant: a write that devices must learn of takes a slot of the user in the same
// [store.Change], so that it has a row of the stream.
//
// Every package may call functions that take a [store.Read]. Functions that write are
// called only by the owners in internal/devtools/rules: account, auth, e2ee, userdata and
// ephemeral, each for its tables.
package userdb
