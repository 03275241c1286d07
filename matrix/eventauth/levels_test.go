package eventauth

import (
	"errors"
	"strings"
	"testing"

	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
)

// TestPowers checks defaults, creators and malformed levels.
//
// Spec: client-server-api#mroompower_levels
func TestPowers(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, rules *roomversion.Rules) {
		user := func(name string) id.UserID { return must(id.ParseUserID(name))(t) }
		creator, additional := Level(100), Level(0)
		if rules.CreatorsPrivileged {
			creator, additional = Infinite, Infinite
		}
		f := newFixtureWith(t, rules, object{"additional_creators": []any{dora}})
		expect := func(name string, got, want Level) {
			t.Helper()
			if got != want {
				t.Errorf("%s is %v, not %v", name, got, want)
			}
		}
		p := must(PowersOf(f.state))(t)
		expect("the creator without levels", p.User(user(carol)), creator)
		expect("an additional creator without levels", p.User(user(dora)), additional)
		expect("another without levels", p.User(user(alice)), 0)
		expect("ban", p.Ban(), 50)
		expect("kick", p.Kick(), 50)
		expect("redact", p.Redact(), 50)
		expect("invite", p.Invite(), 0)
		expect("@room", p.Notification("room"), 50)
		expect("state", p.Event("m.room.topic", true), 50)
		expect("messages", p.Event("m.room.message", false), 0)

		f.set(event.TypePowerLevels, "", carol, object{
			"users": object{alice: 30}, "users_default": 5, "ban": 1, "kick": 2, "redact": 3, "invite": 4, "state_default": 6,
			"events_default": 7, "events": object{"m.room.name": 8}, "notifications": object{"room": 9},
		})
		p = must(PowersOf(f.state))(t)
		if !rules.CreatorsPrivileged {
			creator, additional = 5, 5
		}
		expect("the creator", p.User(user(carol)), creator)
		expect("an additional creator", p.User(user(dora)), additional)
		expect("alice", p.User(user(alice)), 30)
		expect("another", p.User(user(bob)), 5)
		expect("ban", p.Ban(), 1)
		expect("kick", p.Kick(), 2)
		expect("redact", p.Redact(), 3)
		expect("invite", p.Invite(), 4)
		expect("state", p.Event("m.room.topic", true), 6)
		expect("messages", p.Event("m.room.message", false), 7)
		expect("names", p.Event("m.room.name", true), 8)
		expect("@room", p.Notification("room"), 9)

		f.set(event.TypePowerLevels, "", carol, object{"users": object{alice: 100}, "ban": "high"})
		p = must(PowersOf(f.state))(t)
		expect("anybody under levels that can't be read", p.User(user(alice)), 0)
		expect("messages under levels that can't be read", p.Event("m.room.message", false), Infinite)
		f.join(alice)
		if verdict := f.check(f.message(alice)); verdict.Allowed {
			t.Error("a message is allowed under levels that can't be read")
		}
		if mended := f.build(event.TypePowerLevels, ptr(""), carol, object{}); f.check(mended).Allowed != rules.CreatorsPrivileged {
			t.Error("only privileged creators mend levels that can't be read")
		}
	})
}

// TestMayRedact checks when a redaction is applied.
//
// Spec: rooms/v3#handling-redactions
func TestMayRedact(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, rules *roomversion.Rules) {
		f := newFixture(t, rules)
		f.levels(object{"redact": 20}, alice, 20, bob, 19)
		powers := must(PowersOf(f.state))(t)
		redaction := func(sender string) *event.PDU { return f.build(event.TypeRedaction, nil, sender, object{}) }
		for _, c := range []struct {
			name           string
			sender, target string
			want           bool
		}{
			{"with the redact level", alice, bob, true},
			{"one's own event", bob, bob, true},
			{"an event of one's server", bob, "@ben:b.example", true},
			{"an event of another server", bob, alice, rules.RedactionAuthRule}, // the auth rule has decided
		} {
			if got := MayRedact(powers, redaction(c.sender), f.message(c.target)); got != c.want {
				t.Errorf("%s: %v", c.name, got)
			}
		}
	})
}

type brokenState struct{ state State }

var errBroken = errors.New("broken")

func (b brokenState) Event(eventType, stateKey string) (*event.PDU, error) {
	if eventType == event.TypePowerLevels {
		return nil, errBroken
	}
	return b.state.Event(eventType, stateKey)
}

// TestFaults promises that a fault of the state is no verdict.
func TestFaults(t *testing.T) {
	t.Parallel()
	f := newFixture(t, roomversion.All()[10])
	if verdict, err := Check(f.topic(carol), brokenState{f.state}); !errors.Is(err, errBroken) || verdict.Allowed {
		t.Errorf("verdict %+v, error %v", verdict, err)
	}
	if _, err := PowersOf(brokenState{f.state}); !errors.Is(err, errBroken) {
		t.Errorf("error %v", err)
	}
}

// TestRejected promises an error that explains itself.
func TestRejected(t *testing.T) {
	t.Parallel()
	f := newFixture(t, roomversion.All()[5])
	err := f.check(f.message(alice)).Err()
	var rejected *Rejected
	if !errors.As(err, &rejected) || rejected.Verdict.Rule != "5" ||
		!strings.Contains(err.Error(), "rule 5 of room version 6: the sender is not in the room") {
		t.Errorf("error %v", err)
	}
	if level := Infinite.String(); level != "infinite" {
		t.Errorf("infinite is %q", level)
	}
}

// TestStateOf promises that rejected auth events lend no authority.
func TestStateOf(t *testing.T) {
	t.Parallel()
	rules := roomversion.All()[11]
	f := newFixture(t, rules)
	member := f.state[Key{event.TypeMember, carol}]
	for _, rejected := range []bool{false, true} {
		state := StateOf(f.state[Key{Type: event.TypeCreate}], []AuthEvent{{PDU: member, Rejected: rejected}})
		verdict := must(Check(f.message(carol), state))(t)
		if verdict.Allowed == rejected {
			t.Errorf("rejected %v: %+v", rejected, verdict)
		}
	}
}

// TestUnknownRow promises numbers also for a room version that is not in the table.
func TestUnknownRow(t *testing.T) {
	t.Parallel()
	row := *roomversion.All()[11]
	row.Version = "example.test"
	if got, want := numbersFor(&row), numbersFor(roomversion.All()[11]); *got != *want {
		t.Errorf("numbers %v", got)
	}
}
