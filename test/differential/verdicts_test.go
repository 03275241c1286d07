package differential

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/roomversion"
	"stoa/matrix/stateres"
	"stoa/matrix/stateres/staterestest"
)

// question is an event and a state for which two libraries gave their verdicts.
type question struct {
	room *staterestest.Room
	staterestest.Attempt
	ours   eventauth.Verdict
	theirs error
}

func (q question) String() string {
	text := fmt.Sprintf("v%s: ours %+v, theirs %v\n  %s", q.room.Rules.Version, q.ours, q.theirs, q.PDU.Bytes())
	for _, key := range eventauth.AuthTypes(q.room.Rules, eventauth.SubjectOf(q.PDU)) {
		text += fmt.Sprintf("\n  %v: %s", key, q.room.Describe(q.State[key]))
	}
	return text
}

func (q question) entry(eventType, stateKey string) *event.PDU {
	if ref := q.State[stateres.Key{Type: eventType, StateKey: stateKey}]; ref != 0 {
		return q.room.PDU(ref)
	}
	return nil
}

// panicked says whether the other library came to no verdict at all.
func (q question) panicked() bool {
	var p panicked
	return errors.As(q.theirs, &p)
}

// membership is a user's membership, "leave" without one.
func (q question) membership(user string) string {
	if pdu := q.entry(event.TypeMember, user); pdu != nil {
		return pdu.Membership()
	}
	return "leave"
}

// known is a difference that the README tells of.
type known struct {
	name string
	// explains says whether the difference is this one.
	explains func(q question) bool
	seen     int
}

// differences counts known differences and reports others.
type differences struct {
	library string
	mu      sync.Mutex // guards what follows
	known   []*known
	asked   int
	other   int
	kinds   map[string]int
}

// shown is how many kinds of unknown differences are shown in full.
const shown = 8

func (d *differences) ask(t *testing.T, q question) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	if q.ours.Allowed == (q.theirs == nil) && !q.panicked() {
		return
	}
	for _, k := range d.known {
		if k.explains(q) {
			k.seen++
			return
		}
	}
	d.other++
	kind := fmt.Sprintf("rule %s, %v, %s %s", q.ours.Rule, q.ours.Allowed, q.PDU.Type(), q.PDU.Membership())
	if d.kinds == nil {
		d.kinds = map[string]int{}
	}
	if d.kinds[kind]++; d.kinds[kind] == 1 && len(d.kinds) <= shown {
		t.Errorf("%s: %v", d.library, q)
	}
}

// report fails if a known difference did not show: then the library has changed, and list and README are out of date.
func (d *differences) report(t *testing.T) {
	t.Helper()
	t.Logf("%s: %d verdicts asked", d.library, d.asked)
	if d.other > 0 {
		t.Errorf("%s: %d unknown differences: %v", d.library, d.other, d.kinds)
	}
	for _, k := range d.known {
		t.Logf("%s: %6d × %s", d.library, k.seen, k.name)
		if k.seen == 0 {
			t.Errorf("%s no longer differs: %s", d.library, k.name)
		}
	}
}

// rooms is how many random rooms of each version are asked about, each for some forty events.
const rooms = 25

func eachAttempt(t *testing.T, run func(t *testing.T, room *staterestest.Room, a staterestest.Attempt)) {
	t.Helper()
	t.Run("rooms", func(t *testing.T) {
		each(t, func(t *testing.T, rules *roomversion.Rules) {
			for seed := range uint64(rooms) {
				fork := staterestest.Random(t, rules, seed, staterestest.RandomOptions{Attempts: true})
				for _, a := range fork.Attempts {
					run(t, fork.Room, a)
				}
				o := &odd{Rand: rand.New(rand.NewPCG(seed, 7)), room: fork.Room, state: fork.States[0]}
				for _, a := range o.attempts(60) {
					run(t, fork.Room, a)
				}
			}
		})
	})
}

// TestVerdicts_gomatrixserverlib compares verdicts on events against states.
func TestVerdicts_gomatrixserverlib(t *testing.T) {
	t.Parallel()
	d := &differences{library: "gomatrixserverlib", known: gmslKnown()}
	g := map[*staterestest.Room]*gmslEvents{}
	var mu sync.Mutex // guards g
	eachAttempt(t, func(t *testing.T, room *staterestest.Room, a staterestest.Attempt) {
		mu.Lock()
		if g[room] == nil {
			g[room] = newGMSLEvents(room)
		}
		events := g[room]
		mu.Unlock()
		ours, err := eventauth.Check(a.PDU, room.View(a.State))
		if err != nil {
			t.Fatal(err)
		}
		d.ask(t, question{room, a, ours, events.allowed(a.PDU, room.View(a.State))})
	})
	d.report(t)
}

