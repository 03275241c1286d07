package clientapi

import (
	"context"
	"net/http"

	"stoa/internal/auth"
	"stoa/internal/directory"
	"stoa/internal/history"
	"stoa/internal/httpkit"
	"stoa/internal/token"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

type visibilityAnswer struct {
	Visibility string `json:"visibility"`
}

// roomVisibility serves GET /_matrix/client/v3/directory/list/room/{roomId}.
//
// Spec: client-server-api#get_matrixclientv3directorylistroomroomid
func (a *API) roomVisibility(r *http.Request) (visibilityAnswer, error) {
	viewer, err := a.viewer(r)
	if err != nil {
		return visibilityAnswer{}, err
	}
	roomID, err := roomOfPath(r)
	if err != nil {
		return visibilityAnswer{}, err
	}
	visibility, err := a.visibilityOf(r.Context(), viewer, roomID)
	return visibilityAnswer{visibility}, err
}

// visibilityOf is whether a room is in the list of published rooms: public or private.
func (a *API) visibilityOf(ctx context.Context, viewer id.UserID, roomID id.RoomID) (string, error) {
	published, err := a.directory.IsPublished(ctx, viewer, roomID)
	if published {
		return visibilityPublic, err
	}
	return visibilityPrivate, err
}

// setRoomVisibility serves PUT /_matrix/client/v3/directory/list/room/{roomId}.
//
// Spec: client-server-api#put_matrixclientv3directorylistroomroomid
func (a *API) setRoomVisibility(r *http.Request) (httpkit.Empty, error) {
	none := httpkit.Empty{}
	caller, roomID, err := a.actorInRoom(r)
	if err != nil {
		return none, err
	}
	body := visibilityAnswer{Visibility: visibilityPublic}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return none, err
	}
	if body.Visibility != visibilityPublic && body.Visibility != visibilityPrivate {
		return none, mxerr.InvalidParam("visibility must be public or private")
	}
	err = a.directory.Publish(r.Context(), caller.UserID, caller.Admin, roomID, body.Visibility == visibilityPublic)
	if caller.Admin {
		return none, err
	}
	return none, a.history.HideFrom(r.Context(), caller.UserID, roomID, err)
}

type publicRoomsAnswer struct {
	Chunk     []directory.Published `json:"chunk"`
	NextBatch string                `json:"next_batch,omitempty"`
	PrevBatch string                `json:"prev_batch,omitempty"`
	Total     int64                 `json:"total_room_count_estimate"`
}

// publicRooms serves GET /_matrix/client/v3/publicRooms.
//
// Spec: client-server-api#get_matrixclientv3publicrooms
func (a *API) publicRooms(r *http.Request) (publicRoomsAnswer, error) {
	query, err := httpkit.ParseQuery(r)
	if err != nil {
		return publicRoomsAnswer{}, err
	}
	var q directory.PublishedQuery
	if q.Limit, err = query.Limit("limit", 0, maxPageSize); err != nil {
		return publicRoomsAnswer{}, err
	}
	return a.listPublicRooms(r, query, q, query.Get("since"))
}

// searchPublicRooms serves POST /_matrix/client/v3/publicRooms.
//
// Spec: client-server-api#post_matrixclientv3publicrooms
func (a *API) searchPublicRooms(r *http.Request) (publicRoomsAnswer, error) {
	if _, err := a.auth.Caller(r); err != nil {
		return publicRoomsAnswer{}, err
	}
	query, err := httpkit.ParseQuery(r)
	if err != nil {
		return publicRoomsAnswer{}, err
	}
	var body struct {
		Limit  *int64 `json:"limit"`
		Since  string `json:"since"`
		Filter struct {
			Term      string    `json:"generic_search_term"`
			RoomTypes []*string `json:"room_types"`
		} `json:"filter"`
		AllNetworks bool   `json:"include_all_networks"`
		Instance    string `json:"third_party_instance_id"`
	}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return publicRoomsAnswer{}, err
	}
	q := directory.PublishedQuery{Term: body.Filter.Term}
	if body.Limit != nil {
		if *body.Limit < 1 {
			return publicRoomsAnswer{}, mxerr.InvalidParam("limit must be a positive integer")
		}
		q.Limit = int(min(*body.Limit, maxPageSize))
	}
	if body.Instance != "" {
		if body.AllNetworks {
			return publicRoomsAnswer{}, mxerr.InvalidParam("third_party_instance_id can't be used with include_all_networks")
		}
		return publicRoomsAnswer{Chunk: []directory.Published{}}, nil // there are no third-party networks here
	}
	if body.Filter.RoomTypes != nil {
		q.RoomTypes = []string{}
		for _, roomType := range body.Filter.RoomTypes {
			if roomType == nil {
				roomType = new(string)
			}
			q.RoomTypes = append(q.RoomTypes, *roomType)
		}
	}
	return a.listPublicRooms(r, query, q, body.Since)
}

