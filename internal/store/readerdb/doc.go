// Package readerdb keeps durable cursors on the stream, the rows of the stream
// that a reader set aside, and jobs.
//
// It owns the SQL of the tables reader_cursors, reader_aside and jobs. Only package
// reader writes them. It decides nothing: who owns a shard and when something is
// tried again is package reader's.
//
// The invariant that matters: what an owner changes, it changes only if the row
// still has the owner's lease, and the position or version that the owner last
// saw. An owner that was paused while another took over changes nothing.
package readerdb
