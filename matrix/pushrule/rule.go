package pushrule

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// Limits of a user's rules.
const (
	// MaxRuleIDLength is in bytes.
	MaxRuleIDLength = 512
	// MaxPatternLength is the length in bytes of a glob-style pattern.
	MaxPatternLength = 512
	// MaxConditions is the number of conditions that a rule may have.
	MaxConditions = 32
	// MaxConditionLength is the length in bytes of the JSON text of one condition.
	MaxConditionLength = 4096
	// MaxConditionsOfKind is the number of conditions that all rules of one kind may have that a user adds.
	MaxConditionsOfKind = 4000
)

// maxRules is the number of rules of each kind that a user may add. Clients add one per muted room or sender, but those that
// look at bodies take time for each message.
var maxRules = [kinds]int{Override: 2000, Content: 250, Room: 4000, Sender: 4000, Underride: 250}

// MaxRules returns the number of rules of a kind that a user may add.
func (k Kind) MaxRules() int { return maxRules[k] }

// Kind is the kind of a rule. Kinds are in order of priority.
//
// Spec: client-server-api#push-rules
type Kind uint8

// The kinds, most important first.
const (
	Override Kind = iota
	Content
	Room
	Sender
	Underride
	kinds = 5
)

var kindNames = [kinds]string{"override", "content", "room", "sender", "underride"}

// String returns the name of the kind in paths and in JSON.
func (k Kind) String() string { return kindNames[k] }

// KindNamed reads the path parameter {kind}; false if the specification has no kind of this name.
func KindNamed(s string) (Kind, bool) {
	i := slices.Index(kindNames[:], s)
	return Kind(max(i, 0)), i >= 0
}

// ParseKind is KindNamed, with M_INVALID_PARAM for any other name.
func ParseKind(s string) (Kind, error) {
	if kind, ok := KindNamed(s); ok {
		return kind, nil
	}
	return 0, mxerr.InvalidParam("There is no kind %q of push rules.", s)
}

// hasConditions says whether rules of this kind carry conditions.
func (k Kind) hasConditions() bool { return k == Override || k == Underride }

// Rule is one push rule as the API shows it. Its slices are never changed.
type Rule struct {
	ID      string
	Default bool
	Enabled bool
	// Conditions must all hold; only rules of the kinds override and underride have them.
	Conditions []Condition
	// Pattern is what a rule of the kind content looks for.
	Pattern string
	Actions []Action

	kind Kind
}

// Kind returns the kind of the rule.
func (r Rule) Kind() Kind { return r.kind }

// MarshalJSON writes the rule as the API shows it, with the keys that its kind has.
func (r Rule) MarshalJSON() ([]byte, error) {
	type common struct {
		Actions    []Action     `json:"actions"`
		Conditions *[]Condition `json:"conditions,omitempty"`
		Default    bool         `json:"default"`
		Enabled    bool         `json:"enabled"`
		Pattern    *string      `json:"pattern,omitempty"`
		RuleID     string       `json:"rule_id"`
	}
	shown := common{Actions: r.Actions, Default: r.Default, Enabled: r.Enabled, RuleID: r.ID}
	if shown.Actions == nil {
		shown.Actions = []Action{}
	}
	if r.kind.hasConditions() {
		conditions := r.Conditions
		if conditions == nil {
			conditions = []Condition{}
		}
		shown.Conditions = &conditions
	}
	if r.kind == Content {
		shown.Pattern = &r.Pattern
	}
	return json.Marshal(shown)
}

// checkRuleID refuses IDs that a user's rule can't have, as M_INVALID_PARAM.
func checkRuleID(kind Kind, ruleID string) error {
	switch {
	case ruleID == "":
		return mxerr.InvalidParam("A push rule ID must not be empty.")
	case ruleID[0] == '.':
		return mxerr.InvalidParam("Push rule IDs that start with a dot are those of the default rules.")
	case strings.ContainsAny(ruleID, `/\`):
		return mxerr.InvalidParam("A push rule ID must not contain slashes or backslashes.")
	case !utf8.ValidString(ruleID):
		return mxerr.InvalidParam("A push rule ID must be valid UTF-8.")
	case len(ruleID) > MaxRuleIDLength:
		return mxerr.InvalidParam("A push rule ID must not be longer than %d bytes.", MaxRuleIDLength)
	}
	if kind == Room {
		if _, err := id.ParseRoomID(ruleID); err != nil {
			return mxerr.InvalidParam("The ID of a push rule for a room must be a room ID.").Because(err)
		}
	}
	if kind == Sender {
		if _, err := id.ParseUserID(ruleID); err != nil {
			return mxerr.InvalidParam("The ID of a push rule for a sender must be a user ID.").Because(err)
		}
	}
	return nil
}

// parseRule reads the body of a request that sets a rule. The rule is enabled and none of the default ones. Keys that the
// kind does not have are checked and left out; unknown keys are ignored.
func parseRule(kind Kind, ruleID string, body []byte) (Rule, error) {
	if err := checkJSON(body); err != nil {
		return Rule{}, err
	}
	keys, ok := parseObject(body)
	if !ok {
		return Rule{}, mxerr.BadJSON("A push rule must be an object.")
	}
	rule := Rule{ID: ruleID, Enabled: true, kind: kind}
	if keys["actions"] == nil {
		return Rule{}, mxerr.BadJSON("A push rule must have actions.")
	}
	var err error
	if rule.Actions, err = ParseActions(keys["actions"]); err != nil {
		return Rule{}, err
	}
	if conditions := keys["conditions"]; conditions != nil {
		parsed, err := parseConditions(conditions)
		if err != nil {
			return Rule{}, err
		}
		if kind.hasConditions() {
			rule.Conditions = parsed
		}
	}
	pattern, present := keys["pattern"]
	if present {
		text, ok := parseString(pattern)
		if !ok {
			return Rule{}, mxerr.BadJSON("The pattern of a push rule must be a string.")
		}
		if len(text) > MaxPatternLength {
			return Rule{}, mxerr.TooLarge("The pattern of a push rule must not be longer than %d bytes.", MaxPatternLength)
		}
		if kind == Content {
			rule.Pattern = text
		}
	} else if kind == Content {
		return Rule{}, mxerr.BadJSON("A push rule of the kind content must have a pattern.")
	}
	return rule, nil
}
