package pushrule

import "stoa/matrix/id"

// trigger is what a compiled rule looks at.
type trigger uint8

const (
	// onClass: the bits of the event's class. A rule of no other trigger says the same to every member.
	onClass trigger = iota
	// onMention: the member is in m.mentions.user_ids, and the event's class has the bits.
	onMention
	// onInvite: the event invites the member.
	onInvite
	// onRoom: the event is in one room.
	onRoom
	// onSender: the event is of one sender.
	onSender
	// onTests: all tests hold.
	onTests
	// always: nothing.
	always
)

// compiled is an enabled rule, ready to be evaluated.
type compiled struct {
	trigger trigger
	bits    Class  // onClass, onMention
	text    string // onRoom, onSender: the ID
	tests   []test // onTests
	verdict Verdict
	actions *Actions

	// raises says that the rule can give more than the class does. Set by specialise.
	raises bool
}

// Rules are the rules of one user, compiled. They can be shared and used by any number of goroutines.
type Rules struct {
	list []compiled
	// rooms are the rooms that rules name, folded; globs says that a rule names rooms by a pattern with wildcards.
	rooms   map[string]struct{}
	globs   bool
	ignored map[string]struct{}
	// base is for the rooms that no rule names.
	base *Counter
}

var usualRules = compileRules(Defaults(id.UserID{}), nil)

// UsualRules returns the compiled rules of every user who changed nothing and ignores nobody.
func UsualRules() *Rules { return usualRules }

// IsUsual says whether these are the rules of a user who changed nothing and ignores nobody.
func (r *Rules) IsUsual() bool { return r == usualRules }

// Compile makes the rules ready to be evaluated. Events of senders that the user ignores never notify.
//
// Spec: client-server-api#ignoring-users
func (s *RuleSet) Compile(ignored []id.UserID) *Rules {
	if s.IsDefault() && len(ignored) == 0 {
		return usualRules
	}
	return compileRules(s, ignored)
}

func compileRules(s *RuleSet, ignored []id.UserID) *Rules {
	r := &Rules{}
	for kind := range Kind(kinds) {
		r.addDefaults(s, kind, true)
		for i := range s.own[kind] {
			r.add(&s.own[kind][i])
		}
		r.addDefaults(s, kind, false)
	}
	if len(ignored) > 0 {
		r.ignored = make(map[string]struct{}, len(ignored))
		for _, user := range ignored {
			r.ignored[user.String()] = struct{}{}
		}
	}
	r.base = r.specialise("")
	return r
}

// defaultCompiled are the default rules as they are shipped, in the order of defaultRules.
var defaultCompiled = func() []compiled {
	list := make([]compiled, len(defaultRules))
	for i := range defaultRules {
		d := &defaultRules[i]
		list[i] = d.compile(d.actions)
	}
	return list
}()

// compile makes the rule ready with what may be other actions than it is shipped with.
func (d *defaultRule) compile(actions []Action) compiled {
	resolved := resolveActions(d.kind, d.id, actions)
	return compiled{trigger: d.trigger, bits: d.bits, actions: &resolved, verdict: resolved.Verdict()}
}

// addDefaults adds the default rules of a kind: the one that is before the user's own, or the others.
func (r *Rules) addDefaults(s *RuleSet, kind Kind, first bool) {
	for i := range defaultRules {
		d := &defaultRules[i]
		if d.kind != kind || (d.id == RuleMaster) != first {
			continue
		}
		c := s.changed[d.id]
		if enabled := !d.disabled; c.enabled != nil && !*c.enabled || c.enabled == nil && !enabled {
			continue
		}
		if c.actions != nil {
			r.list = append(r.list, d.compile(c.actions))
		} else {
			r.list = append(r.list, defaultCompiled[i])
		}
	}
}

// add compiles a rule of the user behind those that are there.
func (r *Rules) add(rule *Rule) {
	if !rule.Enabled {
		return
	}
	actions := resolveActions(rule.kind, rule.ID, rule.Actions)
	c := compiled{actions: &actions, verdict: actions.Verdict()}
	switch rule.kind {
	case Content:
		if len(rule.Pattern) > MaxPatternLength {
			return // it was stored with another limit
		}
		c.trigger, c.tests = onTests, []test{bodyTest(rule.Pattern)}
	case Room:
		c.trigger, c.text = onRoom, rule.ID
		r.name(rule.ID)
	case Sender:
		c.trigger, c.text = onSender, rule.ID
	default:
		c.trigger = onTests
		for _, condition := range rule.Conditions {
			t := condition.compile()
			if t.op == opNever {
				return
			}
			c.tests = append(c.tests, t)
			r.nameRoomOf(t)
		}
		if len(c.tests) == 0 {
			c.trigger = always
		}
	}
	r.list = append(r.list, c)
}

// name notes that a rule is for one room. Patterns match in any case, so it may be for several rooms.
func (r *Rules) name(roomID string) {
	if r.rooms == nil {
		r.rooms = make(map[string]struct{})
	}
	r.rooms[fold(roomID)] = struct{}{}
}

// nameRoomOf notes the rooms that a test names.
func (r *Rules) nameRoomOf(t test) {
	switch {
	case len(t.path) != 1 || t.path[0] != "room_id":
	case t.op == opIs:
		r.name(t.value.text)
	case t.op == opMatch:
		if roomID, ok := t.pattern.literal(); ok {
			r.name(roomID)
		} else {
			r.globs = true
		}
	}
}

// In returns the rules as they are in one room.
func (r *Rules) In(roomID id.RoomID) *Counter {
	_, named := r.rooms[fold(roomID.String())]
	if named || r.globs {
		return r.specialise(roomID.String())
	}
	return r.base
}

// specialise decides what depends on nothing but the room, and finds out what the rules that differ between members can do.
// The room "" is one that no rule names.
func (r *Rules) specialise(roomID string) *Counter {
	c := &Counter{ignored: r.ignored}
	folded := fold(roomID)
	for _, rule := range r.list {
		switch rule.trigger {
		case onRoom:
			if rule.text != roomID {
				continue
			}
			rule.trigger = always
		case onTests:
			if !rule.resolveRoom(roomID, folded) {
				continue
			}
		}
		c.rules = append(c.rules, rule)
		if rule.trigger == always {
			break
		}
	}
	c.analyse()
	return c
}

// resolveRoom takes away the tests that hold in a room; false if one doesn't.
func (c *compiled) resolveRoom(roomID, folded string) bool {
	resolved := 0
	for i := range c.tests {
		holds, known := c.tests[i].inRoom(roomID, folded)
		if known && !holds {
			return false
		}
		if known {
			resolved++
		}
	}
	if resolved == 0 {
		return true
	}
	if resolved == len(c.tests) {
		c.trigger, c.tests = always, nil
		return true
	}
	tests := make([]test, 0, len(c.tests)-resolved)
	for i := range c.tests {
		if _, known := c.tests[i].inRoom(roomID, folded); !known {
			tests = append(tests, c.tests[i])
		}
	}
	c.tests = tests
	return true
}
