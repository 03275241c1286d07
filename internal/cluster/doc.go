// Package cluster joins several instances on one database to one server.
//
// It owns membership (the table instances: a lease each, renewed by the database's
// clock), the choice of a home for each room and of an owner for each kind of
// outgoing work (rendezvous hashing over the live instances), the forwarding of
// requests to homes, and the replication of committed changes to peers. Each pair of
// instances shares one TLS connection, on which both sides present the certificate
// that they announced in the table, and on which many requests share a TLS record
// (frame.go, outbox.go; caller.go asks, callee.go answers). It never decides what a
// request does, and fences nothing: two instances that both believe they are home of
// a room can't fork it, since the commit checks the room's head.
//
// The invariant that matters: some instance serves every request, and a request is
// served twice only if its transaction ID makes the second time harmless.
//
// # Constants
//
// Each is a bound, or its comment says what it gains. A new one needs the same.
//
//   - DefaultTimes are what operators see: a silent peer is noticed within 3 s, one that is gone within 6 s.
//     rereadEvery bounds how often connections of unknown instances cause a read of the table.
//   - Requests: streams, spareStreams and maxUnderWay bound the requests in flight on a connection, maxBlock, maxBody
//     and maxAnswer a frame, maxGathered what waits for the connection. Beyond them the instance that received
//     a request serves it itself. attempts bounds the connections on which sending is tried.
//   - Connections: connections bounds them, goAwayTime the wait for a peer to close after it was asked to. acceptPause is
//     the time between attempts when the process has too many open files.
//   - manyUnderWay is the load from which the frames of a connection share a write.
//   - Memory: inbox is the size of a read (four TLS records); keptOutbox and keptAnswer bound the buffers that are
//     kept for reuse.
//   - Replication: replicationBacklog and replicationsAtOnce bound what waits and what is in flight for a peer,
//     replicationPause is how long nothing is sent to a peer that needs no more. Peers read from the database
//     what they did not receive.
package cluster
