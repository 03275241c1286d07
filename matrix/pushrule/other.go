package pushrule

import (
	"encoding/json"
	"maps"
	"slices"

	"stoa/matrix/mxerr"
)

// Bounds of rules whose kind this package does not know.
const (
	MaxOtherKinds  = 8
	MaxOtherRules  = 250 // of one kind
	MaxOtherLength = 4096
	maxKindLength  = 64
)

// OtherRule is a rule of a kind that the specification does not name. It is kept and given back as the client sent it, and
// does nothing.
type OtherRule struct {
	ID      string
	Enabled bool
	// Body is the JSON object of the request. It is never changed.
	Body json.RawMessage
}

// MarshalJSON writes the rule as the API shows it.
func (r OtherRule) MarshalJSON() ([]byte, error) {
	keys, _ := parseObject(r.Body)
	if keys == nil {
		keys = map[string]json.RawMessage{}
	}
	if keys["actions"] == nil {
		keys["actions"] = json.RawMessage("[]")
	}
	keys["rule_id"] = mustMarshal(r.ID)
	keys["default"] = json.RawMessage("false")
	keys["enabled"] = mustMarshal(r.Enabled)
	return json.Marshal(keys)
}

// Actions is the JSON text of the rule's actions.
func (r OtherRule) Actions() json.RawMessage {
	if keys, _ := parseObject(r.Body); keys["actions"] != nil {
		return keys["actions"]
	}
	return json.RawMessage("[]")
}

// Other returns a rule of an unknown kind, or M_NOT_FOUND.
func (s *RuleSet) Other(kind, ruleID string) (OtherRule, error) {
	if at := s.findOther(kind, ruleID); at >= 0 {
		return s.other[kind][at], nil
	}
	return OtherRule{}, errNotFound()
}

func (s *RuleSet) findOther(kind, ruleID string) int {
	return slices.IndexFunc(s.other[kind], func(r OtherRule) bool { return r.ID == ruleID })
}

// PutOther adds a rule of an unknown kind or replaces one.
//
// Errors: M_INVALID_PARAM, M_NOT_JSON, M_BAD_JSON, M_TOO_LARGE.
func (s *RuleSet) PutOther(kind, ruleID string, body []byte) (*RuleSet, error) {
	if !isKindName(kind) {
		return nil, mxerr.InvalidParam("The name of a kind of push rules has 1 to %d letters, digits, dots, hyphens and underscores.", maxKindLength)
	}
	if err := checkRuleID(Override, ruleID); err != nil {
		return nil, err
	}
	if err := checkJSON(body); err != nil {
		return nil, err
	}
	if _, ok := parseObject(body); !ok {
		return nil, mxerr.BadJSON("A push rule must be an object.")
	}
	rule := OtherRule{ID: ruleID, Enabled: true, Body: compact(body)}
	if len(rule.Body) > MaxOtherLength {
		return nil, mxerr.TooLarge("A push rule of the kind %s may have at most %d bytes.", kind, MaxOtherLength)
	}
	rules := slices.Clone(s.other[kind])
	if at := s.findOther(kind, ruleID); at >= 0 {
		rule.Enabled = rules[at].Enabled
		rules[at] = rule
		return s.withOther(kind, rules), nil
	}
	if len(rules) >= MaxOtherRules || len(rules) == 0 && len(s.other) >= MaxOtherKinds {
		return nil, mxerr.TooLarge("There may be at most %d push rules of a kind, and %d kinds besides those of the specification.", MaxOtherRules, MaxOtherKinds)
	}
	return s.withOther(kind, slices.Insert(rules, 0, rule)), nil
}

func isKindName(kind string) bool {
	for _, c := range []byte(kind) {
		if c != '.' && c != '-' && c != '_' && !('a' <= c && c <= 'z') && !('A' <= c && c <= 'Z') && !('0' <= c && c <= '9') {
			return false
		}
	}
	return kind != "" && len(kind) <= maxKindLength
}

// DeleteOther takes away a rule of an unknown kind. One that is not there is M_NOT_FOUND.
func (s *RuleSet) DeleteOther(kind, ruleID string) (*RuleSet, error) {
	at := s.findOther(kind, ruleID)
	if at < 0 {
		return nil, errNotFound()
	}
	return s.withOther(kind, slices.Delete(slices.Clone(s.other[kind]), at, at+1)), nil
}

// SetOtherEnabled enables or disables a rule of an unknown kind. One that is not there is M_NOT_FOUND.
func (s *RuleSet) SetOtherEnabled(kind, ruleID string, enabled bool) (*RuleSet, error) {
	at := s.findOther(kind, ruleID)
	if at < 0 {
		return nil, errNotFound()
	}
	rules := slices.Clone(s.other[kind])
	rules[at].Enabled = enabled
	return s.withOther(kind, rules), nil
}

// SetOtherActions gives a rule of an unknown kind other actions, a JSON array. A rule that is not there is M_NOT_FOUND.
func (s *RuleSet) SetOtherActions(kind, ruleID string, actions json.RawMessage) (*RuleSet, error) {
	rule, err := s.Other(kind, ruleID)
	if err != nil {
		return nil, err
	}
	if !isArray(actions) {
		return nil, mxerr.BadJSON("actions must be an array.")
	}
	keys, _ := parseObject(rule.Body)
	keys["actions"] = actions
	return s.PutOther(kind, ruleID, mustMarshal(keys))
}

// withOther returns a copy with other rules of an unknown kind.
func (s *RuleSet) withOther(kind string, rules []OtherRule) *RuleSet {
	next := *s
	next.other = maps.Clone(s.other)
	if next.other == nil {
		next.other = map[string][]OtherRule{}
	}
	next.other[kind] = rules
	if len(rules) == 0 {
		delete(next.other, kind)
	}
	return &next
}
