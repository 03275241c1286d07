// Package cluster joins several instances on one database to one server.
//
// It owns membership (the table instances: a lease each, renewed by the database's
// clock), the choice of a home for each room and of an owner for each kind of
// outgoing work (rendezvous hashing over the live instances), the forwarding of
// requests to homes, and the replication of committed changes to peers. Each pair of
// instances shares one TLS connection, on which both sides present the certificate
// that they announced in the table, and on which many requests share a TLS record
// (frame.go, outbox.go; caller.go sends requests, callee.go answers them). It never
// decides what a request does. It does no fencing: two instances that both believe they
// are the home of a room can't fork it, since the commit checks the room's head.
//
// The invariant: some instance serves every request, and a request is
// served twice only if its transaction ID makes the second time harmless.
//
// # Constants
//
// Each is a bound, or its comment gives the measured gain. New ones need the same.
//
//   - DefaultTimes have effects that operators see: a silent peer is noticed within 3 s, a dead one within 6 s.
//     rereadEvery bounds how often connections of unknown instances cause a read of the table.
//   - Requests: streams, spareStreams and maxUnderWay bound the requests in flight on a connection, maxBlock, maxBody
//     and maxAnswer a frame, maxGathered the buffer of the connection. Beyond them the instance that received
//     a request serves it itself. attempts bounds the connections that are tried for a request.
//   - Connections: connections bounds them, goAwayTime the wait for a peer to close after a go-away frame. acceptPause is
//     the time between attempts when the process has too many open files.
//   - manyUnderWay is the load from which the frames of a connection share a write.
//   - Memory: inbox is the size of a read (four TLS records); keptOutbox and keptAnswer bound the buffers that are
//     kept for reuse.
//   - Replication: replicationBacklog and replicationsAtOnce bound the queued and in-flight batches for a peer,
//     replicationPause is the pause for a peer that needs no more for now. Peers read missed batches from the
//     database.
package cluster
