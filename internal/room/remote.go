package room

import (
	"context"

	"stoa/matrix/id"
	"stoa/matrix/roomversion"
	"stoa/matrix/signing"
)

// Remote is what rooms ask of other servers. All raw events are as they came:
// whoever gets them checks them.
type Remote interface {
	// Keys returns a source of the keys of servers, with those fetched that the
	// signers of some events need. A server that can't be reached has none.
	Keys(ctx context.Context, wanted map[id.ServerName][]id.KeyID) (signing.KeySource, error)
	// Event fetches one event from a server.
	//
	// Spec: server-server-api#retrieving-events
	Event(ctx context.Context, from id.ServerName, rules *roomversion.Rules, eventID id.EventID) ([]byte, error)
	// MissingEvents fetches events between some known ones and some that refer
	// to unknown ones, oldest first.
	//
	// Spec: server-server-api#backfilling-and-retrieving-missing-events
	MissingEvents(ctx context.Context, from id.ServerName, roomID id.RoomID, known, latest []id.EventID, limit int) ([][]byte, error)
	// StateIDs fetches the state before an event, and the auth chain of that.
	//
	// Spec: server-server-api#retrieving-events
	StateIDs(ctx context.Context, from id.ServerName, roomID id.RoomID, eventID id.EventID) (state, authChain []id.EventID, err error)
}
