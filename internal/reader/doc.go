// Package reader provides durable readers of the stream, and durable jobs, for everything
// that reacts to changes.
//
// A [Reader] receives the rows of the stream in order, from its cursor on. A [Job] is
// work with a due time that is enqueued in the commit that causes it. The cluster chooses
// one instance at a time to process each shard of them. Both survive restarts and
// continue where they were. Failed work is retried with growing pauses, and finally set
// aside: kept, counted, logged and listed by "stoa jobs list".
//
// It owns the tables reader_cursors, reader_aside and jobs (package readerdb has their
// SQL). Their growth: one cursor for each shard of each reader; rows set aside are
// deleted after 90 days; a job is deleted when it is done. It never decides what a row or
// a job means, and it never calls the network.
//
// The invariant: every row and every job is processed at least once, and only an owner
// whose lease number a cursor or a job still has can change it. An owner that was paused
// changes nothing when it resumes.
package reader
