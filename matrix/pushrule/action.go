package pushrule

import (
	"bytes"
	"encoding/json"
	"slices"

	"stoa/matrix/mxerr"
)

// MaxActions is the number of actions that a rule may have.
const MaxActions = 32

// Action is one thing that a matching rule does: `notify`, or set a tweak.
//
// Spec: client-server-api#actions
type Action struct {
	// Historical is the name of an action that does nothing: `dont_notify` or `coalesce`. It is kept since clients that
	// send it look for it. Then the rest is empty.
	Historical string
	// Tweak is the name of the tweak to set; "" if the action is `notify`.
	Tweak string
	// Value is the JSON text of the tweak's value; nil if it has none. It is never changed.
	Value json.RawMessage
}

// notify is the action without parameters.
var notify = Action{}

// setTweak makes the action that sets a tweak; value is a JSON text, or "" for none.
func setTweak(name, value string) Action {
	if value == "" {
		return Action{Tweak: name}
	}
	return Action{Tweak: name, Value: json.RawMessage(value)}
}

// MarshalJSON writes `"notify"` or `{"set_tweak": …, "value": …}`.
func (a Action) MarshalJSON() ([]byte, error) {
	if a.Historical != "" {
		return json.Marshal(a.Historical)
	}
	if a.Tweak == "" {
		return []byte(`"notify"`), nil
	}
	return json.Marshal(struct {
		SetTweak string          `json:"set_tweak"`
		Value    json.RawMessage `json:"value,omitempty"`
	}{a.Tweak, a.Value})
}

// ParseActions reads the list `actions` of a request: a JSON array. The historical actions `dont_notify` and `coalesce` are
// taken and do nothing. Anything else that is no action is M_BAD_JSON.
//
// Spec: client-server-api#historical-actions
func ParseActions(data []byte) ([]Action, error) {
	var items []json.RawMessage
	if !isArray(data) || json.Unmarshal(data, &items) != nil {
		return nil, mxerr.BadJSON("actions must be an array.")
	}
	if len(items) > MaxActions {
		return nil, mxerr.TooLarge("A push rule may have at most %d actions.", MaxActions)
	}
	actions := make([]Action, 0, len(items))
	for _, item := range items {
		action, err := parseAction(item)
		if err != nil {
			return nil, err
		}
		actions = append(actions, action)
	}
	return actions, nil
}

// acting leaves the historical actions out; nil stays nil.
func acting(list []Action) []Action {
	isHistorical := func(a Action) bool { return a.Historical != "" }
	if !slices.ContainsFunc(list, isHistorical) {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), isHistorical)
}

// parseAction reads one action.
func parseAction(item []byte) (action Action, err error) {
	var name string
	if json.Unmarshal(item, &name) == nil && item[0] == '"' {
		switch name {
		case "notify":
			return notify, nil
		case "dont_notify", "coalesce":
			return Action{Historical: name}, nil
		}
		return Action{}, mxerr.BadJSON("There is no push rule action %q.", name)
	}
	keys, ok := parseObject(item)
	if !ok {
		return Action{}, mxerr.BadJSON("A push rule action must be a string or an object.")
	}
	if action.Tweak, ok = parseString(keys["set_tweak"]); !ok || action.Tweak == "" {
		return Action{}, mxerr.BadJSON("A push rule action that is an object must have set_tweak, a string.")
	}
	if value := keys["value"]; value != nil {
		action.Value = compact(value)
	}
	return action, nil
}

// Actions is what happens to an event for one member. The zero value is nothing.
type Actions struct {
	// Notify says that the event notifies. Without it all else is empty.
	Notify bool
	// Highlight says that the tweak `highlight` is set and true.
	Highlight bool
	// Sound is the tweak `sound`; "" is none.
	Sound string
	// Tweaks is the JSON object of all tweaks for a push gateway: name to value. nil if there are none.
	Tweaks json.RawMessage
	// List is the JSON array of the matching rule's actions. nil if no rule notifies.
	List json.RawMessage
	// Kind and RuleID name the matching rule; RuleID is "" if none matches. A rule that says not to notify is named too.
	Kind   Kind
	RuleID string
}

// Verdict returns how the event counts.
func (a *Actions) Verdict() Verdict {
	switch {
	case !a.Notify:
		return Silent
	case a.Highlight:
		return Highlights
	}
	return Notifies
}

// resolveActions makes Actions of a rule's list.
func resolveActions(kind Kind, ruleID string, list []Action) Actions {
	list = acting(list)
	result := Actions{Kind: kind, RuleID: ruleID}
	tweaks := map[string]json.RawMessage{}
	for _, a := range list {
		switch {
		case a.Tweak == "":
			result.Notify = true
		case a.Value != nil:
			tweaks[a.Tweak] = a.Value
		case a.Tweak == "highlight":
			tweaks[a.Tweak] = json.RawMessage("true")
		default:
			tweaks[a.Tweak] = json.RawMessage("null")
		}
	}
	if !result.Notify {
		return result
	}
	result.Highlight = string(tweaks["highlight"]) == "true"
	result.Sound, _ = parseString(tweaks["sound"])
	if len(tweaks) > 0 {
		result.Tweaks = mustMarshal(tweaks)
	}
	result.List = mustMarshal(list)
	return result
}

// mustMarshal encodes what can't fail: values that were parsed from JSON.
func mustMarshal(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic("pushrule: " + err.Error())
	}
	return data
}

// parseObject reads a JSON object with exact keys; false if it is none.
func parseObject(data []byte) (map[string]json.RawMessage, bool) {
	var keys map[string]json.RawMessage
	err := json.Unmarshal(data, &keys)
	return keys, err == nil && keys != nil
}

// parseString reads a JSON string; false if it is none.
func parseString(data []byte) (string, bool) {
	var s string
	if len(data) == 0 || data[0] != '"' || json.Unmarshal(data, &s) != nil {
		return "", false
	}
	return s, true
}

func isArray(data []byte) bool {
	data = bytes.TrimLeft(data, " \t\r\n")
	return len(data) > 0 && data[0] == '['
}

// compact returns a JSON text without white space, in memory of its own.
func compact(data []byte) json.RawMessage {
	var b bytes.Buffer
	if err := json.Compact(&b, data); err != nil {
		panic("pushrule: " + err.Error())
	}
	return b.Bytes()
}
