package event_test

import (
	"errors"
	"maps"
	"math"
	"sync"
	"testing"

	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
)

func (f *fixture) state(evType, content string) *event.PDU {
	f.Helper()
	return f.build(f.draft(evType, ptr(""), content))
}

// Spec: client-server-api#mroompower_levels
func TestPowerLevels(t *testing.T) {
	t.Parallel()
	alice, bob := must(id.ParseUserID("@alice:example.org")), must(id.ParseUserID("@bob:example.org"))
	for _, rules := range roomversion.All() {
		f := newFixture(t, rules.Version)
		l, err := f.state(event.TypePowerLevels, `{"ban":51,"events":{"m.room.name":70},"events_default":1,"invite":2,"kick":-5,"notifications":{"room":20},"redact":3,"state_default":40,"users":{"@alice:example.org":100},"users_default":4}`).PowerLevels()
		if err != nil {
			t.Fatal(err)
		}
		if l.Ban.Or(0) != 51 || l.Kick.Or(0) != -5 || l.Redact.Or(0) != 3 || l.Invite.Or(0) != 2 {
			t.Errorf("version %s: %+v", rules.Version, l)
		}
		if l.User(alice) != 100 || l.User(bob) != 4 || l.Notification("room") != 20 || l.Notification("other") != 50 {
			t.Errorf("version %s: %+v", rules.Version, l)
		}
		if l.Required("m.room.name", true) != 70 || l.Required("m.room.topic", true) != 40 || l.Required("m.room.message", false) != 1 {
			t.Errorf("version %s: %+v", rules.Version, l)
		}
		none, err := f.state(event.TypePowerLevels, `{}`).PowerLevels()
		if err != nil {
			t.Fatal(err)
		}
		if none.User(alice) != 0 || none.Required("x", true) != 50 || none.Required("x", false) != 0 || none.Ban.Present || none.Users != nil {
			t.Errorf("version %s: %+v", rules.Version, none)
		}
	}
}

// Spec: rooms/v1#deprecated-event-content-schemas, rooms/v10#values-in-mroompower_levels-events-must-be-integers
func TestPowerLevelsTakeTheNumbersOfTheVersion(t *testing.T) {
	t.Parallel()
	floats := func(r *roomversion.Rules) bool { return !r.StrictCanonicalJSON }
	stringy := func(r *roomversion.Rules) bool { return !r.IntegerPowerLevels }
	none := func(*roomversion.Rules) bool { return false }
	for name, c := range map[string]struct {
		value string
		taken func(*roomversion.Rules) bool
		want  int64
	}{
		"an integer":                  {`50`, every, 50},
		"a negative integer":          {`-50`, every, -50},
		"the greatest integer":        {`9007199254740991`, every, 1<<53 - 1},
		"a string":                    {`"100"`, stringy, 100},
		"a string with zeros":         {`"000100"`, stringy, 100},
		"a string with plus":          {`"+100"`, stringy, 100},
		"a string with minus":         {`"-100"`, stringy, -100},
		"a string with space":         {`" \t+00100\n "`, stringy, 100},
		"a string beyond 64 bits":     {`"99999999999999999999"`, stringy, math.MaxInt64},
		"a string with a point":       {`"1.0"`, none, 0},
		"a string with an exponent":   {`"1e2"`, none, 0},
		"a string with two signs":     {`"+-1"`, none, 0},
		"a string with space in it":   {`"1 0"`, none, 0},
		"a string with an underscore": {`"1_0"`, none, 0},
		"a hexadecimal string":        {`"0x10"`, none, 0},
		"an empty string":             {`""`, none, 0},
		"a float":                     {`50.57`, floats, 50},
		"a negative float":            {`-50.57`, floats, -50},
		"a float with exponent":       {`5.114698E4`, floats, 51146},
		"an integer beyond 64 bits":   {`99999999999999999999`, floats, math.MaxInt64},
		"a float beyond 64 bits":      {`-1.5e300`, floats, math.MinInt64},
		"null":                        {`null`, none, 0},
		"a boolean":                   {`true`, none, 0},
		"an object":                   {`{}`, none, 0},
		"an array":                    {`[50]`, none, 0},
	} {
		for _, rules := range roomversion.All() {
			for field, content := range map[string]string{"ban": `{"ban":%}`, "users": `{"users":{"@a:b":%}}`, "events": `{"events":{"x":%}}`, "notifications": `{"notifications":{"x":%}}`} {
				f := newFixture(t, rules.Version)
				text := ""
				for _, r := range content {
					if r == '%' {
						text += c.value
					} else {
						text += string(r)
					}
				}
				p, err := event.Build(rules, f.draft(event.TypePowerLevels, ptr(""), text), f.signer)
				if err != nil {
					if rules.StrictCanonicalJSON {
						continue // no such event can be
					}
					t.Fatal(err)
				}
				l, err := p.PowerLevels()
				if field == "notifications" && !rules.NotificationLevels && !c.taken(rules) {
					if err != nil || l.Notifications != nil {
						t.Errorf("version %s: %s in %s: %v, %v", rules.Version, name, field, l, err)
					}
					continue
				}
				if (err == nil) != c.taken(rules) {
					t.Errorf("version %s: %s in %s: %v", rules.Version, name, field, err)
					continue
				}
				var e *event.ContentError
				if err != nil {
					if !errors.As(err, &e) || e.Field != field {
						t.Errorf("version %s: %s in %s: %v", rules.Version, name, field, err)
					}
					continue
				}
				got := l.Ban.Value + l.Users[must(id.ParseUserID("@a:b"))] + l.Events["x"] + l.Notifications["x"]
				if got != c.want {
					t.Errorf("version %s: %s in %s is %d", rules.Version, name, field, got)
				}
			}
		}
	}
}

