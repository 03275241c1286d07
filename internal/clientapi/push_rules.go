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
func (a *API) pushRule(r *http.Request) (any, error) {
	rule, other, err := a.ruleOfPath(r)
	if other != nil {
		return other, err
	}
	return rule, err
}

// ruleOfPath gives the rule of the path; other is set if its kind is not one of the specification.
func (a *API) ruleOfPath(r *http.Request) (rule pushrule.Rule, other *pushrule.OtherRule, err error) {
	rules, err := a.callersRules(r)
	if err != nil {
		return rule, nil, err
	}
	if kind, ok := pushrule.KindNamed(r.PathValue("kind")); ok {
		rule, err = rules.Rule(kind, r.PathValue("ruleId"))
		return rule, nil, err
	}
	found, err := rules.Other(r.PathValue("kind"), r.PathValue("ruleId"))
	return rule, &found, err
}

// ruleEdit is what is done to a rule: known where its kind is one of the specification, else other.
type ruleEdit struct {
	known func(*pushrule.RuleSet, pushrule.Kind, string) (*pushrule.RuleSet, error)
	other func(*pushrule.RuleSet, string, string) (*pushrule.RuleSet, error)
}

// changeRule applies an operation to the rule of the path.
func (a *API) changeRule(r *http.Request, owner who.User, edit ruleEdit) (httpkit.Empty, error) {
	return httpkit.Empty{}, a.data.ChangePushRules(r.Context(), owner, func(s *pushrule.RuleSet) (*pushrule.RuleSet, error) {
		if kind, ok := pushrule.KindNamed(r.PathValue("kind")); ok {
			return edit.known(s, kind, r.PathValue("ruleId"))
		}
		return edit.other(s, r.PathValue("kind"), r.PathValue("ruleId"))
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
	return a.changeRule(r, caller.User, ruleEdit{
		known: func(s *pushrule.RuleSet, kind pushrule.Kind, ruleID string) (*pushrule.RuleSet, error) {
			return s.Put(kind, ruleID, body, place)
		},
		other: func(s *pushrule.RuleSet, kind, ruleID string) (*pushrule.RuleSet, error) {
			return s.PutOther(kind, ruleID, body)
		},
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
	return a.changeRule(r, caller.User, ruleEdit{(*pushrule.RuleSet).Delete, (*pushrule.RuleSet).DeleteOther})
}

type ruleEnabled struct {
	Enabled bool `json:"enabled"`
}

// pushRuleEnabled serves GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled.
//
// Spec: client-server-api#get_matrixclientv3pushrulesglobalkindruleidenabled
func (a *API) pushRuleEnabled(r *http.Request) (ruleEnabled, error) {
	rule, other, err := a.ruleOfPath(r)
	if other != nil {
		return ruleEnabled{Enabled: other.Enabled}, err
	}
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
	return a.changeRule(r, caller.User, ruleEdit{
		known: func(s *pushrule.RuleSet, kind pushrule.Kind, ruleID string) (*pushrule.RuleSet, error) {
			return s.SetEnabled(kind, ruleID, *body.Enabled)
		},
		other: func(s *pushrule.RuleSet, kind, ruleID string) (*pushrule.RuleSet, error) {
			return s.SetOtherEnabled(kind, ruleID, *body.Enabled)
		},
	})
}

type ruleActions struct {
	Actions any `json:"actions"`
}

// pushRuleActions serves GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions.
//
// Spec: client-server-api#get_matrixclientv3pushrulesglobalkindruleidactions
func (a *API) pushRuleActions(r *http.Request) (ruleActions, error) {
	rule, other, err := a.ruleOfPath(r)
	if other != nil {
		return ruleActions{Actions: other.Actions()}, err
	}
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
	return a.changeRule(r, caller.User, ruleEdit{
		known: func(s *pushrule.RuleSet, kind pushrule.Kind, ruleID string) (*pushrule.RuleSet, error) {
			actions, err := pushrule.ParseActions(body.Actions)
			if err != nil {
				return nil, err
			}
			return s.SetActions(kind, ruleID, actions)
		},
		other: func(s *pushrule.RuleSet, kind, ruleID string) (*pushrule.RuleSet, error) {
			return s.SetOtherActions(kind, ruleID, body.Actions)
		},
	})
}
