package clientapi

import (
	"encoding/json"
	"net/http"

	"stoa/internal/httpkit"
	"stoa/internal/who"
	"stoa/matrix/mxerr"
	"stoa/matrix/pushrule"
)

// maxRuleBody bounds the body of one push rule: 32 conditions of 4 KiB.
const maxRuleBody = 256 << 10

// callersRules gives the caller and their push rules.
func (a *API) callersRules(r *http.Request) (*pushrule.RuleSet, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return nil, err
	}
	return a.data.PushRules(r.Context(), caller.User)
}

type globalRules struct {
	Global *pushrule.RuleSet `json:"global"`
}

// pushRules serves GET /_matrix/client/v3/pushrules/.
//
// Spec: client-server-api#get_matrixclientv3pushrules
func (a *API) pushRules(r *http.Request) (globalRules, error) {
	rules, err := a.callersRules(r)
	return globalRules{Global: rules}, err
}

// pushRulesGlobal serves GET /_matrix/client/v3/pushrules/global/.
//
// Spec: client-server-api#get_matrixclientv3pushrulesglobal
func (a *API) pushRulesGlobal(r *http.Request) (*pushrule.RuleSet, error) {
	return a.callersRules(r)
}

// pushRule serves GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}.
//
// Spec: client-server-api#get_matrixclientv3pushrulesglobalkindruleid
func (a *API) pushRule(r *http.Request) (pushrule.Rule, error) {
	rules, err := a.callersRules(r)
	if err != nil {
		return pushrule.Rule{}, err
	}
	kind, err := pushrule.ParseKind(r.PathValue("kind"))
	if err != nil {
		return pushrule.Rule{}, err
	}
	return rules.Rule(kind, r.PathValue("ruleId"))
}

// changeRule applies an operation to the rule of the path.
func (a *API) changeRule(r *http.Request, owner who.User, edit func(*pushrule.RuleSet, pushrule.Kind, string) (*pushrule.RuleSet, error)) (httpkit.Empty, error) {
	kind, err := pushrule.ParseKind(r.PathValue("kind"))
	if err != nil {
		return httpkit.Empty{}, err
	}
	return httpkit.Empty{}, a.data.ChangePushRules(r.Context(), owner, func(s *pushrule.RuleSet) (*pushrule.RuleSet, error) {
		return edit(s, kind, r.PathValue("ruleId"))
	})
}

// putPushRule serves PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}.
//
// Spec: client-server-api#put_matrixclientv3pushrulesglobalkindruleid
func (a *API) putPushRule(r *http.Request) (httpkit.Empty, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return httpkit.Empty{}, err
	}
	body, err := httpkit.ReadObject(r, maxRuleBody)
	if err != nil {
		return httpkit.Empty{}, err
	}
	query, err := httpkit.ParseQuery(r)
	if err != nil {
		return httpkit.Empty{}, err
	}
	place := pushrule.Place{Before: query.Get("before"), After: query.Get("after")}
	return a.changeRule(r, caller.User, func(s *pushrule.RuleSet, kind pushrule.Kind, ruleID string) (*pushrule.RuleSet, error) {
		return s.Put(kind, ruleID, body, place)
	})
}

// deletePushRule serves DELETE /_matrix/client/v3/pushrules/global/{kind}/{ruleId}.
//
// Spec: client-server-api#delete_matrixclientv3pushrulesglobalkindruleid
func (a *API) deletePushRule(r *http.Request) (httpkit.Empty, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return httpkit.Empty{}, err
	}
	return a.changeRule(r, caller.User, (*pushrule.RuleSet).Delete)
}

type ruleEnabled struct {
	Enabled bool `json:"enabled"`
}

// pushRuleEnabled serves GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled.
//
// Spec: client-server-api#get_matrixclientv3pushrulesglobalkindruleidenabled
func (a *API) pushRuleEnabled(r *http.Request) (ruleEnabled, error) {
	rule, err := a.pushRule(r)
	return ruleEnabled{Enabled: rule.Enabled}, err
}

// setPushRuleEnabled serves PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled.
//
// Spec: client-server-api#put_matrixclientv3pushrulesglobalkindruleidenabled
func (a *API) setPushRuleEnabled(r *http.Request) (httpkit.Empty, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return httpkit.Empty{}, err
	}
	var body struct {
		Enabled *bool `json:"enabled"`
	}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return httpkit.Empty{}, err
	}
	if body.Enabled == nil {
		return httpkit.Empty{}, mxerr.BadJSON("enabled is missing")
	}
	return a.changeRule(r, caller.User, func(s *pushrule.RuleSet, kind pushrule.Kind, ruleID string) (*pushrule.RuleSet, error) {
		return s.SetEnabled(kind, ruleID, *body.Enabled)
	})
}

type ruleActions struct {
	Actions []pushrule.Action `json:"actions"`
}

// pushRuleActions serves GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions.
//
// Spec: client-server-api#get_matrixclientv3pushrulesglobalkindruleidactions
func (a *API) pushRuleActions(r *http.Request) (ruleActions, error) {
	rule, err := a.pushRule(r)
	if rule.Actions == nil {
		rule.Actions = []pushrule.Action{}
	}
	return ruleActions{Actions: rule.Actions}, err
}

// setPushRuleActions serves PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions.
//
// Spec: client-server-api#put_matrixclientv3pushrulesglobalkindruleidactions
func (a *API) setPushRuleActions(r *http.Request) (httpkit.Empty, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return httpkit.Empty{}, err
	}
	var body struct {
		Actions json.RawMessage `json:"actions"`
	}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return httpkit.Empty{}, err
	}
	if body.Actions == nil {
		return httpkit.Empty{}, mxerr.BadJSON("actions is missing")
	}
	actions, err := pushrule.ParseActions(body.Actions)
	if err != nil {
		return httpkit.Empty{}, err
	}
	return a.changeRule(r, caller.User, func(s *pushrule.RuleSet, kind pushrule.Kind, ruleID string) (*pushrule.RuleSet, error) {
		return s.SetActions(kind, ruleID, actions)
	})
}
