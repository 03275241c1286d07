package clientapi

import (
	"encoding/json"
	"net/http"

	"stoa/internal/httpkit"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// owner gives the user of the path, who must be the caller.
func (a *API) owner(r *http.Request) (who.User, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return who.User{}, err
	}
	user, err := id.ParseUserID(r.PathValue("userId"))
	if err != nil {
		return who.User{}, mxerr.InvalidParam("%q is not a user ID", r.PathValue("userId")).Because(err)
	}
	if user != caller.UserID {
		return who.User{}, mxerr.Forbidden("This is not your own data")
	}
	return caller.User, nil
}

// ownersRoom gives the user of the path, who must be the caller, and the room of
// the path; the room is zero if the path has none.
func (a *API) ownersRoom(r *http.Request) (who.User, id.RoomID, error) {
	user, err := a.owner(r)
	if err != nil || r.PathValue("roomId") == "" {
		return user, id.RoomID{}, err
	}
	roomID, err := id.ParseRoomID(r.PathValue("roomId"))
	if err != nil {
		return user, roomID, mxerr.InvalidParam("%q is not a room ID", r.PathValue("roomId")).Because(err)
	}
	return user, roomID, nil
}

// setAccountData serves PUT /_matrix/client/v3/user/{userId}/account_data/{type}
// and PUT /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}.
//
// Spec: client-server-api#put_matrixclientv3useruseridaccount_datatype
func (a *API) setAccountData(r *http.Request) (httpkit.Empty, error) {
	none := httpkit.Empty{}
	user, roomID, err := a.ownersRoom(r)
	if err != nil {
		return none, err
	}
	content, err := httpkit.ReadObject(r, httpkit.MaxBody)
	if err != nil {
		return none, err
	}
	return none, a.data.SetAccountData(r.Context(), user, roomID, r.PathValue("type"), content)
}

// accountData serves GET /_matrix/client/v3/user/{userId}/account_data/{type}
// and GET /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}.
//
// Spec: client-server-api#get_matrixclientv3useruseridaccount_datatype
func (a *API) accountData(r *http.Request) (httpkit.Raw, error) {
	user, roomID, err := a.ownersRoom(r)
	if err != nil {
		return nil, err
	}
	content, err := a.data.AccountData(r.Context(), user, roomID, r.PathValue("type"))
	return httpkit.Raw(content), err
}

type roomTags struct {
	Tags map[string]json.RawMessage `json:"tags"`
}

// tags serves GET /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags.
//
// Spec: client-server-api#get_matrixclientv3useruseridroomsroomidtags
func (a *API) tags(r *http.Request) (roomTags, error) {
	user, roomID, err := a.ownersRoom(r)
	if err != nil {
		return roomTags{}, err
	}
	tags, err := a.data.Tags(r.Context(), user, roomID)
	return roomTags{Tags: tags}, err
}

// setTag serves PUT /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}.
//
// Spec: client-server-api#put_matrixclientv3useruseridroomsroomidtagstag
func (a *API) setTag(r *http.Request) (httpkit.Empty, error) {
	none := httpkit.Empty{}
	user, roomID, err := a.ownersRoom(r)
	if err != nil {
		return none, err
	}
	info, err := httpkit.ReadObject(r, httpkit.MaxBody)
	if err != nil {
		return none, err
	}
	return none, a.data.SetTag(r.Context(), user, roomID, r.PathValue("tag"), info)
}

// deleteTag serves DELETE /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}.
//
// Spec: client-server-api#delete_matrixclientv3useruseridroomsroomidtagstag
func (a *API) deleteTag(r *http.Request) (httpkit.Empty, error) {
	user, roomID, err := a.ownersRoom(r)
	if err != nil {
		return httpkit.Empty{}, err
	}
	return httpkit.Empty{}, a.data.DeleteTag(r.Context(), user, roomID, r.PathValue("tag"))
}

type filterName struct {
	FilterID string `json:"filter_id"`
}

// addFilter serves POST /_matrix/client/v3/user/{userId}/filter.
//
// Spec: client-server-api#post_matrixclientv3useruseridfilter
func (a *API) addFilter(r *http.Request) (filterName, error) {
	user, err := a.owner(r)
	if err != nil {
		return filterName{}, err
	}
	filter, err := httpkit.ReadObject(r, httpkit.MaxBody)
	if err != nil {
		return filterName{}, err
	}
	name, err := a.data.AddFilter(r.Context(), user, filter)
	return filterName{FilterID: name}, err
}

// filter serves GET /_matrix/client/v3/user/{userId}/filter/{filterId}.
//
// Spec: client-server-api#get_matrixclientv3useruseridfilterfilterid
func (a *API) filter(r *http.Request) (httpkit.Raw, error) {
	user, err := a.owner(r)
	if err != nil {
		return nil, err
	}
	filter, err := a.data.Filter(r.Context(), user, r.PathValue("filterId"))
	return httpkit.Raw(filter), err
}
