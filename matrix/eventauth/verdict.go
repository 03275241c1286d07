package eventauth

import (
	"fmt"

	"stoa/matrix/event"
	"stoa/matrix/id"
)

// Verdict says whether an event is authorised, and by which rule.
type Verdict struct {
	// Version is the name of the room version.
	Version string
	// Rule is the number of the deciding rule in the list of that version's page, "5.3.1" say.
	Rule string
	// Reason completes "rejected: …" for people; empty if the event is allowed.
	Reason string
	// Malformed says that the event is rejected for its content, whoever sends it.
	Malformed bool
	// Allowed says whether the event is authorised.
	Allowed bool
}

// Err returns nil for an allowed event and a *Rejected for others.
func (v Verdict) Err() error {
	if v.Allowed {
		return nil
	}
	return &Rejected{Verdict: v}
}

// Rejected is the error of an event that is not authorised.
type Rejected struct{ Verdict Verdict }

func (r *Rejected) Error() string {
	return fmt.Sprintf("rejected by rule %s of room version %s: %s", r.Verdict.Rule, r.Verdict.Version, r.Verdict.Reason)
}

// State is the room state that an event is checked against.
type State interface {
	// Event returns the entry of a type and state key; nil, nil if there is none. An error is a fault.
	Event(eventType, stateKey string) (*event.PDU, error)
}

// Key is the place of an event in a room's state.
type Key struct{ Type, StateKey string }

func (k Key) String() string { return fmt.Sprintf("(%s, %q)", k.Type, k.StateKey) }

// AuthEvent is an auth event of an event under check.
type AuthEvent struct {
	PDU *event.PDU
	// Rejected says whether the auth event was itself rejected when it was received.
	Rejected bool
}

// StateOf makes a state of the auth events of an event, rejected ones left out. Where the room ID is made of the create
// event, events do not name it, so the caller gives it as create; otherwise create is nil.
//
// Spec: server-server-api#checks-performed-on-receipt-of-a-pdu
func StateOf(create *event.PDU, auth []AuthEvent) State {
	state := make(events, len(auth)+1)
	for _, a := range auth {
		if stateKey, ok := a.PDU.StateKey(); ok && !a.Rejected {
			state[Key{a.PDU.Type(), stateKey}] = a.PDU
		}
	}
	if create != nil {
		state[Key{Type: event.TypeCreate}] = create
	}
	return state
}

type events map[Key]*event.PDU

func (e events) Event(eventType, stateKey string) (*event.PDU, error) {
	return e[Key{eventType, stateKey}], nil
}

// check is the work on one event.
type check struct {
	ev      *event.PDU
	state   State
	numbers *numbers
	// fault is the first error of the state. What follows it sees missing entries, and its verdict is thrown away.
	fault error

	create *event.PDU
	power  *Powers // read when a rule first asks for it
}

func newCheck(ev *event.PDU, state State) *check {
	return &check{ev: ev, state: state, numbers: numbersFor(ev.Rules())}
}

func (c *check) entry(eventType, stateKey string) *event.PDU {
	if c.fault != nil {
		return nil
	}
	pdu, err := c.state.Event(eventType, stateKey)
	if err != nil {
		c.fault = fmt.Errorf("load state entry (%s, %q): %w", eventType, stateKey, err)
		return nil
	}
	return pdu
}

// membership returns a user's current membership, "leave" if the room does not know them.
func (c *check) membership(user string) string {
	if pdu := c.entry(event.TypeMember, user); pdu != nil {
		return pdu.Membership()
	}
	return event.MembershipLeave
}

func (c *check) powers() *Powers {
	if c.power == nil {
		c.power = NewPowers(c.create, c.entry(event.TypePowerLevels, ""))
	}
	return c.power
}

func (c *check) level(user id.UserID) Level { return c.powers().User(user) }

func (c *check) allow(r rule) Verdict {
	return Verdict{Version: c.ev.Rules().Version, Rule: c.numbers[r], Allowed: true}
}

// malformed are the rules that reject an event for its own content or place.
var malformed = map[rule]bool{
	ruleCreateHasPrevEvents: true, ruleCreateRoomID: true, ruleCreateUnknownVersion: true, ruleCreateNoCreator: true,
	ruleCreateAdditionalCreators: true, ruleMemberMalformed: true, ruleMembershipUnknown: true, ruleInvite3PIDMalformed: true,
	rulePowerLevelsProperties: true, rulePowerLevelsMaps: true, rulePowerLevelsUsers: true, rulePowerLevelsCreators: true,
}

func (c *check) reject(r rule, reason string) Verdict {
	return Verdict{Version: c.ev.Rules().Version, Rule: c.numbers[r], Reason: reason, Malformed: malformed[r]}
}

func (c *check) rejectf(r rule, format string, args ...any) Verdict {
	return c.reject(r, fmt.Sprintf(format, args...))
}
