// Package store is the engine of the database: connections to SQLite and
// PostgreSQL, one SQL text for both, the commit queue that merges waiting changes into
// transactions, the one stream of positions, the heads of rooms and users, interned
// strings and numbers, migrations, and the leases of instances.
//
// Other packages own the tables: store/roomdb, store/userdb, store/keydb and
// store/readerdb each have the SQL of a family of tables, and use [Prepare], [Query],
// [QueryOne], [QueryEach], [Change.Exec] and [Tx.Exec]; store/doctor checks that they
// are consistent. The engine itself writes the tables meta, migrations,
// numbers, state_keys, stream and instances, and the rows of rooms and users, whose
// heads move with a commit. It never judges an event, never talks to the network,
// and has no callbacks: readers follow the stream.
//
// The invariant: a reader that has seen position p never later finds a new change at or
// below p. The last statements of a transaction assign the positions, under a lock that
// is taken last and released by its commit.
//
// There are three entry points:
//
//   - [Store.Commit] takes a [Change]: rows to write, and the heads of rooms
//     and users that it was built on. Waiting changes share one transaction.
//   - [Store.Read] opens a [Read]: one snapshot on one connection.
//   - [Store.Write] runs rare writes (leases, sessions, administration) between groups,
//     which have neither head nor position.
//
// # Constants
//
// Each constant of the engine is a bound or has a measured gain. New ones need the same.
//
//   - Groups: groupChanges and groupBytes bound what one transaction holds in memory, and how long
//     the lock of the stream is held. [LowPriorityGap] lets receipts share the groups of messages:
//     65 groups a second instead of 110. Options.QueueLimit bounds the queue.
//   - Failing groups: groupTries, writeTries and migrateTries bound repetitions. groupTimeout ends a
//     group whose database is silent, groupIdle (in the database) one whose instance is frozen while
//     it holds locks. resolveTimeout and resolveWait bound the check whether a commit succeeded
//     before its connection broke.
//   - Barriers: barrierGap lets callers share queries, 500 a second at most. barrierQuery and
//     barrierWait bound the time that a request waits for a silent database. barrierRowLimit
//     bounds the rows that a barrier also reads: a reader that is further behind reads the store.
//   - Connections: four a core, 8 to 32, since most of a query's time is waiting; a pool of 10 served
//     1,000 users. pgUnreachable and the constants after it let an instance notice within 3 s that
//     its database is unreachable.
//   - Plans: one for all values, by the index (openPostgres): 91 µs instead of 284 for a receipt.
//   - Memory: subscriptionLimit bounds the batches that wait for a slow reader, ownGroups the transactions
//     by which an instance recognises its own rows, internCache the strings whose numbers are known,
//     pipedKeys the queries sent without waiting for answers. Beyond each, a query does the work.
//   - SQLite: pages of 8 KiB keep events of 2 kB from taking a page each, checkpointPages bounds the
//     log, and idleCheckpoint copies it in idle time.
package store