func TestPowerLevelsThatDoNotFitInADoubleAreNone(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All()[:5] {
		f := newFixture(t, rules.Version)
		w := f.wire(f.state(event.TypePowerLevels, `{"ban":1.5}`))
		w["content"] = []byte(`{"ban":1e400}`)
		delete(w, "hashes")
		w["hashes"] = f.wire(f.state("x", `{}`))["hashes"]
		p := must(event.Load(rules, f.eventID('x'), must(canonicalize(w.bytes()))))
		if l, err := p.PowerLevels(); err == nil {
			t.Errorf("version %s: %+v", rules.Version, l)
		}
	}
}

func TestPowerLevelsRefuse(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All() {
		f := newFixture(t, rules.Version)
		for content, field := range map[string]string{
			`{"users":{"alice":1}}`: "users", `{"users":[]}`: "users", `{"users":null}`: "users", `{"events":5}`: "events",
			`{"notifications":"x"}`: "notifications", `{"users":{"@a":1}}`: "users",
		} {
			if field == "notifications" && !rules.NotificationLevels {
				continue // TestPowerLevelsBeforeVersion6DoNotMindNotifications
			}
			var e *event.ContentError
			if _, err := f.state(event.TypePowerLevels, content).PowerLevels(); !errors.As(err, &e) || e.Field != field || e.Type != event.TypePowerLevels {
				t.Errorf("version %s: %s: %v", rules.Version, content, err)
			}
		}
	}
}

// Spec: rooms/v6#authorisation-rules
func TestPowerLevelsBeforeVersion6DoNotMindNotifications(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All()[:5] {
		f := newFixture(t, rules.Version)
		for _, notifications := range []string{`"x"`, `null`, `[]`, `{"room":null}`, `{"room":20,"x":{}}`} {
			l, err := f.state(event.TypePowerLevels, `{"ban":51,"notifications":`+notifications+`,"users":{"@a:b":7}}`).PowerLevels()
			if err != nil {
				t.Errorf("version %s: %s: %v", rules.Version, notifications, err)
				continue
			}
			if user := must(id.ParseUserID("@a:b")); l.Ban.Value != 51 || l.User(user) != 7 || l.Notification("room") != event.DefaultRoomLevel {
				t.Errorf("version %s: %s: %+v", rules.Version, notifications, l)
			}
		}
	}
}

// Spec: client-server-api#mroomcreate, rooms/v11#remove-the-creator-property-of-mroomcreate-events, rooms/v12#authorisation-rules
func TestCreate(t *testing.T) {
	t.Parallel()
	alice, bob, carol := must(id.ParseUserID("@alice:example.org")), must(id.ParseUserID("@bob:b")), must(id.ParseUserID("@carol:c"))
	for _, rules := range roomversion.All() {
		f := newFixture(t, rules.Version)
		c, err := f.state(event.TypeCreate, `{"creator":"@bob:b","additional_creators":["@carol:c"],"room_version":"x","m.federate":false,"type":"m.space","predecessor":{"room_id":"!old:b","event_id":"$last:b"}}`).Create()
		if err != nil {
			t.Fatal(err)
		}
		if c.RoomVersion != "x" || c.Federate || c.Type != "m.space" || c.PredecessorRoomID.String() != "!old:b" || c.PredecessorEventID.String() != "$last:b" || !c.HasCreator {
			t.Errorf("version %s: %+v", rules.Version, c)
		}
		if c.IsCreator(alice) != rules.CreatorIsSender || c.IsCreator(bob) == rules.CreatorIsSender || c.IsCreator(carol) != rules.CreatorsPrivileged {
			t.Errorf("version %s: creators %s and %v", rules.Version, c.Creator, c.AdditionalCreators)
		}
		c, err = f.state(event.TypeCreate, `{}`).Create()
		if err != nil || c.RoomVersion != "1" || !c.Federate || c.HasCreator || c.Creator.IsZero() == rules.CreatorIsSender {
			t.Errorf("version %s: %+v, %v", rules.Version, c, err)
		}
		c, err = f.state(event.TypeCreate, `{"creator":5,"m.federate":"false","type":7,"predecessor":"x"}`).Create()
		if err != nil || !c.Federate || !c.HasCreator || c.Type != "" || !c.PredecessorRoomID.IsZero() {
			t.Errorf("version %s: %+v, %v", rules.Version, c, err)
		}
		if _, err := f.state(event.TypeCreate, `{"room_version":12}`).Create(); err == nil {
			t.Errorf("version %s: a room version that is a number was taken", rules.Version)
		}
		for _, bad := range []string{`"@a:b"`, `{}`, `[1]`, `["alice"]`, `["@a:b","@c"]`, `null`} {
			if _, err := f.state(event.TypeCreate, `{"additional_creators":`+bad+`}`).Create(); (err == nil) == rules.CreatorsPrivileged {
				t.Errorf("version %s: additional_creators %s: %v", rules.Version, bad, err)
			}
		}
	}
}

