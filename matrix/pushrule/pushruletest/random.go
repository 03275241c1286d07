package pushruletest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"

	"stoa/matrix/id"
	"stoa/matrix/pushrule"
)

// Random makes rules, members and events out of few words, users and rooms, so that they often concern each other.
type Random struct {
	*rand.Rand
	// Users are the user IDs that rules and events name.
	Users []string
	// Rooms are the room IDs that rules name.
	Rooms []string
}

// NewRandom makes the same things for the same seed.
func NewRandom(seed uint64, users, rooms []string) *Random {
	return &Random{Rand: rand.New(rand.NewPCG(seed, 0)), Users: users, Rooms: rooms}
}

func pick[T any](r *Random, from ...T) T { return from[r.IntN(len(from))] }

var (
	words        = []string{"cake", "Tea", "c++", "日本", "foo bar", "x", "lie", "@room", "naïve", "K", "a*b"}
	patterns     = []string{"cake", "t?a", "c++", "日", "foo bar", "foo*", "*lie", "cake*lie", "@room", "??", "*", "", "naïve", "o b", "ÏVE"}
	displayNames = []string{"", "Tea", "Foo Bar", "日本", "a*b", "x"}
)

// DisplayName returns a display name, "" at times.
func (r *Random) DisplayName() string { return pick(r, displayNames...) }

// Ignored returns the users that someone ignores; mostly none.
func (r *Random) Ignored() []string {
	if r.IntN(6) > 0 {
		return nil
	}
	return []string{pick(r, r.Users...)}
}

// Change changes a rule set at random, as a client would by one request.
func (r *Random) Change(s *pushrule.RuleSet) *pushrule.RuleSet {
	kind := pick(r, pushrule.Override, pushrule.Content, pushrule.Room, pushrule.Sender, pushrule.Underride)
	existing := pick(r, append(s.Rules(kind), pushrule.Rule{})...)
	var next *pushrule.RuleSet
	var err error
	switch choice := r.IntN(10); {
	case choice == 0 && !existing.Default && existing.ID != "":
		next, err = s.Delete(kind, existing.ID)
	case choice <= 2 && existing.ID != "" && (existing.ID != pushrule.RuleMaster || r.IntN(8) == 0):
		next, err = s.SetEnabled(kind, existing.ID, r.IntN(2) == 0)
	case choice <= 4 && existing.ID != "":
		var actions []pushrule.Action
		if actions, err = pushrule.ParseActions(r.actions()); err == nil {
			next, err = s.SetActions(kind, existing.ID, actions)
		}
	default:
		next, err = s.Put(kind, r.ruleID(kind), r.rule(kind), pushrule.Place{})
	}
	if err != nil {
		panic(fmt.Sprintf("pushruletest: a random change: %v", err))
	}
	return next
}

// RuleSet returns the default rules with a few random changes, often none.
func (r *Random) RuleSet(user id.UserID) *pushrule.RuleSet {
	s := pushrule.Defaults(user)
	for range max(0, r.IntN(7)-2) {
		s = r.Change(s)
	}
	return s
}

func (r *Random) ruleID(kind pushrule.Kind) string {
	switch kind {
	case pushrule.Room:
		return pick(r, r.Rooms...)
	case pushrule.Sender:
		return pick(r, r.Users...)
	}
	return fmt.Sprintf("rule%d", r.IntN(4))
}

func (r *Random) rule(kind pushrule.Kind) []byte {
	rule := map[string]any{"actions": json.RawMessage(r.actions())}
	switch kind {
	case pushrule.Content:
		rule["pattern"] = pick(r, patterns...)
	case pushrule.Override, pushrule.Underride:
		conditions := []any{}
		for range pick(r, 0, 1, 1, 1, 2, 2) {
			conditions = append(conditions, r.condition())
		}
		rule["conditions"] = conditions
	}
	return encode(rule)
}

func (r *Random) actions() []byte {
	return []byte(pick(r, `[]`, `["dont_notify"]`, `["notify"]`, `["notify",{"set_tweak":"highlight"}]`,
		`["notify",{"set_tweak":"highlight","value":false},{"set_tweak":"sound","value":"x"}]`,
		`[{"set_tweak":"highlight"}]`))
}