// listPublicRooms asks for a page from the place that since stands for.
func (a *API) listPublicRooms(r *http.Request, query httpkit.Query, q directory.PublishedQuery, since string) (publicRoomsAnswer, error) {
	if text, ok := query.Lookup("server"); ok {
		server, err := id.ParseServerName(text)
		if err != nil {
			return publicRoomsAnswer{}, mxerr.InvalidParam("%q is not a server name", text).Because(err)
		}
		if server != a.opt.ServerName {
			return publicRoomsAnswer{}, mxerr.NotFound("The server %s can't be asked for its rooms", server)
		}
	}
	if since != "" {
		place, err := token.ParsePublished(since)
		if err != nil {
			return publicRoomsAnswer{}, mxerr.InvalidParam("since is not a token of this list").Because(err)
		}
		q.Since = &place
	}
	page, err := a.directory.PublishedRooms(r.Context(), q)
	answer := publicRoomsAnswer{Chunk: page.Rooms, Total: page.Total}
	if page.Next != nil {
		answer.NextBatch = page.Next.String()
	}
	if page.Prev != nil {
		answer.PrevBatch = page.Prev.String()
	}
	return answer, err
}

// viewer is the caller of an endpoint that needs none, zero for nobody.
func (a *API) viewer(r *http.Request) (id.UserID, error) {
	if !auth.HasToken(r) {
		return id.UserID{}, nil
	}
	caller, err := a.auth.Caller(r)
	return caller.UserID, err
}

// roomSummary serves GET /_matrix/client/v1/room_summary/{roomIdOrAlias}.
//
// Spec: client-server-api#get_matrixclientv1room_summaryroomidoralias
func (a *API) roomSummary(r *http.Request) (directory.Summary, error) {
	viewer, err := a.viewer(r)
	if err != nil {
		return directory.Summary{}, err
	}
	roomID, err := a.roomByName(r)
	if err != nil {
		return directory.Summary{}, err
	}
	return a.directory.Summarize(r.Context(), viewer, roomID)
}

type hierarchyAnswer struct {
	Rooms     []directory.Child `json:"rooms"`
	NextBatch string            `json:"next_batch,omitempty"`
}

// hierarchy serves GET /_matrix/client/v1/rooms/{roomId}/hierarchy.
//
// Spec: client-server-api#get_matrixclientv1roomsroomidhierarchy
func (a *API) hierarchy(r *http.Request) (hierarchyAnswer, error) {
	caller, roomID, err := a.callerInRoom(r)
	if err != nil {
		return hierarchyAnswer{}, err
	}
	query, err := httpkit.ParseQuery(r)
	if err != nil {
		return hierarchyAnswer{}, err
	}
	var q directory.HierarchyQuery
	if q.SuggestedOnly, err = query.Bool("suggested_only", false); err != nil {
		return hierarchyAnswer{}, err
	}
	depth, err := query.Int("max_depth", directory.HierarchyDepth, 0, 1<<31)
	if err != nil {
		return hierarchyAnswer{}, err
	}
	q.MaxDepth = int(depth)
	if q.Limit, err = query.Limit("limit", relationsPageSize, maxPageSize); err != nil {
		return hierarchyAnswer{}, err
	}
	if from := query.Get("from"); from != "" {
		place, err := token.ParseHierarchy(from)
		if err != nil {
			return hierarchyAnswer{}, mxerr.InvalidParam("from is not a token of this server").Because(err)
		}
		q.From = &place
	}
	page, err := a.directory.Hierarchy(r.Context(), caller.UserID, roomID, q)
	if err != nil {
		return hierarchyAnswer{}, history.HideUnknown(err)
	}
	answer := hierarchyAnswer{Rooms: page.Rooms}
	if page.Next != nil {
		answer.NextBatch = page.Next.String()
	}
	return answer, nil
}
