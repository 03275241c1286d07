package pushrule

import (
	"encoding/json"
	"net/http"
	"slices"

	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// RuleSet is the push rules of one user: those that the user added, and what the user changed of the default ones. It is
// never changed: operations return another one. Errors are *mxerr.Error.
//
// Spec: client-server-api#push-rules
type RuleSet struct {
	user id.UserID
	// own are the user's rules of each kind, most important first.
	own [kinds][]Rule
	// changed has what the user changed of default rules, by rule ID. It may name rules that are no longer there.
	changed map[string]change
	// other are rules of kinds that this package does not know, most important first.
	other map[string][]OtherRule
}

// change is what a user changed of a default rule.
type change struct {
	// enabled is nil if the user did not change it.
	enabled *bool
	// actions is nil if the user did not change them.
	actions []Action
}

// Defaults returns the rules of a user who changed nothing.
func Defaults(user id.UserID) *RuleSet { return &RuleSet{user: user} }

// User returns the user whose rules these are.
func (s *RuleSet) User() id.UserID { return s.user }

// IsDefault says whether the user changed nothing.
func (s *RuleSet) IsDefault() bool {
	for _, rules := range s.own {
		if len(rules) > 0 {
			return false
		}
	}
	return len(s.changed) == 0 && len(s.other) == 0
}

// Rules returns all rules of a kind, most important first. The slice is the caller's.
func (s *RuleSet) Rules(kind Kind) []Rule {
	rules := make([]Rule, 0, len(s.own[kind])+len(defaultRules))
	for i := range defaultRules {
		if d := &defaultRules[i]; d.kind == kind && d.id == RuleMaster {
			rules = append(rules, s.defaultRule(d))
		}
	}
	rules = append(rules, s.own[kind]...)
	for i := range defaultRules {
		if d := &defaultRules[i]; d.kind == kind && d.id != RuleMaster {
			rules = append(rules, s.defaultRule(d))
		}
	}
	return rules
}

// defaultRule returns a default rule with what the user changed of it.
func (s *RuleSet) defaultRule(d *defaultRule) Rule {
	rule := d.rule(s.user)
	c := s.changed[d.id]
	if c.enabled != nil {
		rule.Enabled = *c.enabled
	}
	if c.actions != nil {
		rule.Actions = c.actions
	}
	return rule
}

// MarshalJSON writes the rule set as the API shows it, which is what stands under `global`.
func (s *RuleSet) MarshalJSON() ([]byte, error) {
	shown := make(map[string]any, kinds+len(s.other))
	for kind, rules := range s.other {
		shown[kind] = rules
	}
	for kind := range Kind(kinds) {
		shown[kind.String()] = s.Rules(kind)
	}
	return json.Marshal(shown)
}

// Rule returns one rule, or M_NOT_FOUND.
func (s *RuleSet) Rule(kind Kind, ruleID string) (Rule, error) {
	if i := s.find(kind, ruleID); i >= 0 {
		return s.own[kind][i], nil
	}
	if d, ok := findDefault(kind, ruleID); ok {
		return s.defaultRule(d), nil
	}
	return Rule{}, errNotFound()
}

// find returns the place of a rule that the user added, or -1.
func (s *RuleSet) find(kind Kind, ruleID string) int {
	return slices.IndexFunc(s.own[kind], func(r Rule) bool { return r.ID == ruleID })
}

func errNotFound() error { return mxerr.NotFound("The push rule was not found.") }

// Place says where a rule is put: before or after a rule that the user added. The zero value leaves an existing rule where
// it is, and makes a new one the most important. If both are given, Before decides.
type Place struct {
	Before, After string
}

// Put adds a rule or changes one, from the body of the request. A new rule is enabled; one that is there stays as it is in
// that.
//
// Errors: M_INVALID_PARAM for a rule ID that users can't have, M_NOT_JSON, M_BAD_JSON and M_TOO_LARGE for the body,
// M_UNKNOWN with status 400 if the rule of place is not there, M_TOO_LARGE if the user has too many rules already.
//
// Spec: client-server-api#push-rules-api
func (s *RuleSet) Put(kind Kind, ruleID string, body []byte, place Place) (*RuleSet, error) {
	if err := checkRuleID(kind, ruleID); err != nil {
		return nil, err
	}
	rule, err := parseRule(kind, ruleID, body)
	if err != nil {
		return nil, err
	}
	rules := slices.Clone(s.own[kind])
	at := s.find(kind, ruleID)
	if at >= 0 {
		rule.Enabled = rules[at].Enabled
		rules = slices.Delete(rules, at, at+1)
	}
	if err := checkRoomFor(rule, rules); err != nil {
		return nil, err
	}
	neighbour, step := place.Before, 0
	if neighbour == "" {
		neighbour, step = place.After, 1
	}
	if neighbour != "" {
		next := slices.IndexFunc(rules, func(r Rule) bool { return r.ID == neighbour })
		if next < 0 {
			return nil, mxerr.Unknown("before/after rule not found: %s", neighbour).WithStatus(http.StatusBadRequest)
		}
		at = next + step
	}
	rules = slices.Insert(rules, max(at, 0), rule)
	return s.with(kind, rules), nil
}

// checkRoomFor reports that there is no room for one more rule of its kind, as M_TOO_LARGE.
func checkRoomFor(rule Rule, rules []Rule) error {
	if limit := rule.kind.MaxRules(); len(rules) >= limit {
		return mxerr.TooLarge("There may be at most %d push rules of the kind %s.", limit, rule.kind)
	}
	conditions := len(rule.Conditions)
	for _, other := range rules {
		conditions += len(other.Conditions)
	}
	if conditions > MaxConditionsOfKind {
		return mxerr.TooLarge("Push rules of the kind %s may have at most %d conditions together.", rule.kind, MaxConditionsOfKind)
	}
	return nil
}

// Delete takes away a rule that the user added. A default rule is M_INVALID_PARAM, a rule that is not there M_NOT_FOUND.
func (s *RuleSet) Delete(kind Kind, ruleID string) (*RuleSet, error) {
	at := s.find(kind, ruleID)
	if at < 0 {
		if _, ok := findDefault(kind, ruleID); ok {
			return nil, mxerr.InvalidParam("A default push rule can't be deleted, only disabled.")
		}
		return nil, errNotFound()
	}
	return s.with(kind, slices.Delete(slices.Clone(s.own[kind]), at, at+1)), nil
}

// SetEnabled enables or disables a rule. A rule that is not there is M_NOT_FOUND.
func (s *RuleSet) SetEnabled(kind Kind, ruleID string, enabled bool) (*RuleSet, error) {
	if at := s.find(kind, ruleID); at >= 0 {
		rules := slices.Clone(s.own[kind])
		rules[at].Enabled = enabled
		return s.with(kind, rules), nil
	}
	d, ok := findDefault(kind, ruleID)
	if !ok {
		return nil, errNotFound()
	}
	c := s.changed[ruleID]
	if c.enabled = nil; enabled == d.disabled {
		c.enabled = &enabled
	}
	return s.withChange(ruleID, c), nil
}

// SetActions gives a rule other actions, from ParseActions. A rule that is not there is M_NOT_FOUND.
func (s *RuleSet) SetActions(kind Kind, ruleID string, actions []Action) (*RuleSet, error) {
	actions = append([]Action{}, actions...)
	if at := s.find(kind, ruleID); at >= 0 {
		rules := slices.Clone(s.own[kind])
		rules[at].Actions = actions
		return s.with(kind, rules), nil
	}
	d, ok := findDefault(kind, ruleID)
	if !ok {
		return nil, errNotFound()
	}
	c := s.changed[ruleID]
	if c.actions = nil; !sameActions(actions, d.actions) {
		c.actions = actions
	}
	return s.withChange(ruleID, c), nil
}

func sameActions(a, b []Action) bool {
	return slices.EqualFunc(a, b, func(a, b Action) bool {
		return a.Historical == b.Historical && a.Tweak == b.Tweak && string(a.Value) == string(b.Value)
	})
}

// with returns a copy with other rules of one kind.
func (s *RuleSet) with(kind Kind, rules []Rule) *RuleSet {
	next := *s
	next.own[kind] = rules
	return &next
}

// withChange returns a copy with another change of a default rule.
func (s *RuleSet) withChange(ruleID string, c change) *RuleSet {
	next := *s
	next.changed = make(map[string]change, len(s.changed)+1)
	for k, v := range s.changed {
		next.changed[k] = v
	}
	next.changed[ruleID] = c
	if c.enabled == nil && c.actions == nil {
		delete(next.changed, ruleID)
	}
	return &next
}
