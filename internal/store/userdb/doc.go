// Package userdb keeps local users: accounts, profiles, devices, tokens, account
// data, filters, presence, and what limits and authenticates their requests.
//
// It owns the tables profiles, registration_tokens, devices, access_tokens,
// refresh_tokens, login_tokens, uia_sessions, uia_stages, limits, account_data,
// filters and presence, and the columns of an account in users; the row itself, its
// head and its slot are written by package store. It never hashes a password or a
// token: it stores what it is given.
//
// The invariant that matters: what devices are to hear of takes a slot of the user
// in the same [store.Change], so that no write is without its row of the stream.
//
// Functions that take a [store.Read] may be called by everybody. Those that write
// are called by the owners that internal/devtools/rules names: account, auth,
// userdata and ephemeral, each for its tables.
package userdb
