package auth

import (
	"encoding/json"

	"stoa/internal/httpkit"
)

// CheckForm refuses an `auth` of a request that is no such object, for requests
// that turn out not to need one. None is fine.
//
// Spec: client-server-api#user-interactive-api-in-the-rest-api
func CheckForm(auth json.RawMessage) error {
	if len(auth) == 0 || string(auth) == "null" {
		return nil
	}
	var try attempt
	return httpkit.DecodeJSON(auth, &try)
}
