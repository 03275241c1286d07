// Package readerdb stores durable cursors on the stream, the rows that readers set aside,
// and jobs.
//
// It owns the SQL of the tables reader_cursors, reader_aside and jobs. Only package
// reader writes them, and decides who owns a shard and when work is retried.
//
// The invariant: an owner's write succeeds only if the row still has the owner's lease,
// and the position or version that the owner last read. An owner that was paused while
// another one took over changes nothing.
package readerdb
