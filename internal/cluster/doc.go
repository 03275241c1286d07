// Package cluster is what several instances on one database know of each other.
//
// It owns membership (the table instances: a lease each, renewed by the database's
// clock), the choice of a home for each room and of an owner for each kind of
// outgoing work (rendezvous hashing over the live instances), and the forwarding
// of requests to homes over one connection for each peer, on which both sides show
// the certificate that they announced in the table, and many requests share a record
// of TLS (frame.go, outbox.go; caller.go asks, callee.go answers). It never decides
// what a request does, and fences nothing: two instances that both believe they are
// home of a room can't fork it, since its head decides.
//
// The invariant that matters: a request is served at least by somebody who may,
// and at most twice only where its transaction ID makes the second time harmless.
//
// # Constants
//
// Each is a bound, or says what it gains; another one needs the same.
//
//   - DefaultTimes are what operators see: a silent peer is noticed within 3 s, one that is gone within 6 s.
//     rereadEvery bounds how often strangers have the table read.
//   - Requests: streams, spareStreams and maxUnderWay bound what is under way on a connection, maxBlock, maxBody
//     and maxAnswer a frame, maxGathered what waits for the connection. Beyond them the request is served by the
//     instance that was asked. attempts bounds the connections on which sending is tried.
//   - Connections: connections bounds them, goAwayTime the wait for a peer that was told to go, acceptPause is
//     between attempts when the process has too many files open.
//   - manyUnderWay has the frames of a busy connection share a write.
//   - Memory: inbox is read at a time (four records of TLS); keptOutbox and keptAnswer bound the buffers that are
//     kept for the next use.
//   - Handing over commits: handLimit and handsAtOnce bound what waits and what is under way for a peer, handRest
//     is how long a peer that has enough is left alone. What is lost is read from the store.
package cluster