func (r *Random) condition() map[string]any {
	match := func(key, pattern string) map[string]any {
		return map[string]any{"kind": "event_match", "key": key, "pattern": pattern}
	}
	is := func(key string, value any) map[string]any {
		return map[string]any{"kind": "event_property_is", "key": key, "value": value}
	}
	switch r.IntN(14) {
	case 0:
		return match("type", pick(r, "m.room.message", "m.room.*", "m.room.encrypted", "m.room.topic", "M.Reaction", "m.room.tombstone"))
	case 1:
		return match("content.body", pick(r, patterns...))
	case 2:
		return match("room_id", pick(r, pick(r, r.Rooms...), "!*", "*"))
	case 3:
		return match("sender", pick(r, pick(r, r.Users...), "@*"))
	case 4:
		return match("state_key", pick(r, "", "*"))
	case 5:
		return match("content.msgtype", pick(r, "m.*", "m.notice", "m.text"))
	case 6:
		return is(`content.m\.relates_to.rel_type`, pick(r, "m.replace", "m.thread"))
	case 7:
		return is("content.number", pick[any](r, 1, true, nil, "1"))
	case 8:
		return is("sender", pick(r, r.Users...))
	case 9:
		return is("room_id", pick(r, r.Rooms...))
	case 10:
		return map[string]any{
			"kind": "event_property_contains", "key": `content.m\.mentions.user_ids`, "value": pick(r, r.Users...),
		}
	case 11:
		return map[string]any{"kind": "contains_display_name"}
	case 12:
		return map[string]any{"kind": "room_member_count", "is": pick(r, "2", "==2", ">2", "<=3", "<2", ">=4")}
	}
	return pick(r, map[string]any{"kind": "sender_notification_permission", "key": pick(r, "room", "other")},
		map[string]any{"kind": "org.example.unknown"})
}

// Event is an event in both of the forms that tests need.
type Event struct {
	Fields pushrule.Fields
	// JSON is what a client gets.
	JSON []byte
}

// Event makes an event of a room. Mentions in it name any of the users.
func (r *Random) Event(roomID, sender string) Event {
	content := map[string]any{}
	eventType := pick(r, "m.room.message", "m.room.message", "m.room.message", "m.room.encrypted", "m.reaction", "m.call.invite",
		"m.room.topic", "m.room.tombstone", "m.room.server_acl", "m.room.member", "M.ROOM.message",
		"org.matrix.msc3381.poll.start", "org.matrix.msc3381.poll.end", "org.matrix.msc3381.poll.response", "org.matrix.msc4075.rtc.invite")
	var stateKey *string
	switch eventType {
	case "m.room.member":
		stateKey = new(pick(r, r.Users...))
		content["membership"] = pick(r, "join", "invite", "leave")
	case "m.room.topic", "m.room.tombstone", "m.room.server_acl":
		stateKey = new(pick(r, "", "", "x"))
	}
	if r.IntN(5) > 0 {
		content["body"] = r.body()
	}
	content["msgtype"] = pick(r, "m.text", "m.text", "m.notice")
	if r.IntN(4) == 0 {
		content["m.relates_to"] = map[string]any{"rel_type": pick(r, "m.replace", "m.thread"), "event_id": "$root"}
	}
	if r.IntN(3) == 0 {
		mentions := map[string]any{}
		if r.IntN(2) == 0 {
			mentions["room"] = pick[any](r, true, true, false, "true")
		}
		if r.IntN(2) == 0 {
			mentions["user_ids"] = []any{pick(r, r.Users...), pick[any](r, pick(r, r.Users...), 1)}
		}
		content["m.mentions"] = mentions
	}
	if r.IntN(4) == 0 {
		content["number"] = pick[any](r, 1, 1.5, "1", nil, true)
	}
	return NewEvent(pushrule.Fields{
		Type: eventType, Sender: sender, RoomID: roomID, EventID: fmt.Sprintf("$%d", r.Uint32()),
		StateKey: stateKey, Content: encode(content),
	})
}

// NewEvent makes both forms of an event.
func NewEvent(f pushrule.Fields) Event {
	event := map[string]any{
		"type": f.Type, "sender": f.Sender, "room_id": f.RoomID, "event_id": f.EventID,
		"origin_server_ts": f.OriginServerTS, "content": json.RawMessage(f.Content),
	}
	if f.StateKey != nil {
		event["state_key"] = *f.StateKey
	}
	if f.Redacts != "" {
		event["redacts"] = f.Redacts
	}
	return Event{Fields: f, JSON: encode(event)}
}

func (r *Random) body() any {
	switch r.IntN(12) {
	case 0:
		return ""
	case 1:
		return 7
	}
	body := ""
	for range 1 + r.IntN(4) {
		body += pick(r, words...) + pick(r, " ", " ", "", "-")
	}
	return body
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic("pushruletest: " + err.Error())
	}
	return data
}
