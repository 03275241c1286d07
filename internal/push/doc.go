// Package push notifies phones: it tells the push gateways that users' apps have named about events that concern them, and
// about the number of unread events.
//
// It owns the tables pushers and push_queue (package pushdb has their SQL), the requests to gateways, and the limits of both.
// It never decides what notifies whom: the users' push rules do (package pushrule). It writes no row for a notification that
// its gateway takes at once.
//
// The invariant: each notification that is owed is taken by its gateway, or waits in the queue of its pusher, or is in a row of
// the stream that the reader has not passed. So nothing is lost with an instance; only a notification that was answered just
// before one was killed may be sent again, with the same event ID.
//
// Spec: client-server-api#push-notifications, push-gateway-api
package push
