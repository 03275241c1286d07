// Package maildb stores what sending mail needs beside its jobs: the budget, and the
// addresses whose mails came back.
//
// It owns the SQL of the tables mail_budget and mail_bounces. It knows neither mails nor
// servers: those are in package mail.
//
// The invariant that matters: the budget is decided by the statement that takes from it,
// with the database's clock, so that all instances together stay within it.
//
// Functions that take a [store.Read] may be called by everybody. Those that write are
// called by package mail.
package maildb
