// Package store is the engine of the database: connections to SQLite and
// PostgreSQL, one SQL text for both, the commit queue that merges waiting changes into
// transactions, the one stream of positions, the heads of rooms and users, interned
// strings and numbers, migrations, and the leases of instances.
//
// The tables are beside it: store/roomdb, store/userdb, store/keydb and
// store/readerdb each own the SQL of a family of tables, on [Prepare], [Query],
// [QueryOne], [QueryEach], [Change.Exec] and [Tx.Exec]; store/doctor checks what
// they say of each other. The engine itself writes the tables meta, migrations,
// numbers, state_keys, stream and instances, and the rows of rooms and users, whose
// heads move with a commit. It never judges an event, never talks to the network,
// and has no callbacks: readers follow the stream.
//
// The invariant that matters: a reader that has seen position p never later
// finds anything at or below p. Positions are given by the last statements of
// a transaction, under a lock that is taken last and released by its commit.
//
// Three ways in:
//
//   - [Store.Commit] takes a [Change]: rows to write, and the heads of rooms
//     and users that it was built on. Waiting changes share one transaction.
//   - [Store.Read] gives a [Read]: one snapshot on one connection.
//   - [Store.Write] runs rare things (leases, sessions, admin) between groups;
//     nothing that has a head or a position.
//
// # Constants
//
// Each number of the engine is a bound or has a measured gain; another one needs the same.
//
//   - Groups: groupChanges and groupBytes bound what one transaction holds in memory, and how long
//     the lock of the stream is held. [LowPriorityGap] lets receipts share the groups of messages:
//     65 groups a second instead of 110. Options.QueueLimit bounds what waits.
//   - Failing groups: groupTries, writeTries and migrateTries bound repetitions. groupTimeout ends a
//     group whose database is silent, groupIdle (in the database) one whose instance is frozen and
//     holds locks for which others wait. resolveTimeout and resolveWait bound the question whether
//     a commit came through before its connection broke.
//   - Barriers: barrierGap lets callers share queries, 500 a second at most. barrierQuery and
//     barrierWait bound the wait of a request for a database that does not answer. barrierRowLimit
//     bounds the rows that a barrier also reads: a reader that is further behind reads the store.
//   - Connections: four a core, 8 to 32, since most of a query's time is waiting; a pool of 10 served
//     1,000 users. pgUnreachable and those beside it let an instance that is cut off from its
//     database say so within 3 s.
//   - Plans: one for all values, by the index (openPostgres): 91 µs instead of 284 for a receipt.
//   - Memory: subscriptionLimit bounds the batches that wait for a slow reader, ownGroups the transactions
//     by which an instance knows its own rows, internCache the strings whose numbers are known,
//     pipedKeys the queries sent without waiting for answers. Each falls back on a query.
//   - SQLite: pages of 8 KiB keep events of 2 kB off pages of their own, checkpointPages bounds the
//     log, and idleCheckpoint copies it when nobody waits for it.
package store
