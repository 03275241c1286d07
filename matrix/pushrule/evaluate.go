package pushrule

import (
	"bytes"

	"stoa/matrix/canonicaljson"
)

// Member is the user for whom rules are evaluated.
type Member struct {
	UserID string
	// DisplayName is the one in the room, "" for none.
	DisplayName string
}

// test is a compiled condition.
type test struct {
	op      op
	key     string   // of a property
	path    []string // of the same property
	pattern *glob
	value   scalar
	count   comparison
}

type op uint8

const (
	opNever op = iota
	opMatch
	opMatchBody
	opIs
	opContains
	opDisplayName
	opMemberCount
	opPermission
)

var bodyPath = []string{"content", "body"}

// bodyTest is the condition that rules of the kind content have.
func bodyTest(pattern string) test {
	return test{op: opMatchBody, key: "content.body", path: bodyPath, pattern: compileGlob(pattern)}
}

// compile makes a test of a condition. One that is not known, or was stored with other limits, never matches.
//
// Spec: client-server-api#conditions-1
func (c Condition) compile() test {
	p, ok := c.parse()
	if !ok || c.check() != nil {
		return test{op: opNever}
	}
	key := p.text("key")
	path := parsePath(key)
	value, _ := parseScalar(bytes.Clone(p.keys["value"]))
	switch p.kind {
	case kindEventMatch:
		t := test{op: opMatch, key: key, path: path, pattern: compileGlob(p.text("pattern"))}
		if len(path) == 2 && path[0] == bodyPath[0] && path[1] == bodyPath[1] {
			t.op = opMatchBody
		}
		return t
	case kindEventPropertyIs:
		return test{op: opIs, key: key, path: path, value: value}
	case kindEventPropertyContains:
		return test{op: opContains, key: key, path: path, value: value}
	case kindContainsDisplayName:
		return test{op: opDisplayName}
	case kindRoomMemberCount:
		count, _ := parseComparison(p.text("is")) // check has parsed it before
		return test{op: opMemberCount, count: count}
	case kindSenderNotificationPermission:
		return test{op: opPermission, key: key}
	}
	return test{op: opNever}
}

// holds says whether the condition holds. One for which no work is left doesn't.
func (t *test) holds(m *Member, e *Event) bool {
	if !e.spend(ruleSteps) {
		return false
	}
	switch t.op {
	case opMatch, opIs, opContains:
		if _, ok := e.lookUp(t.key, t.path); !ok {
			return false
		}
	}
	switch t.op {
	case opMatch:
		text, ok := e.text(t.key, t.path)
		text = truncate(text)
		return ok && e.spend(len(text)+t.pattern.cost(len(text))) && t.pattern.matches(fold(text))
	case opMatchBody:
		body, ok := e.foldedBody()
		return ok && e.spend(t.pattern.cost(len(body))) && t.pattern.matchesWords(body)
	case opIs:
		return e.scalar(t.key, t.path) == t.value
	case opContains:
		return t.contained(e.property(t.key, t.path))
	case opDisplayName:
		if m.DisplayName == "" {
			return false
		}
		body, ok := e.foldedBody()
		if !ok || !e.spend(len(m.DisplayName)+len(body)/literalBytes) {
			return false
		}
		return compileLiteral(m.DisplayName).matchesWords(body)
	case opMemberCount:
		return t.count.holds(int64(e.facts.MemberCount))
	case opPermission:
		return e.permission(t.key)
	}
	return false
}

// contained says whether an array has the value; false if it is no array.
func (t *test) contained(array []byte) bool {
	found := false
	// What is no array contains nothing.
	_ = canonicaljson.Array(array, func(item []byte) error {
		value, ok := parseScalar(item)
		found = found || ok && value == t.value
		return nil
	})
	return found
}

// inRoom evaluates a test that looks at nothing but the ID of the room; known is false for other tests. The room "" is one
// that no rule names.
func (t *test) inRoom(roomID, folded string) (holds, known bool) {
	if len(t.path) != 1 || t.path[0] != "room_id" {
		return false, false
	}
	if roomID == "" {
		return false, true
	}
	switch t.op {
	case opMatch:
		return t.pattern.matches(folded), true
	case opIs:
		return t.value == scalar{kind: 's', text: roomID}, true
	}
	return false, true
}
