package pushrule

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/mxerr"
)

// The kinds of conditions.
//
// Spec: client-server-api#conditions-1
const (
	kindEventMatch                   = "event_match"
	kindEventPropertyIs              = "event_property_is"
	kindEventPropertyContains        = "event_property_contains"
	kindContainsDisplayName          = "contains_display_name"
	kindRoomMemberCount              = "room_member_count"
	kindSenderNotificationPermission = "sender_notification_permission"
)

// Condition is one condition of a rule, kept as the JSON text that came. A kind that is not known never matches.
type Condition struct {
	raw json.RawMessage
}

// MarshalJSON returns the text that came.
func (c Condition) MarshalJSON() ([]byte, error) { return c.raw, nil }

// parseConditions reads a JSON array of conditions. A condition of a known kind whose parameters are missing or wrong is
// M_BAD_JSON; one of an unknown kind is kept.
func parseConditions(data []byte) ([]Condition, error) {
	var items []json.RawMessage
	if !isArray(data) || json.Unmarshal(data, &items) != nil {
		return nil, mxerr.BadJSON("The conditions of a push rule must be an array.")
	}
	if len(items) > MaxConditions {
		return nil, mxerr.TooLarge("A push rule may have at most %d conditions.", MaxConditions)
	}
	conditions := make([]Condition, 0, len(items))
	for _, item := range items {
		c := Condition{raw: compact(item)}
		if len(c.raw) > MaxConditionLength {
			return nil, mxerr.TooLarge("A condition of a push rule must not be longer than %d bytes.", MaxConditionLength)
		}
		if err := c.check(); err != nil {
			return nil, err
		}
		conditions = append(conditions, c)
	}
	return conditions, nil
}

// check says why a condition can't be accepted.
func (c Condition) check() error {
	p, ok := c.parse()
	if !ok {
		return mxerr.BadJSON("A condition of a push rule must be an object with kind, a string.")
	}
	// The schema gives these keys one type, whatever the kind is.
	for _, key := range []string{"key", "pattern", "is"} {
		if value := p.keys[key]; value != nil && value[0] != '"' {
			return mxerr.BadJSON("%s of a condition must be a string.", key)
		}
	}
	if value := p.keys["value"]; value != nil {
		if _, ok := parseScalar(value); !ok {
			return mxerr.BadJSON("value of a condition must be a string, an integer, a boolean or null.")
		}
	}
	switch p.kind {
	case kindEventMatch:
		return p.require("key", "pattern")
	case kindEventPropertyIs, kindEventPropertyContains:
		return p.require("key", "value")
	case kindSenderNotificationPermission:
		return p.require("key")
	case kindRoomMemberCount:
		if err := p.require("is"); err != nil {
			return err
		}
		if _, ok := parseComparison(p.text("is")); !ok {
			return mxerr.BadJSON("is of a condition must be a decimal integer that may have one of ==, <, >, >=, <= before it.")
		}
	}
	return nil
}

// parameters are the keys of a condition.
type parameters struct {
	kind string
	keys map[string]json.RawMessage
}

func (c Condition) parse() (parameters, bool) {
	keys, ok := parseObject(c.raw)
	if !ok {
		return parameters{}, false
	}
	kind, ok := parseString(keys["kind"])
	return parameters{kind, keys}, ok
}

func (p parameters) require(keys ...string) error {
	for _, key := range keys {
		if p.keys[key] == nil {
			return mxerr.BadJSON("A condition %s must have %s.", p.kind, key)
		}
	}
	if len(p.text("pattern")) > MaxPatternLength {
		return mxerr.TooLarge("The pattern of a condition must not be longer than %d bytes.", MaxPatternLength)
	}
	return nil
}

// text returns a parameter that is a string, else "".
func (p parameters) text(key string) string {
	s, _ := parseString(p.keys[key])
	return s
}

// scalar is a JSON value that is no array, object, or number but an integer that canonical JSON allows. Two are the same
// value if they are equal.
type scalar struct {
	kind   byte // one of 's' string, 'i' integer, 't' true, 'f' false, 'n' null; 0 is no value
	text   string
	number int64
}

// parseScalar reads a JSON value; false if it is none of those. A string shares memory with the text.
func parseScalar(data []byte) (scalar, bool) {
	data = bytes.TrimSpace(data)
	switch {
	case len(data) == 0:
		return scalar{}, false
	case data[0] == '"':
		s, ok := canonicaljson.String(data)
		return scalar{kind: 's', text: s}, ok
	case string(data) == "true":
		return scalar{kind: 't'}, true
	case string(data) == "false":
		return scalar{kind: 'f'}, true
	case string(data) == "null":
		return scalar{kind: 'n'}, true
	}
	n, ok := canonicaljson.Int(data)
	if !ok || n > canonicaljson.MaxInteger || n < -canonicaljson.MaxInteger {
		return scalar{}, false
	}
	return scalar{kind: 'i', number: n}, true
}

// comparison is the parameter `is` of the condition room_member_count.
type comparison struct {
	operator string
	number   int64
}

func parseComparison(is string) (comparison, bool) {
	c := comparison{operator: "=="}
	for _, operator := range []string{"==", "<=", ">=", "<", ">"} {
		if rest, found := strings.CutPrefix(is, operator); found {
			c.operator, is = operator, rest
			break
		}
	}
	if is == "" || strings.Trim(is, "0123456789") != "" {
		return comparison{}, false
	}
	n, err := strconv.ParseInt(is, 10, 64)
	if err != nil {
		return comparison{}, false
	}
	c.number = n
	return c, true
}

func (c comparison) holds(n int64) bool {
	switch c.operator {
	case "<":
		return n < c.number
	case "<=":
		return n <= c.number
	case ">":
		return n > c.number
	case ">=":
		return n >= c.number
	}
	return n == c.number
}
