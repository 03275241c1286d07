package clientapi

import (
	"encoding/json"
	"net/http"

	"stoa/internal/history"
	"stoa/internal/httpkit"
)

// Sizes of pages of relations and threads.
const (
	relationsPageSize = 50
	threadsPageSize   = 20
	maxThreads        = 100
)

type relationsAnswer struct {
	Chunk          []json.RawMessage `json:"chunk"`
	NextBatch      string            `json:"next_batch,omitempty"`
	PrevBatch      string            `json:"prev_batch,omitempty"`
	RecursionDepth *int              `json:"recursion_depth,omitempty"`
}

// relations serves GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId} and
// its forms with {relType} and {eventType}.
//
// Spec: client-server-api#get_matrixclientv1roomsroomidrelationseventid
func (a *API) relations(r *http.Request) (relationsAnswer, error) {
	caller, roomID, eventID, err := a.callerAndEvent(r)
	if err != nil {
		return relationsAnswer{}, err
	}
	query, err := httpkit.ParseQuery(r)
	if err != nil {
		return relationsAnswer{}, err
	}
	q := history.RelationsQuery{EventID: eventID, RelType: r.PathValue("relType"), EventType: r.PathValue("eventType")}
	if q.Dir, err = optionalDirection(query, either(query, "dir", "org.matrix.msc3715.dir")); err != nil {
		return relationsAnswer{}, err
	}
	if q.From, err = tokenOf(query, "from"); err != nil {
		return relationsAnswer{}, err
	}
	if q.To, err = tokenOf(query, "to"); err != nil {
		return relationsAnswer{}, err
	}
	if q.Limit, err = query.Limit("limit", relationsPageSize, maxPageSize); err != nil {
		return relationsAnswer{}, err
	}
	if q.Recurse, err = query.Bool(either(query, "recurse", "org.matrix.msc3981.recurse"), false); err != nil {
		return relationsAnswer{}, err
	}
	page, err := a.history.Relations(r.Context(), caller.UserID, roomID, q)
	if err != nil {
		return relationsAnswer{}, err
	}
	answer := relationsAnswer{Chunk: showAll(a.reader(caller), roomID, page.Events), PrevBatch: query.Get("from")}
	if page.HasEnd {
		answer.NextBatch = page.End.String()
	}
	if q.Recurse {
		answer.RecursionDepth = &page.Depth
	}
	return answer, nil
}

// threads serves GET /_matrix/client/v1/rooms/{roomId}/threads.
//
// Spec: client-server-api#get_matrixclientv1roomsroomidthreads
func (a *API) threads(r *http.Request) (relationsAnswer, error) {
	caller, roomID, err := a.callerInRoom(r)
	if err != nil {
		return relationsAnswer{}, err
	}
	query, err := httpkit.ParseQuery(r)
	if err != nil {
		return relationsAnswer{}, err
	}
	var q history.ThreadsQuery
	include, err := query.Enum("include", "all", "participated")
	if err != nil {
		return relationsAnswer{}, err
	}
	q.Participated = include == "participated"
	if q.From, err = tokenOf(query, "from"); err != nil {
		return relationsAnswer{}, err
	}
	if q.Limit, err = query.Limit("limit", threadsPageSize, maxThreads); err != nil {
		return relationsAnswer{}, err
	}
	page, err := a.history.Threads(r.Context(), caller.UserID, roomID, q)
	if err != nil {
		return relationsAnswer{}, history.HideUnknown(err)
	}
	answer := relationsAnswer{Chunk: showAll(a.reader(caller), roomID, page.Events)}
	if page.HasEnd {
		answer.NextBatch = page.End.String()
	}
	return answer, nil
}
