package auth

import (
	"net/http"
	"slices"

	"stoa/matrix/mxerr"
)

// Stage names of interactive authentication that the server offers.
//
// Spec: client-server-api#authentication-types
const (
	StagePassword          = "m.login.password"
	StageDummy             = "m.login.dummy"
	StageRegistrationToken = "m.login.registration_token"
	StageTerms             = "m.login.terms"
	StageEmail             = "m.login.email.identity"
)

// Flow is a series of stages that are completed in this order.
type Flow struct {
	Stages []string `json:"stages"`
}

// completes says whether the completed stages contain all those of a flow.
// What was completed beside it does no harm.
func completes(flows []Flow, completed []string) bool {
	for _, f := range flows {
		if !slices.ContainsFunc(f.Stages, func(s string) bool { return !slices.Contains(completed, s) }) {
			return true
		}
	}
	return false
}

// mayAttempt says whether a stage is the next one of a flow whose earlier
// stages are completed.
func mayAttempt(flows []Flow, completed []string, stage string) bool {
	for _, f := range flows {
		for _, s := range f.Stages {
			if s == stage {
				return true
			}
			if !slices.Contains(completed, s) {
				break // this stage comes first
			}
		}
	}
	return false
}

// challenge is the 401 answer that asks for (more) authentication. Failed is
// the reason why the stage at hand was not completed; nil if none was tried.
//
// Spec: client-server-api#user-interactive-api-in-the-rest-api
func challenge(flows []Flow, params map[string]any, session string, completed []string, failed *mxerr.Error) *mxerr.Error {
	if params == nil {
		params = map[string]any{}
	}
	e := &mxerr.Error{
		Status: http.StatusUnauthorized,
		Extra:  map[string]any{"flows": flows, "params": params, "session": session},
	}
	if len(completed) > 0 {
		e.Extra["completed"] = completed
	}
	if failed != nil {
		e.Code, e.Message, e.Cause = failed.Code, failed.Message, failed.Cause
	}
	return e
}
