package clientapi

import (
	"net/http"

	"stoa/internal/directory"
	"stoa/internal/httpkit"
	"stoa/matrix/mxerr"
)

// maxPeople is the greatest number of users that a search gives.
const maxPeople = 50

type peopleAnswer struct {
	Results []directory.Person `json:"results"`
	Limited bool               `json:"limited"`
}

// searchUsers serves POST /_matrix/client/v3/user_directory/search.
//
// Spec: client-server-api#post_matrixclientv3user_directorysearch
func (a *API) searchUsers(r *http.Request) (peopleAnswer, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return peopleAnswer{}, err
	}
	var body struct {
		Term  *string `json:"search_term"`
		Limit *int64  `json:"limit"`
	}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return peopleAnswer{}, err
	}
	if body.Term == nil {
		return peopleAnswer{}, mxerr.BadJSON("search_term is missing")
	}
	limit := int64(pageSize)
	if body.Limit != nil {
		if limit = min(*body.Limit, maxPeople); limit < 1 {
			return peopleAnswer{}, mxerr.InvalidParam("limit must be a positive integer")
		}
	}
	found, limited, err := a.directory.SearchPeople(r.Context(), caller.UserID, *body.Term, int(limit))
	return peopleAnswer{Results: found, Limited: limited}, err
}