// Spec: client-server-api#mroomjoin_rules
func TestJoinRules(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "12")
	j, err := f.state(event.TypeJoinRules, `{"join_rule":"restricted","allow":[{"type":"m.room_membership","room_id":"!a:b"},{"type":"m.room_membership"},{"type":"other","x":1},{"type":5},7]}`).JoinRules()
	if err != nil {
		t.Fatal(err)
	}
	if j.JoinRule != event.JoinRuleRestricted || len(j.Allow) != 2 || j.Allow[0].RoomID.String() != "!a:b" || j.Allow[1].Type != "other" {
		t.Errorf("%+v", j)
	}
	for _, content := range []string{`{}`, `{"join_rule":5,"allow":{}}`} {
		if j, err := f.state(event.TypeJoinRules, content).JoinRules(); err != nil || j.JoinRule != "" || j.Allow != nil {
			t.Errorf("%s: %+v, %v", content, j, err)
		}
	}
}

// Spec: client-server-api#mroommember
func TestMember(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "12")
	p := f.state(event.TypeMember, `{"membership":"invite","displayname":"Al","avatar_url":"mxc://a/b","reason":"r","is_direct":true,"join_authorised_via_users_server":"@a:b","third_party_invite":{"display_name":"al…","signed":{"mxid":"@al:b","token":"t","signatures":{}}}}`)
	m, err := p.Member()
	if err != nil {
		t.Fatal(err)
	}
	if p.Membership() != "invite" || m.Membership != "invite" || m.DisplayName != "Al" || m.AvatarURL != "mxc://a/b" || m.Reason != "r" || !m.IsDirect {
		t.Errorf("%+v", m)
	}
	if !m.HasAuthoriser || m.Authoriser.String() != "@a:b" || !m.HasThirdPartyInvite {
		t.Errorf("%+v", m)
	}
	if i := m.ThirdPartyInvite; i == nil || i.DisplayName != "al…" || i.MXID != "@al:b" || i.Token != "t" || string(i.Signed) != `{"mxid":"@al:b","signatures":{},"token":"t"}` {
		t.Errorf("%+v", m.ThirdPartyInvite)
	}
	p = f.state(event.TypeMember, `{"membership":5,"displayname":null,"avatar_url":{},"join_authorised_via_users_server":"a","third_party_invite":"x"}`)
	m, err = p.Member()
	if err != nil || p.Membership() != "" || m.Membership != "" || m.DisplayName != "" || !m.HasAuthoriser || !m.Authoriser.IsZero() || !m.HasThirdPartyInvite || m.ThirdPartyInvite != nil {
		t.Errorf("%+v, %v", m, err)
	}
	if p := f.state("m.room.other", `{"membership":"join"}`); p.Membership() != "" {
		t.Errorf("another type has the membership %s", p.Membership())
	}
	for _, invite := range []string{`{}`, `{"signed":5}`, `{"signed":{"mxid":1,"token":[]}}`} {
		m, err := f.state(event.TypeMember, `{"third_party_invite":`+invite+`}`).Member()
		if err != nil || m.ThirdPartyInvite == nil || m.ThirdPartyInvite.MXID+m.ThirdPartyInvite.Token != "" {
			t.Errorf("%s: %+v, %v", invite, m.ThirdPartyInvite, err)
		}
	}
}

func TestContentIsReadOnceAndByManyAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "12")
	p := f.state(event.TypePowerLevels, `{"users":{"@a:b":1}}`)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if l, err := p.PowerLevels(); err != nil || !maps.Equal(l.Users, map[id.UserID]int64{must(id.ParseUserID("@a:b")): 1}) {
				t.Errorf("%+v, %v", l, err)
			}
		})
	}
	all.Wait()
	if first, second := must(p.PowerLevels()), must(p.PowerLevels()); first != second {
		t.Error("it was read again")
	}
}
