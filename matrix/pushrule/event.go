package pushrule

import "stoa/matrix/canonicaljson"

// Fields are what rules can see of an event.
type Fields struct {
	Type    string
	Sender  string
	RoomID  string
	EventID string
	// StateKey is nil for an event that is no state event.
	StateKey *string
	// Redacts is the property of the top level, "" if it is not there.
	Redacts string
	// OriginServerTS is in milliseconds.
	OriginServerTS int64
	// Content is a JSON object that has been checked, such as event.PDU.Content.
	Content []byte
}

// Facts are what rules can see of the room, at the time of the event.
type Facts struct {
	// MemberCount is the number of joined members.
	MemberCount int
	// MayNotify says whether the sender's power level is that of notifications.<key> of the room's power levels, or more. nil
	// is a sender without any power.
	//
	// Spec: client-server-api#mroompower_levels
	MayNotify func(key string) bool
}

// Event is one event that many members' rules look at. It remembers what it has looked up, so it must not be used by two
// goroutines at once. It shares memory with its fields.
type Event struct {
	fields Fields
	facts  Facts

	class      Class
	classified bool

	// Values of content that many rules ask for, nil if absent; valid once scanned.
	scanned                          bool
	msgtype, mentions, relates, body []byte

	folded     string // the body, folded
	foldedType string
	isFolded   bool
	hasBody    bool // there is a body that is a string

	values map[string][]byte // JSON texts of other properties, by key; nil if absent

	permitted map[string]bool     // answers of MayNotify
	mentioned map[string]struct{} // the users in m.mentions; nil until somebody asks

	// work is what all members' rules may still do, memberWork what those of the member may who is looked at.
	work       *Work
	memberWork Work
}

// NewEvent makes the view of an event.
func NewEvent(fields Fields, facts Facts) *Event {
	return &Event{fields: fields, facts: facts, work: NewWork(EventWork)}
}

// LimitWork makes the rules of the members use up a budget that other events use too, instead of EventWork. Conditions that would
// exceed it don't hold.
func (e *Event) LimitWork(work *Work) { e.work = work }

// spend takes steps from both budgets; false if one of them has too few left.
func (e *Event) spend(steps int) bool { return e.memberWork.spend(steps) && e.work.spend(steps) }

// Classify returns the class of an event that has a place in the timeline of a room.
func Classify(facts Facts, fields Fields) Class { return NewEvent(fields, facts).Class() }

// Class returns the class of the event, as one that has a place in the timeline. It is never ClassNone.
func (e *Event) Class() Class {
	if !e.classified {
		e.class, e.classified = e.classify(), true
	}
	return e.class
}

func (e *Event) classify() Class {
	c := classCounted
	switch e.typeFolded() {
	case "m.room.message":
		c |= classMessage
	case "m.room.encrypted":
		c |= classEncrypted
	case "m.room.member":
		c |= classMember
	case "m.reaction":
		c |= classReaction
	case "m.call.invite":
		c |= classCall
	case "org.matrix.msc3381.poll.response":
		c |= classPollResponse
	case "org.matrix.msc3381.poll.start":
		c |= classPollStart
	case "org.matrix.msc3381.poll.end":
		c |= classPollEnd
	case "org.matrix.msc4075.rtc.invite":
		c |= classRTCInvite
	case "m.room.tombstone":
		if e.fields.StateKey != nil && *e.fields.StateKey == "" {
			c |= classTombstone
		}
	case "m.room.server_acl":
		if e.fields.StateKey != nil && *e.fields.StateKey == "" {
			c |= classServerACL
		}
	}
	if c&classOneToOneTypes != 0 && e.facts.MemberCount == 2 {
		c |= classOneToOne
	}
	e.scan()
	if msgtype, ok := canonicaljson.String(e.msgtype); ok && fold(msgtype) == "m.notice" {
		c |= classNotice
	}
	if e.relates != nil {
		if relType, ok := canonicaljson.String(canonicaljson.Get(e.relates, "rel_type")); ok && relType == "m.replace" {
			c |= classEdit
		}
	}
	if e.mentions != nil && string(canonicaljson.Get(e.mentions, "room")) == "true" && e.mayNotify("room") {
		c |= classRoomMention
	}
	return c
}

func (e *Event) mayNotify(key string) bool { return e.facts.MayNotify != nil && e.facts.MayNotify(key) }

// permission is mayNotify for the rules of members, who may ask often. It is false if no work is left.
func (e *Event) permission(key string) bool {
	permitted, known := e.permitted[key]
	if known || !e.spend(permissionSteps) {
		return permitted
	}
	if e.permitted == nil {
		e.permitted = map[string]bool{}
	}
	e.permitted[key] = e.mayNotify(key)
	return e.permitted[key]
}