func gmslKnown() []*known {
	self := func(q question) bool {
		stateKey, _ := q.PDU.StateKey()
		return stateKey == q.PDU.Sender().String()
	}
	target := func(q question) string {
		stateKey, _ := q.PDU.StateKey()
		return q.membership(stateKey)
	}
	third := func(q question) bool {
		member, err := q.PDU.Member()
		return err == nil && q.PDU.Type() == event.TypeMember && member.HasThirdPartyInvite
	}
	joinRule := func(q question) []byte {
		if pdu := q.entry(event.TypeJoinRules, ""); pdu != nil {
			return canonicaljson.Get(pdu.Content(), "join_rule")
		}
		return nil
	}
	has := func(q question, key string) []byte { return canonicaljson.Get(q.PDU.Content(), key) }
	return []*known{
		{name: "m.room.aliases without state key panics", explains: func(q question) bool {
			return q.panicked() && q.PDU.Type() == event.TypeAliases && !q.PDU.IsState()
		}},
		{name: "m.room.aliases keeps its own rule after version 5", explains: func(q question) bool {
			return q.PDU.Type() == event.TypeAliases && !q.room.Rules.AliasesAuthRule
		}},
		{name: "leaving twice is allowed", explains: func(q question) bool {
			return q.theirs == nil && self(q) && q.PDU.Membership() == "leave" && target(q) == "leave"
		}},
		{name: "lifting a ban needs neither the kick level nor more power than the banned", explains: func(q question) bool {
			return q.theirs == nil && !self(q) && q.PDU.Membership() == "leave" && target(q) == "ban"
		}},
		{name: "join rules count in versions that do not have them", explains: func(q question) bool {
			rule, _ := canonicaljson.String(joinRule(q))
			unknown := rule == "knock" && !q.room.Rules.Knocking || rule == "restricted" && !q.room.Rules.RestrictedJoins ||
				rule == "knock_restricted" && !q.room.Rules.KnockRestrictedJoins
			return q.theirs == nil && (q.PDU.Membership() == "join" || q.PDU.Membership() == "knock") && unknown
		}},
		{name: "join rules that are no string count as others", explains: func(q question) bool {
			value := joinRule(q)
			_, isString := canonicaljson.String(value)
			return q.theirs == nil && q.PDU.Type() == event.TypeMember && value != nil && !isString
		}},
		{name: "the creator's first join must be sent by the creator", explains: func(q question) bool {
			return q.theirs != nil && !self(q) && q.PDU.Membership() == "join" && len(q.PDU.PrevEvents()) == 1
		}},
		{name: "members may join again under any join rule", explains: func(q question) bool {
			return q.theirs == nil && self(q) && q.PDU.Membership() == "join" && target(q) == "join"
		}},
		{name: "join_authorised_via_users_server needs no signature by the rules", explains: func(q question) bool {
			return q.theirs == nil && strings.HasSuffix(q.ours.Rule, ".2.1") && has(q, "join_authorised_via_users_server") != nil
		}},
		{name: "join_authorised_via_users_server must be a string where it means nothing", explains: func(q question) bool {
			value := has(q, "join_authorised_via_users_server")
			_, isString := canonicaljson.String(value)
			return q.theirs != nil && !q.room.Rules.RestrictedJoins && value != nil && !isString
		}},
		{name: "redacting an event whose ID has no domain is refused, whatever one's level", explains: func(q question) bool {
			return q.PDU.Type() == event.TypeRedaction && q.room.Rules.RedactionAuthRule && q.PDU.Redacts().ServerName().IsZero()
		}},
		{name: "third-party invites: public_key alone counts for nothing", explains: func(q question) bool {
			return third(q) && strings.Contains(fmt.Sprint(q.theirs), "verify signature")
		}},
		{name: "third-party invites: anybody may redeem them", explains: func(q question) bool {
			return third(q) && q.theirs == nil && strings.HasSuffix(q.ours.Rule, ".1.6")
		}},
		{name: "third-party invites: the banned can be invited", explains: func(q question) bool {
			return third(q) && q.theirs == nil && strings.HasSuffix(q.ours.Rule, ".1.1")
		}},
		{name: "additional_creators may be null", explains: func(q question) bool {
			return q.theirs == nil && string(has(q, "additional_creators")) == "null"
		}},
		{name: "power levels: null counts as missing", explains: func(q question) bool {
			var content *event.ContentError
			_, err := q.PDU.PowerLevels()
			return q.theirs == nil && q.PDU.Type() == event.TypePowerLevels && errors.As(err, &content) &&
				strings.Contains(string(q.PDU.Content()), ":null")
		}},
		{name: "power levels: notifications are read before version 6", explains: func(q question) bool {
			return q.theirs != nil && q.PDU.Type() == event.TypePowerLevels && !q.room.Rules.NotificationLevels &&
				canonicaljson.Get(q.PDU.Content(), "notifications") != nil && strings.Contains(q.theirs.Error(), "unparseable power_levels")
		}},
		{name: "power levels: users_default may be set above one's own", explains: func(q question) bool {
			return q.theirs == nil && q.PDU.Type() == event.TypePowerLevels && strings.Contains(q.ours.Reason, "users_default")
		}},
		{name: "power levels are compared with defaults filled in", explains: func(q question) bool {
			return q.PDU.Type() == event.TypePowerLevels && (strings.Contains(fmt.Sprint(q.theirs), "not allowed") ||
				strings.Contains(q.ours.Reason, "the sender has power level"))
		}},
	}
}
