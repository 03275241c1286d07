package pushrule

import (
	"encoding/json"
	"fmt"
	"slices"

	"stoa/matrix/id"
)

// storedFormat is the letter of the stored form.
const storedFormat = "a"

// stored is the stored form of a RuleSet: the user's own rules, and what was changed of the default ones. What the default
// rules say is not stored, so that they can change with a release.
type stored struct {
	Format  string                  `json:"format"`
	Own     map[string][]storedRule `json:"own,omitempty"`
	Changed map[string]storedChange `json:"changed,omitempty"`
	// Other are rules of kinds that this package does not know. Earlier versions leave them out.
	Other map[string][]storedOther `json:"other,omitempty"`
}

type storedOther struct {
	ID       string          `json:"id"`
	Disabled bool            `json:"disabled,omitempty"`
	Body     json.RawMessage `json:"body"`
}

type storedRule struct {
	ID         string            `json:"id"`
	Disabled   bool              `json:"disabled,omitempty"`
	Conditions []json.RawMessage `json:"conditions,omitempty"`
	Pattern    string            `json:"pattern,omitempty"`
	Actions    []Action          `json:"actions"`
	// All are the actions with the historical ones, where there are some. Earlier versions read only Actions.
	All json.RawMessage `json:"all,omitempty"`
}

type storedChange struct {
	Enabled *bool     `json:"enabled,omitempty"`
	Actions *[]Action `json:"actions,omitempty"`
	// All is as in storedRule.
	All json.RawMessage `json:"all,omitempty"`
}

// allActions is what All holds of a list: nil where nothing in it is historical.
func allActions(list []Action) json.RawMessage {
	if len(acting(list)) == len(list) {
		return nil
	}
	return mustMarshal(list)
}

// loadActions gives the actions with the historical ones.
func loadActions(acting []Action, all json.RawMessage) ([]Action, error) {
	if all == nil {
		return acting, nil
	}
	return ParseActions(all)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (a *Action) UnmarshalJSON(data []byte) error {
	action, err := parseAction(data)
	if err != nil {
		return err
	}
	if action.Historical != "" {
		return fmt.Errorf("a historical push rule action: %s", data)
	}
	*a = action
	return nil
}

// Stored returns the stored form, a JSON text; empty if the user changed nothing.
func (s *RuleSet) Stored() []byte {
	if s.IsDefault() {
		return nil
	}
	form := stored{Format: storedFormat, Own: map[string][]storedRule{}, Changed: map[string]storedChange{}}
	for kind, rules := range s.own {
		for _, r := range rules {
			row := storedRule{ID: r.ID, Disabled: !r.Enabled, Pattern: r.Pattern, Actions: acting(r.Actions), All: allActions(r.Actions)}
			for _, c := range r.Conditions {
				row.Conditions = append(row.Conditions, c.raw)
			}
			name := Kind(kind).String()
			form.Own[name] = append(form.Own[name], row)
		}
	}
	for ruleID, c := range s.changed {
		row := storedChange{Enabled: c.enabled}
		if c.actions != nil {
			list := acting(c.actions)
			row.Actions, row.All = &list, allActions(c.actions)
		}
		form.Changed[ruleID] = row
	}
	for kind, rules := range s.other {
		for _, r := range rules {
			if form.Other == nil {
				form.Other = map[string][]storedOther{}
			}
			form.Other[kind] = append(form.Other[kind], storedOther{ID: r.ID, Disabled: !r.Enabled, Body: r.Body})
		}
	}
	return mustMarshal(form)
}

// Load reads the stored form of a user's rules; empty for a user who changed nothing. What it says of default rules that
// are no longer there is kept and has no effect.
func Load(user id.UserID, data []byte) (*RuleSet, error) {
	s := Defaults(user)
	if len(data) == 0 {
		return s, nil
	}
	var form stored
	if err := json.Unmarshal(data, &form); err != nil {
		return nil, fmt.Errorf("read push rules of %s: %w", user, err)
	}
	if form.Format != storedFormat {
		return nil, fmt.Errorf("read push rules of %s: unknown format %q", user, form.Format)
	}
	for name, rows := range form.Own {
		kind, err := ParseKind(name)
		if err != nil {
			return nil, fmt.Errorf("read push rules of %s: %w", user, err)
		}
		for _, row := range rows {
			r := Rule{ID: row.ID, Enabled: !row.Disabled, Pattern: row.Pattern, Actions: row.Actions, kind: kind}
			if r.Actions, err = loadActions(row.Actions, row.All); err != nil {
				return nil, fmt.Errorf("read push rules of %s: %w", user, err)
			}
			for _, raw := range row.Conditions {
				r.Conditions = append(r.Conditions, Condition{raw: slices.Clone(raw)})
			}
			s.own[kind] = append(s.own[kind], r)
		}
	}
	for ruleID, row := range form.Changed {
		c := change{enabled: row.Enabled}
		if row.Actions != nil {
			list, err := loadActions(*row.Actions, row.All)
			if err != nil {
				return nil, fmt.Errorf("read push rules of %s: %w", user, err)
			}
			c.actions = append([]Action{}, list...)
		}
		s = s.withChange(ruleID, c)
	}
	for kind, rows := range form.Other {
		rules := make([]OtherRule, len(rows))
		for i, row := range rows {
			rules[i] = OtherRule{ID: row.ID, Enabled: !row.Disabled, Body: row.Body}
		}
		s = s.withOther(kind, rules)
	}
	return s, nil
}