// scan finds the values of content that many rules ask for.
func (e *Event) scan() {
	if e.scanned {
		return
	}
	e.scanned = true
	// Content that is no object has no properties; nothing else can go wrong here.
	_ = canonicaljson.Object(e.fields.Content, func(key string, value []byte) error {
		switch key {
		case "body":
			e.body = value
		case "msgtype":
			e.msgtype = value
		case "m.mentions":
			e.mentions = value
		case "m.relates_to":
			e.relates = value
		}
		return nil
	})
}

// foldedBody returns the first MaxMatchedText bytes of content.body, folded; false if there is none that is a string.
func (e *Event) foldedBody() (string, bool) {
	if !e.isFolded {
		e.scan()
		e.isFolded = true
		var body string
		if body, e.hasBody = canonicaljson.String(e.body); e.hasBody {
			e.folded = fold(truncateWords(body))
		}
	}
	return e.folded, e.hasBody
}

func (e *Event) typeFolded() string {
	if e.foldedType == "" {
		e.foldedType = fold(e.fields.Type)
	}
	return e.foldedType
}

// eachMention calls fn with each string of content.m.mentions.user_ids.
func (e *Event) eachMention(fn func(userID string)) {
	e.scan()
	if e.mentions == nil {
		return
	}
	// What is no array mentions nobody.
	_ = canonicaljson.Array(canonicaljson.Get(e.mentions, "user_ids"), func(value []byte) error {
		if userID, ok := canonicaljson.String(value); ok {
			fn(userID)
		}
		return nil
	})
}

func (e *Event) mentionsUser(userID string) bool {
	if e.mentioned == nil {
		e.mentioned = map[string]struct{}{}
		e.eachMention(func(name string) { e.mentioned[name] = struct{}{} })
	}
	_, found := e.mentioned[userID]
	return found
}

// invitee returns the folded ID of the user whom the event invites, "" if it is no invite. The rule .m.rule.invite_for_me
// matches in any case, like all patterns; the IDs of local users have no upper case.
func (e *Event) invitee() string {
	if e.fields.StateKey == nil || e.typeFolded() != "m.room.member" {
		return ""
	}
	membership, ok := canonicaljson.String(e.property("content.membership", []string{"content", "membership"}))
	if !ok || fold(membership) != "invite" {
		return ""
	}
	return fold(*e.fields.StateKey)
}

// text returns the property of a path if it is a string.
func (e *Event) text(key string, path []string) (string, bool) {
	value := e.scalar(key, path)
	return value.text, value.kind == 's'
}

// lookUp returns the JSON text of a property of content, like property; false if there is no work left to find and read it.
func (e *Event) lookUp(key string, path []string) (value []byte, ok bool) {
	if len(path) < 2 {
		return nil, true
	}
	if _, known := e.values[key]; !known && !e.spend(len(e.fields.Content)) {
		return nil, false
	}
	value = e.property(key, path)
	return value, e.spend(len(value))
}

// scalar returns the property of a path; its kind is 0 if it is absent, an array, an object, or a number that canonical JSON
// does not have. What a server adds to an event for one reader (unsigned) is no property here.
func (e *Event) scalar(key string, path []string) scalar {
	if len(path) > 1 {
		value, ok := parseScalar(e.property(key, path))
		if !ok {
			return scalar{}
		}
		return value
	}
	text := ""
	switch path[0] {
	case "type":
		text = e.fields.Type
	case "sender":
		text = e.fields.Sender
	case "room_id":
		text = e.fields.RoomID
	case "event_id":
		text = e.fields.EventID
	case "redacts":
		text = e.fields.Redacts
	case "state_key":
		if e.fields.StateKey != nil {
			return scalar{kind: 's', text: *e.fields.StateKey}
		}
	case "origin_server_ts":
		return scalar{kind: 'i', number: e.fields.OriginServerTS}
	}
	if text == "" {
		return scalar{}
	}
	return scalar{kind: 's', text: text}
}

// property returns the JSON text of a property of content; nil if absent. The key is its path as one text.
func (e *Event) property(key string, path []string) []byte {
	if len(path) < 2 || path[0] != "content" {
		return nil
	}
	if value, known := e.values[key]; known {
		return value
	}
	value := e.fields.Content
	for _, name := range path[1:] {
		if value = canonicaljson.Get(value, name); value == nil {
			break
		}
	}
	if e.values == nil {
		e.values = make(map[string][]byte)
	}
	e.values[key] = value
	return value
}
