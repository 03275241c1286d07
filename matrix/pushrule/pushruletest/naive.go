// Package pushruletest holds what tests of unread counts need: an evaluator of push rules that is as simple as the text of
// the specification, and random rule sets, members and events that meet often.
//
// It owns the second opinion. It never uses the compiled rules, classes or globs of package pushrule, so that the two can
// disagree. The invariant: Naive looks at every rule, for every event, in the order of the specification.
package pushruletest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"stoa/matrix/pushrule"
)

// Member is the user for whom an event is judged.
type Member struct {
	UserID      string
	DisplayName string
	// Rules is the rule set as the API shows it (what stands under `global`).
	Rules []byte
	// Ignored are the users whose events are to be ignored.
	Ignored []string
}

type naiveRule struct {
	RuleID     string           `json:"rule_id"`
	Enabled    bool             `json:"enabled"`
	Conditions []map[string]any `json:"conditions"`
	Pattern    string           `json:"pattern"`
	Actions    []any            `json:"actions"`
}

// Naive returns the verdict of a member's rules on an event, by going through all of them. The event is one that clients
// get, as JSON. Input that can't be read panics: it is a test's mistake.
//
// Spec: client-server-api#push-rules
func Naive(m Member, eventJSON []byte, facts pushrule.Facts) pushrule.Verdict {
	var event map[string]any
	decode(eventJSON, &event)
	sender, _ := event["sender"].(string)
	if sender == m.UserID || slices.Contains(m.Ignored, sender) {
		return pushrule.Silent
	}
	var set map[string][]naiveRule
	decode(m.Rules, &set)
	n := naive{member: m, event: event, facts: facts}
	for _, kind := range []string{"override", "content", "room", "sender", "underride"} {
		for _, rule := range set[kind] {
			if rule.Enabled && n.ruleMatches(kind, rule) {
				return verdict(rule.Actions)
			}
		}
	}
	return pushrule.Silent
}

func decode(data []byte, into any) {
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		panic(fmt.Sprintf("pushruletest: %v in %s", err, data))
	}
}

func verdict(actions []any) pushrule.Verdict {
	notify, highlight := false, false
	for _, action := range actions {
		if action == "notify" {
			notify = true
		}
		if tweak, ok := action.(map[string]any); ok && tweak["set_tweak"] == "highlight" {
			value, given := tweak["value"]
			highlight = !given || value == true
		}
	}
	switch {
	case notify && highlight:
		return pushrule.Highlights
	case notify:
		return pushrule.Notifies
	}
	return pushrule.Silent
}

type naive struct {
	member Member
	event  map[string]any
	facts  pushrule.Facts
}

func (n naive) ruleMatches(kind string, rule naiveRule) bool {
	switch kind {
	case "content":
		return n.match("content.body", rule.Pattern)
	case "room":
		return n.event["room_id"] == rule.RuleID
	case "sender":
		return n.event["sender"] == rule.RuleID
	}
	for _, condition := range rule.Conditions {
		if !n.holds(condition) {
			return false
		}
	}
	return true
}

func (n naive) holds(c map[string]any) bool {
	key, _ := c["key"].(string)
	switch c["kind"] {
	case "event_match":
		pattern, ok := c["pattern"].(string)
		return ok && n.match(key, pattern)
	case "event_property_is":
		value, ok := n.property(key)
		return ok && same(value, c["value"])
	case "event_property_contains":
		value, _ := n.property(key)
		list, ok := value.([]any)
		return ok && slices.ContainsFunc(list, func(item any) bool { return same(item, c["value"]) })
	case "contains_display_name":
		name := strings.ToLower(n.member.DisplayName)
		value, _ := n.property("content.body")
		body, ok := value.(string)
		return ok && name != "" && inWords(strings.ToLower(body), func(piece string) bool { return piece == name })
	case "room_member_count":
		is, ok := c["is"].(string)
		return ok && n.counts(is)
	case "sender_notification_permission":
		return n.facts.MayNotify != nil && n.facts.MayNotify(key)
	}
	return false
}

func (n naive) counts(is string) bool {
	number := strings.TrimLeft(is, "=<>")
	operator := strings.TrimSuffix(is, number)
	want, err := strconv.Atoi(number)
	if err != nil || number[0] == '+' || number[0] == '-' {
		return false
	}
	count := n.facts.MemberCount
	switch operator {
	case "", "==":
		return count == want
	case "<":
		return count < want
	case "<=":
		return count <= want
	case ">":
		return count > want
	case ">=":
		return count >= want
	}
	return false
}

func (n naive) match(key, pattern string) bool {
	value, _ := n.property(key)
	text, ok := value.(string)
	if !ok {
		return false
	}
	text, pattern = strings.ToLower(text), strings.ToLower(pattern)
	if key == "content.body" {
		return inWords(text, func(piece string) bool { return globMatches(pattern, piece) })
	}
	return globMatches(pattern, text)
}

// property finds a value by its path. The key is split at dots that are not escaped.
func (n naive) property(key string) (any, bool) {
	const dot, backslash = "\x01", "\x02"
	key = strings.NewReplacer(`\\`, backslash, `\.`, dot).Replace(key)
	var value any = n.event
	for _, name := range strings.Split(key, ".") {
		object, ok := value.(map[string]any)
		if !ok {
			return nil, false
		}
		if value, ok = object[strings.NewReplacer(dot, ".", backslash, `\`).Replace(name)]; !ok {
			return nil, false
		}
	}
	return value, true
}

// same compares values that are neither arrays nor objects nor floats.
func same(a, b any) bool {
	switch a := a.(type) {
	case nil:
		return b == nil
	case string, bool:
		return a == b
	case json.Number:
		b, ok := b.(json.Number)
		return ok && a == b && !strings.ContainsAny(a.String(), ".eE")
	}
	return false
}

// globMatches fills a table: whether the first i characters of the pattern match the first j of the text.
func globMatches(pattern, text string) bool {
	p, t := []rune(pattern), []rune(text)
	table := make([][]bool, len(p)+1)
	for i := range table {
		table[i] = make([]bool, len(t)+1)
		for j := range table[i] {
			switch {
			case i == 0:
				table[i][j] = j == 0
			case p[i-1] == '*':
				table[i][j] = table[i-1][j] || j > 0 && table[i][j-1]
			case j > 0 && (p[i-1] == '?' || p[i-1] == t[j-1]):
				table[i][j] = table[i-1][j-1]
			}
		}
	}
	return table[len(p)][len(t)]
}

// inWords tries every piece of a text that starts and ends at a word boundary. An empty piece counts only in an empty text.
func inWords(text string, matches func(string) bool) bool {
	t := []rune(text)
	if len(t) == 0 {
		return matches("")
	}
	boundary := func(i int) bool {
		if i < 0 || i >= len(t) {
			return true
		}
		return !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_", t[i])
	}
	for start := range t {
		for end := start + 1; end <= len(t); end++ {
			if (boundary(start) || boundary(start-1)) && (boundary(end) || boundary(end-1)) && matches(string(t[start:end])) {
				return true
			}
		}
	}
	return false
}
