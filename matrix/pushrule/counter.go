package pushrule

// Mode is what a member wants of a room, as far as it can be said in one word.
type Mode uint8

const (
	// ModeAll: messages notify.
	ModeAll Mode = iota
	// ModeMentions: messages don't notify, but something else can: mentions, keywords, @room.
	ModeMentions
	// ModeMute: nothing notifies.
	ModeMute
)

// String returns all, mentions or mute.
func (m Mode) String() string { return [...]string{"all", "mentions", "mute"}[m] }

// Counter is the rules of one user in one room. It can be shared and used by any number of goroutines.
type Counter struct {
	// rules are those that can be reached, most important first. An always rule is the last.
	rules   []compiled
	ignored map[string]struct{}

	raises bool
	mode   Mode
	// size is the number of rules and of their conditions.
	size int
	// takesAway says that some rule can give less than the class does whoever the sender is; takers are the senders for
	// whom one can.
	takesAway bool
	takers    []string
}

// Mode returns what the member wants of the room.
func (c *Counter) Mode() Mode { return c.mode }

// Raises says whether some event can have a greater verdict than its class. If not, the rows that Watch reported while the
// rules were other ones count no more.
func (c *Counter) Raises() bool { return c.raises }

// TakesAway says whether some event can have a smaller verdict than its class, so that unread events must be evaluated
// one by one. Rules about senders who are not there don't matter: present says of a sender whether some unread event may
// be theirs. nil stands for a function that always says yes.
func (c *Counter) TakesAway(present func(userID string) bool) bool {
	if c.takesAway || present == nil && len(c.takers) > 0 {
		return true
	}
	for _, sender := range c.takers {
		if present(sender) {
			return true
		}
	}
	return false
}

// Verdict returns the verdict of a class: what the rules make of its events for a member whom nothing in them concerns
// more than others.
func (c *Counter) Verdict(class Class) Verdict {
	if class == ClassNone {
		return Silent
	}
	for i := range c.rules {
		if rule := &c.rules[i]; rule.trigger == always || rule.trigger == onClass && class.has(rule.bits) {
			return rule.verdict
		}
	}
	return Silent
}

// Count counts unread events by their classes.
func (c *Counter) Count(unread Totals) Unread {
	var u Unread
	for _, e := range unread.counts {
		u.Add(c.Verdict(e.class), e.count)
	}
	return u
}

// CountRaised adds what an unread event counts beyond its class: an event that Watch reported with a verdict. If the rules
// have changed since so far that they raise nothing in this room, it is nothing.
func (c *Counter) CountRaised(u *Unread, class Class, verdict Verdict) {
	if !c.raises {
		return
	}
	counted := c.Verdict(class)
	if verdict >= Notifies && counted < Notifies {
		u.Notifications++
	}
	if verdict >= Highlights && counted < Highlights {
		u.Highlights++
	}
}

// Evaluate returns what the rules make of an event in this room for the member whose rules they are. Own events are nothing.
//
// Spec: client-server-api#push-rules
func (c *Counter) Evaluate(m Member, e *Event) Actions {
	rule := c.match(&m, e)
	if rule == nil {
		return Actions{}
	}
	return *rule.actions
}

// Judge returns the verdict of Evaluate.
func (c *Counter) Judge(m Member, e *Event) Verdict {
	rule := c.match(&m, e)
	if rule == nil {
		return Silent
	}
	return rule.verdict
}

// match returns the most important rule that matches, nil if there is none.
func (c *Counter) match(m *Member, e *Event) *compiled {
	if e.fields.Sender == m.UserID {
		return nil
	}
	if _, ignored := c.ignored[e.fields.Sender]; ignored {
		return nil
	}
	class := e.Class()
	e.memberWork.left = MemberWork
	for i := range c.rules {
		if rule := &c.rules[i]; rule.matches(m, e, class) {
			return rule
		}
	}
	return nil
}

func (c *compiled) matches(m *Member, e *Event, class Class) bool {
	switch c.trigger {
	case onClass:
		return class.has(c.bits)
	case onMention:
		return class.has(c.bits) && e.mentionsUser(m.UserID)
	case onInvite:
		invitee := e.invitee()
		return invitee != "" && invitee == fold(m.UserID)
	case onSender:
		return e.fields.Sender == c.text
	case onTests:
		for i := range c.tests {
			if !c.tests[i].holds(m, e) {
				return false
			}
		}
		return true
	}
	return c.trigger == always
}

// analyse finds out how far verdicts can be from those of the classes.
func (c *Counter) analyse() {
	type open struct {
		class   Class
		verdict Verdict
	}
	classes := make([]open, len(allClasses))
	most := Silent
	for i, class := range allClasses {
		classes[i] = open{class, c.Verdict(class)}
		most = max(most, classes[i].verdict)
	}
	for i := range c.rules {
		c.size += 1 + len(c.rules[i].tests)
	}
	for i := range c.rules {
		rule := &c.rules[i]
		if rule.trigger == always {
			break
		}
		if rule.trigger == onClass {
			rest := classes[:0]
			for _, o := range classes {
				if !o.class.has(rule.bits) {
					rest = append(rest, o)
				}
			}
			classes = rest
			continue
		}
		takes, types := false, rule.types()
		for _, o := range classes {
			if types != nil && !types[o.class&classTypes] {
				continue
			}
			rule.raises = rule.raises || rule.verdict > o.verdict
			takes = takes || rule.verdict < o.verdict
		}
		c.raises = c.raises || rule.raises
		if !takes {
			continue
		}
		if sender, ok := rule.sender(); ok {
			c.takers = append(c.takers, sender)
		} else {
			c.takesAway = true
		}
	}
	c.mode = c.findMode(most)
	if most > Silent || c.raises {
		for sender := range c.ignored {
			c.takers = append(c.takers, sender)
		}
	}
}

func (c *Counter) findMode(most Verdict) Mode {
	if most == Silent && !c.raises {
		return ModeMute
	}
	for _, class := range []Class{
		classMessage, classMessage | classOneToOne, classEncrypted, classEncrypted | classOneToOne,
	} {
		if c.Verdict(classCounted|class) > Silent {
			return ModeAll
		}
	}
	return ModeMentions
}

// sender returns the only sender whose events the rule can match, if there is but one.
func (c *compiled) sender() (string, bool) {
	if c.trigger == onSender {
		return c.text, true
	}
	for i := range c.tests {
		if t := &c.tests[i]; t.op == opIs && t.key == "sender" && t.value.kind == 's' {
			return t.value.text, true
		}
	}
	return "", false
}

// types returns the types of event that the rule can match, as bits of classes; nil if it can match any.
func (c *compiled) types() map[Class]bool {
	if c.trigger == onInvite {
		return map[Class]bool{classMember: true}
	}
	if c.trigger == onMention && c.bits != 0 {
		return map[Class]bool{c.bits: true}
	}
	for i := range c.tests {
		if eventType, ok := c.tests[i].eventType(); ok {
			message := Classify(Facts{}, Fields{Type: eventType})
			state := Classify(Facts{}, Fields{Type: eventType, StateKey: new(string)})
			return map[Class]bool{message & classTypes: true, state & classTypes: true}
		}
	}
	return nil
}

// eventType returns the folded type of event without which the test does not hold, if there is but one.
func (t *test) eventType() (string, bool) {
	if t.key != "type" {
		return "", false
	}
	switch t.op {
	case opMatch:
		return t.pattern.literal()
	case opIs:
		return fold(t.value.text), t.value.kind == 's'
	}
	return "", false
}
