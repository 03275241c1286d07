package pushrule

import (
	"encoding/json"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// Parse reads a rule set in the form in which the API shows it: what stands under `global` in the answer and in the account
// data event m.push_rules. Default rules are kept as far as they are enabled and act otherwise than they are shipped; default
// rules that are not known are ignored.
//
// Errors: M_NOT_JSON, M_BAD_JSON, M_INVALID_PARAM, M_TOO_LARGE.
//
// Spec: client-server-api#mpush_rules
func Parse(user id.UserID, data []byte) (*RuleSet, error) {
	if err := checkJSON(data); err != nil {
		return nil, err
	}
	lists, ok := parseObject(data)
	if !ok {
		return nil, mxerr.BadJSON("A push rule set must be an object.")
	}
	s := Defaults(user)
	for kind := range Kind(kinds) {
		list := lists[kind.String()]
		if list == nil {
			continue
		}
		var items []json.RawMessage
		if !isArray(list) || json.Unmarshal(list, &items) != nil {
			return nil, mxerr.BadJSON("The push rules of the kind %s must be an array.", kind)
		}
		last := ""
		for _, item := range items {
			added, err := s.addShown(kind, item, last)
			if err != nil {
				return nil, err
			}
			if s = added.set; added.own {
				last = added.ruleID
			}
		}
	}
	return s, nil
}

// addition is a rule set with one more rule.
type addition struct {
	set    *RuleSet
	ruleID string
	// own says that it is not one of the default rules.
	own bool
}

// addShown adds a rule in the form in which the API shows it, behind the rule of the user with the ID after.
func (s *RuleSet) addShown(kind Kind, item []byte, after string) (addition, error) {
	keys, ok := parseObject(item)
	if !ok {
		return addition{}, mxerr.BadJSON("A push rule must be an object.")
	}
	ruleID, ok := parseString(keys["rule_id"])
	if !ok {
		return addition{}, mxerr.BadJSON("A push rule must have rule_id, a string.")
	}
	enabled, ok := canonicaljson.Bool(keys["enabled"])
	if !ok {
		return addition{}, mxerr.BadJSON("A push rule must have enabled, a boolean.")
	}
	if ruleID != "" && ruleID[0] == '.' {
		if _, known := findDefault(kind, ruleID); !known {
			return addition{set: s}, nil
		}
		actions, err := ParseActions(keys["actions"])
		if err != nil {
			return addition{}, err
		}
		if s, err = s.SetActions(kind, ruleID, actions); err == nil {
			s, err = s.SetEnabled(kind, ruleID, enabled)
		}
		return addition{set: s}, err
	}
	if s.find(kind, ruleID) >= 0 {
		return addition{}, mxerr.BadJSON("The push rule %q is there twice.", ruleID)
	}
	s, err := s.Put(kind, ruleID, item, Place{After: after})
	if err == nil {
		s, err = s.SetEnabled(kind, ruleID, enabled)
	}
	return addition{set: s, ruleID: ruleID, own: true}, err
}

// checkJSON says why a text is no JSON that is taken: M_NOT_JSON, or M_BAD_JSON for duplicate keys, depth and the like.
func checkJSON(data []byte) error {
	if !json.Valid(data) {
		return mxerr.NotJSON("The content is not valid JSON.")
	}
	if err := canonicaljson.Check(data); err != nil {
		return mxerr.BadJSON("The content is malformed: %s.", err).Because(err)
	}
	return nil
}
