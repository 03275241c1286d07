// Package reader is what everything that reacts to changes stands on: durable
// readers of the stream, and durable jobs.
//
// A [Reader] is handed the rows of the stream in order, from its cursor on. A [Job]
// is work with a due time that is enqueued in the commit that causes it. Both are
// worked off by one instance at a time for each shard, which the cluster chooses;
// both survive restarts and go on where they were. What fails is tried again with
// growing pauses, and in the end set aside: kept, counted, logged and shown by
// "stoa jobs list".
//
// It owns the tables reader_cursors, reader_aside and jobs (package readerdb has
// their SQL). Their growth: a cursor for each shard of each reader; what is set
// aside is deleted after 90 days; a job is deleted when it is done. It never
// decides what a row or a job means, and it never calls the network.
//
// The invariant that matters: every row and every job is dealt with at least once,
// and a cursor or a job is only changed by an owner whose lease number it still
// has. An owner that was paused changes nothing when it comes back.
package reader
