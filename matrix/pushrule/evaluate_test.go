package pushrule_test

import (
	"fmt"
	"testing"

	"stoa/matrix/id"
	"stoa/matrix/pushrule"
	"stoa/matrix/pushrule/pushruletest"
)

const bob = "@bob:example.org"

// message returns the fields of a message of bob.
func message(content string) pushrule.Fields {
	return pushrule.Fields{Type: "m.room.message", Sender: bob, RoomID: room, EventID: "$e", OriginServerTS: 5, Content: []byte(content)}
}

func state(eventType, stateKey, content string) pushrule.Fields {
	f := message(content)
	f.Type, f.StateKey = eventType, &stateKey
	return f
}

// evaluate evaluates an event for alice, and makes sure that the naive evaluator agrees.
func evaluate(t testing.TB, s *pushrule.RuleSet, f pushrule.Fields, facts pushrule.Facts, displayName string) pushrule.Actions {
	t.Helper()
	got := s.Compile(nil).In(mustRoom(t, f.RoomID)).Evaluate(pushrule.Member{UserID: alice, DisplayName: displayName}, pushrule.NewEvent(f, facts))
	naive := pushruletest.Naive(pushruletest.Member{UserID: alice, DisplayName: displayName, Rules: []byte(marshal(t, s))},
		pushruletest.NewEvent(f).JSON, facts)
	if got.Verdict() != naive {
		t.Errorf("verdict %d, naive %d", got.Verdict(), naive)
	}
	return got
}

// TestConditions has one rule with one condition, and says whether it matches.
func TestConditions(t *testing.T) {
	t.Parallel()
	topic := state("m.room.topic", "", `{"topic":"Lunch plans"}`)
	federate := func(value string) pushrule.Fields { return state("m.room.create", "", `{"m.federate":`+value+`}`) }
	aliases := state("m.room.canonical_alias", "", `{"alt_aliases":["#somewhere:example.org","#myroom:example.com",7,1.0,null,{"a":1}],"alias":"#a:b"}`)
	redaction := message(`{}`)
	redaction.Type, redaction.Redacts = "m.room.redaction", "$target"
	for name, c := range map[string]struct {
		condition string
		fields    pushrule.Fields
		want      bool
	}{
		"event_match/a_glob":                         {`{"kind":"event_match","key":"content.topic","pattern":"lunc?*"}`, topic, true},
		"event_match/not_a_part_of_the_value":        {`{"kind":"event_match","key":"content.topic","pattern":"lunch"}`, topic, false},
		"event_match/not_an_absent_property":         {`{"kind":"event_match","key":"content.name","pattern":"*"}`, topic, false},
		"event_match/not_a_value_that_is_no_string":  {`{"kind":"event_match","key":"content.m\\.federate","pattern":"*"}`, federate(`true`), false},
		"event_match/not_null":                       {`{"kind":"event_match","key":"content.m\\.federate","pattern":"*"}`, federate(`null`), false},
		"event_match/no_key_without_escape":          {`{"kind":"event_match","key":"content.m.federate","pattern":"*"}`, federate(`"x"`), false},
		"event_match/words_of_the_body":              {`{"kind":"event_match","key":"content.body","pattern":"ex*ple"}`, message(`{"body":"An example event."}`), true},
		"event_match/no_part_of_a_word_of_the_body":  {`{"kind":"event_match","key":"content.body","pattern":"ample"}`, message(`{"body":"An example event."}`), false},
		"event_match/no_words_of_other_keys":         {`{"kind":"event_match","key":"content.x.body","pattern":"a"}`, message(`{"x":{"body":"a b"}}`), false},
		"event_match/an_escaped_body":                {`{"kind":"event_match","key":"content.body","pattern":"naïve"}`, message(`{"body":"so na\u00efve"}`), true},
		"event_match/the_type_in_any_case":           {`{"kind":"event_match","key":"type","pattern":"M.Room.*"}`, topic, true},
		"event_match/the_sender":                     {`{"kind":"event_match","key":"sender","pattern":"@bob:*"}`, topic, true},
		"event_match/the_room":                       {`{"kind":"event_match","key":"room_id","pattern":"!room:*"}`, topic, true},
		"event_match/not_another_room":               {`{"kind":"event_match","key":"room_id","pattern":"!other:example.org"}`, topic, false},
		"event_match/the_event_ID":                   {`{"kind":"event_match","key":"event_id","pattern":"$e"}`, topic, true},
		"event_match/redacts":                        {`{"kind":"event_match","key":"redacts","pattern":"$t*"}`, redaction, true},
		"event_match/an_empty_state_key":             {`{"kind":"event_match","key":"state_key","pattern":""}`, topic, true},
		"event_match/no_state_key_of_a_message":      {`{"kind":"event_match","key":"state_key","pattern":"*"}`, message(`{}`), false},
		"event_match/no_object":                      {`{"kind":"event_match","key":"content","pattern":"*"}`, topic, false},
		"event_match/nothing_else_of_the_top":        {`{"kind":"event_match","key":"unsigned.age","pattern":"*"}`, topic, false},
		"event_match/nothing_in_arrays":              {`{"kind":"event_match","key":"content.alt_aliases.0","pattern":"*"}`, aliases, false},
		"event_property_is/true":                     {`{"kind":"event_property_is","key":"content.m\\.federate","value":true}`, federate(`true`), true},
		"event_property_is/no_string_for_true":       {`{"kind":"event_property_is","key":"content.m\\.federate","value":true}`, federate(`"true"`), false},
		"event_property_is/no_number_for_true":       {`{"kind":"event_property_is","key":"content.m\\.federate","value":true}`, federate(`1`), false},
		"event_property_is/null":                     {`{"kind":"event_property_is","key":"content.m\\.federate","value":null}`, federate(`null`), true},
		"event_property_is/no_absence_for_null":      {`{"kind":"event_property_is","key":"content.x","value":null}`, federate(`null`), false},
		"event_property_is/an_integer":               {`{"kind":"event_property_is","key":"content.m\\.federate","value":-7}`, federate(`-7`), true},
		"event_property_is/no_float_for_an_integer":  {`{"kind":"event_property_is","key":"content.m\\.federate","value":7}`, federate(`7.0`), false},
		"event_property_is/a_string_exactly":         {`{"kind":"event_property_is","key":"content.m\\.federate","value":"Yes"}`, federate(`"Yes"`), true},
		"event_property_is/a_string_in_its_case":     {`{"kind":"event_property_is","key":"content.m\\.federate","value":"yes"}`, federate(`"Yes"`), false},
		"event_property_is/no_glob":                  {`{"kind":"event_property_is","key":"content.m\\.federate","value":"*"}`, federate(`"Yes"`), false},
		"event_property_is/a_body_as_a_whole":        {`{"kind":"event_property_is","key":"content.body","value":"b"}`, message(`{"body":"a b"}`), false},
		"event_property_is/no_array":                 {`{"kind":"event_property_is","key":"content.alt_aliases","value":"#myroom:example.com"}`, aliases, false},
		"event_property_is/the_sender":               {`{"kind":"event_property_is","key":"sender","value":"@bob:example.org"}`, topic, true},
		"event_property_is/the_room":                 {`{"kind":"event_property_is","key":"room_id","value":"!Room:example.org"}`, topic, true},
		"event_property_is/the_room_in_its_case":     {`{"kind":"event_property_is","key":"room_id","value":"!room:example.org"}`, topic, false},
		"event_property_is/the_timestamp":            {`{"kind":"event_property_is","key":"origin_server_ts","value":5}`, topic, true},
		"event_property_contains/a_string":           {`{"kind":"event_property_contains","key":"content.alt_aliases","value":"#myroom:example.com"}`, aliases, true},
		"event_property_contains/no_part":            {`{"kind":"event_property_contains","key":"content.alt_aliases","value":":example.com"}`, aliases, false},
		"event_property_contains/an_integer":         {`{"kind":"event_property_contains","key":"content.alt_aliases","value":7}`, aliases, true},
		"event_property_contains/no_float":           {`{"kind":"event_property_contains","key":"content.alt_aliases","value":1}`, aliases, false},
		"event_property_contains/null":               {`{"kind":"event_property_contains","key":"content.alt_aliases","value":null}`, aliases, true},
		"event_property_contains/no_string_property": {`{"kind":"event_property_contains","key":"content.alias","value":"#a:b"}`, aliases, false},
		"event_property_contains/no_absent_property": {`{"kind":"event_property_contains","key":"content.x","value":"#a:b"}`, aliases, false},
		"event_property_contains/not_the_room":       {`{"kind":"event_property_contains","key":"room_id","value":"!Room:example.org"}`, aliases, false},
		"room_member_count/without_prefix":           {`{"kind":"room_member_count","is":"3"}`, topic, true},
		"room_member_count/==":                       {`{"kind":"room_member_count","is":"==3"}`, topic, true},
		"room_member_count/not_==":                   {`{"kind":"room_member_count","is":"==2"}`, topic, false},
		"room_member_count/<":                        {`{"kind":"room_member_count","is":"<4"}`, topic, true},
		"room_member_count/strictly_<":               {`{"kind":"room_member_count","is":"<3"}`, topic, false},
		"room_member_count/>":                        {`{"kind":"room_member_count","is":">2"}`, topic, true},
		"room_member_count/strictly_>":               {`{"kind":"room_member_count","is":">3"}`, topic, false},
		"room_member_count/<=":                       {`{"kind":"room_member_count","is":"<=3"}`, topic, true},
		"room_member_count/>=":                       {`{"kind":"room_member_count","is":">=3"}`, topic, true},
		"sender_notification_permission/granted":     {`{"kind":"sender_notification_permission","key":"room"}`, topic, true},
		"sender_notification_permission/not_granted": {`{"kind":"sender_notification_permission","key":"other"}`, topic, false},
		"unknown/never":                              {`{"kind":"org.example.always"}`, topic, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			facts := pushrule.Facts{MemberCount: 3, MayNotify: func(key string) bool { return key == "room" }}
			s := put(t, defaults(t), pushrule.Override, "test", `{"conditions":[`+c.condition+`],"actions":["notify",{"set_tweak":"sound","value":"matched"}]}`)
			if got := evaluate(t, s, c.fields, facts, "Alice").Sound == "matched"; got != c.want {
				t.Errorf("matches %v, want %v", got, c.want)
			}
		})
	}

	t.Run("contains_display_name", func(t *testing.T) {
		t.Parallel()
		s := put(t, defaults(t), pushrule.Override, "test", `{"conditions":[{"kind":"contains_display_name"}],"actions":["notify",{"set_tweak":"sound","value":"matched"}]}`)
		for _, c := range []struct {
			name, content string
			want          bool
		}{
			{"Alice W.", `{"body":"hi alice w.!"}`, true},
			{"Alice", `{"body":"hi Alice Watson"}`, true},
			{"Alice", `{"body":"hi xAlice"}`, false},
			{"A*e", `{"body":"hi Alice"}`, false},
			{"Alice", `{"formatted_body":"Alice"}`, false},
			{"", `{"body":""}`, false},
		} {
			if got := evaluate(t, s, message(c.content), pushrule.Facts{}, c.name).Sound == "matched"; got != c.want {
				t.Errorf("%q in %s: %v", c.name, c.content, got)
			}
		}
	})

	t.Run("all_must_hold", func(t *testing.T) {
		t.Parallel()
		// The example "beer" of the specification.
		s := put(t, defaults(t), pushrule.Override, "U2VlIHlvdSBpbiBUaGUgRHVrZQ", `{"conditions":[
			{"kind":"event_match","key":"content.body","pattern":"beer"},{"kind":"room_member_count","is":"<=10"}],
			"actions":["notify",{"set_tweak":"sound","value":"beeroclock.wav"}]}`)
		for count, want := range map[int]string{10: "beeroclock.wav", 11: ""} {
			if got := evaluate(t, s, message(`{"body":"Beer?"}`), pushrule.Facts{MemberCount: count}, "").Sound; got != want {
				t.Errorf("with %d members: %q", count, got)
			}
		}
	})
}

// TestDefaultRules has an event for each default rule.
func TestDefaultRules(t *testing.T) {
	t.Parallel()
	everyone := pushrule.Facts{MemberCount: 3, MayNotify: func(string) bool { return true }}
	nobody := pushrule.Facts{MemberCount: 3}
	two := pushrule.Facts{MemberCount: 2}
	encrypted := message(`{"ciphertext":"x"}`)
	encrypted.Type = "m.room.encrypted"
	call := message(`{}`)
	call.Type = "m.call.invite"
	reaction := message(`{"m.relates_to":{"rel_type":"m.annotation","key":"a","event_id":"$a"}}`)
	reaction.Type = "m.reaction"
	own := message(`{"body":"x"}`)
	own.Sender = alice
	noState := message(`{}`)
	noState.Type = "m.room.tombstone"
	typed := func(eventType, content string) pushrule.Fields {
		f := message(content)
		f.Type = eventType
		return f
	}
	const poll, rtcInvite = "org.matrix.msc3381.poll.", "org.matrix.msc4075.rtc.invite"
	for name, c := range map[string]struct {
		fields    pushrule.Fields
		facts     pushrule.Facts
		rule      string
		notify    bool
		highlight bool
		sound     string
	}{
		"suppress_notices":                {message(`{"msgtype":"m.notice","m.mentions":{"user_ids":["@alice:example.org"]}}`), everyone, pushrule.RuleSuppressNotices, false, false, ""},
		"invite_for_me":                   {state("m.room.member", alice, `{"membership":"invite"}`), everyone, pushrule.RuleInviteForMe, true, false, "default"},
		"member_event":                    {state("m.room.member", bob, `{"membership":"invite"}`), everyone, pushrule.RuleMemberEvent, false, false, ""},
		"is_user_mention":                 {message(`{"m.mentions":{"user_ids":["@bob:example.org","@alice:example.org"],"room":true}}`), everyone, pushrule.RuleIsUserMention, true, true, "default"},
		"is_user_mention_of_another":      {message(`{"m.mentions":{"user_ids":["@ALICE:example.org"]}}`), everyone, pushrule.RuleMessage, true, false, ""},
		"is_user_mention_in_no_array":     {message(`{"m.mentions":{"user_ids":"@alice:example.org"}}`), everyone, pushrule.RuleMessage, true, false, ""},
		"is_room_mention":                 {message(`{"m.mentions":{"room":true}}`), everyone, pushrule.RuleIsRoomMention, true, true, ""},
		"is_room_mention_without_power":   {message(`{"m.mentions":{"room":true}}`), nobody, pushrule.RuleMessage, true, false, ""},
		"is_room_mention_that_is_false":   {message(`{"m.mentions":{"room":false}}`), everyone, pushrule.RuleMessage, true, false, ""},
		"tombstone":                       {state("m.room.tombstone", "", `{}`), everyone, pushrule.RuleTombstone, true, true, ""},
		"tombstone_with_a_state_key":      {state("m.room.tombstone", "x", `{}`), everyone, "", false, false, ""},
		"tombstone_that_is_a_message":     {noState, everyone, "", false, false, ""},
		"reaction":                        {reaction, everyone, pushrule.RuleReaction, false, false, ""},
		"server_acl":                      {state("m.room.server_acl", "", `{}`), everyone, pushrule.RuleRoomServerACL, false, false, ""},
		"suppress_edits":                  {message(`{"m.relates_to":{"rel_type":"m.replace","event_id":"$a"}}`), everyone, pushrule.RuleSuppressEdits, false, false, ""},
		"mention_in_an_edit":              {message(`{"m.relates_to":{"rel_type":"m.replace"},"m.mentions":{"user_ids":["@alice:example.org"]}}`), everyone, pushrule.RuleIsUserMention, true, true, "default"},
		"call":                            {call, two, pushrule.RuleCall, true, false, "ring"},
		"encrypted_room_one_to_one":       {encrypted, two, pushrule.RuleEncryptedRoomOneToOne, true, false, "default"},
		"room_one_to_one":                 {message(`{}`), two, pushrule.RuleRoomOneToOne, true, false, "default"},
		"message":                         {message(`{}`), everyone, pushrule.RuleMessage, true, false, ""},
		"encrypted":                       {encrypted, everyone, pushrule.RuleEncrypted, true, false, ""},
		"poll_start":                      {typed(poll+"start", `{}`), everyone, pushrule.RulePollStart, true, false, ""},
		"poll_start_one_to_one":           {typed(poll+"start", `{}`), two, pushrule.RulePollStartOneToOne, true, false, "default"},
		"poll_end":                        {typed(poll+"end", `{}`), everyone, pushrule.RulePollEnd, true, false, ""},
		"poll_end_one_to_one":             {typed(poll+"end", `{}`), two, pushrule.RulePollEndOneToOne, true, false, "default"},
		"poll_response":                   {typed(poll+"response", `{}`), two, pushrule.RulePollResponse, false, false, ""},
		"rtc_invite_for_me":               {typed(rtcInvite, `{"m.mentions":{"user_ids":["@alice:example.org"],"room":true}}`), everyone, pushrule.RuleRTCInviteForMe, true, false, "ring"},
		"rtc_invite_for_room":             {typed(rtcInvite, `{"m.mentions":{"room":true}}`), everyone, pushrule.RuleRTCInviteForRoom, true, false, "ring"},
		"rtc_invite_without_power":        {typed(rtcInvite, `{"m.mentions":{"room":true}}`), nobody, "", false, false, ""},
		"rtc_invite_for_another":          {typed(rtcInvite, `{"m.mentions":{"user_ids":["@bob:example.org"]}}`), everyone, "", false, false, ""},
		"nothing_for_other_events":        {state("m.room.topic", "", `{}`), two, "", false, false, ""},
		"nothing_for_own_events":          {own, two, "", false, false, ""},
		"no_mention_by_body_since_v1.17":  {message(`{"body":"@room alice @alice:example.org Alice"}`), everyone, pushrule.RuleMessage, true, false, ""},
		"content_that_is_not_what_it_was": {message(`{"msgtype":7,"m.mentions":3,"m.relates_to":[]}`), everyone, pushrule.RuleMessage, true, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := evaluate(t, defaults(t), c.fields, c.facts, "Alice")
			if got.RuleID != c.rule || got.Notify != c.notify || got.Highlight != c.highlight || got.Sound != c.sound {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestPriority(t *testing.T) {
	t.Parallel()
	sound := func(name string) string { return `"actions":["notify",{"set_tweak":"sound","value":"` + name + `"}]` }
	everyone := pushrule.Facts{MemberCount: 3, MayNotify: func(string) bool { return true }}
	text := message(`{"body":"It's time for tea"}`)

	t.Run("is_override_content_room_sender_underride", func(t *testing.T) {
		t.Parallel()
		s := put(t, defaults(t), pushrule.Underride, "u", `{"conditions":[],`+sound("underride")+`}`)
		want := "underride"
		check := func() {
			t.Helper()
			if got := evaluate(t, s, text, everyone, "").Sound; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
		check()
		s, want = put(t, s, pushrule.Sender, bob, `{`+sound("sender")+`}`), "sender"
		check()
		s, want = put(t, s, pushrule.Room, room, `{`+sound("room")+`}`), "room"
		check()
		s, want = put(t, s, pushrule.Content, "c", `{"pattern":"tea",`+sound("content")+`}`), "content"
		check()
		s, want = put(t, s, pushrule.Override, "o", `{"conditions":[],`+sound("override")+`}`), "override"
		check()
		s, err := s.SetEnabled(pushrule.Override, pushrule.RuleMaster, true)
		if err != nil {
			t.Fatal(err)
		}
		if got := evaluate(t, s, text, everyone, ""); got.Notify || got.RuleID != pushrule.RuleMaster {
			t.Errorf("the master rule is before all others: %+v", got)
		}
	})

	t.Run("is_the_order_within_a_kind", func(t *testing.T) {
		t.Parallel()
		s := put(t, defaults(t), pushrule.Content, "tea", `{"pattern":"tea",`+sound("tea")+`}`)
		s = put(t, s, pushrule.Content, "time", `{"pattern":"time",`+sound("time")+`}`)
		if got := evaluate(t, s, text, everyone, "").Sound; got != "time" {
			t.Errorf("got %s", got)
		}
	})

	t.Run("has_the_users_override_rules_before_the_default_ones", func(t *testing.T) {
		t.Parallel()
		s := put(t, defaults(t), pushrule.Override, "o", `{"conditions":[{"kind":"event_match","key":"content.msgtype","pattern":"m.notice"}],`+sound("mine")+`}`)
		if got := evaluate(t, s, message(`{"msgtype":"m.notice"}`), everyone, "").Sound; got != "mine" {
			t.Errorf("got %s", got)
		}
	})

	t.Run("skips_disabled_rules", func(t *testing.T) {
		t.Parallel()
		s := put(t, defaults(t), pushrule.Content, "tea", `{"pattern":"tea",`+sound("tea")+`}`)
		s, err := s.SetEnabled(pushrule.Content, "tea", false)
		if err != nil {
			t.Fatal(err)
		}
		if got := evaluate(t, s, text, everyone, ""); got.RuleID != pushrule.RuleMessage {
			t.Errorf("got %+v", got)
		}
	})

	t.Run("has_the_keyword_rules_of_the_examples", func(t *testing.T) {
		t.Parallel()
		s := put(t, defaults(t), pushrule.Content, "SSByZWFsbHkgbGlrZSBjYWtl", `{"pattern":"cake",`+sound("cakealarm.wav")+`}`)
		s, err := s.Put(pushrule.Content, "U3BvbmdlIGNha2UgaXMgYmVzdA", []byte(`{"pattern":"cake*lie","actions":["notify"]}`),
			pushrule.Place{Before: "SSByZWFsbHkgbGlrZSBjYWtl"})
		if err != nil {
			t.Fatal(err)
		}
		for body, want := range map[string]string{"I like cake": "cakealarm.wav", "the cake is a lie": "", "cake is a lie?": ""} {
			if got := evaluate(t, s, message(fmt.Sprintf(`{"body":%q}`, body)), everyone, ""); got.Sound != want || !got.Notify {
				t.Errorf("%s: %+v", body, got)
			}
		}
	})
}

func TestActions(t *testing.T) {
	t.Parallel()
	for actions, want := range map[string]pushrule.Actions{
		`[]`:                                  {},
		`["dont_notify"]`:                     {},
		`["notify"]`:                          {Notify: true, List: []byte(`["notify"]`)},
		`["notify","dont_notify","coalesce"]`: {Notify: true, List: []byte(`["notify"]`)},
		`[{"set_tweak":"highlight"}]`:         {},
		`["notify",{"set_tweak":"highlight"}]`: {
			Notify: true, Highlight: true, Tweaks: []byte(`{"highlight":true}`), List: []byte(`["notify",{"set_tweak":"highlight"}]`),
		},
		`["notify",{"set_tweak":"highlight","value":true}]`: {
			Notify: true, Highlight: true, Tweaks: []byte(`{"highlight":true}`), List: []byte(`["notify",{"set_tweak":"highlight","value":true}]`),
		},
		`["notify",{"set_tweak":"highlight","value":false}]`: {
			Notify: true, Tweaks: []byte(`{"highlight":false}`), List: []byte(`["notify",{"set_tweak":"highlight","value":false}]`),
		},
		`["notify",{"set_tweak":"sound","value":"bing"},{"set_tweak":"flash","value":{"a": 1}}]`: {
			Notify: true, Sound: "bing", Tweaks: []byte(`{"flash":{"a":1},"sound":"bing"}`),
			List: []byte(`["notify",{"set_tweak":"sound","value":"bing"},{"set_tweak":"flash","value":{"a":1}}]`),
		},
	} {
		t.Run(actions, func(t *testing.T) {
			t.Parallel()
			s := put(t, defaults(t), pushrule.Room, room, `{"actions":`+actions+`}`)
			got := evaluate(t, s, message(`{}`), pushrule.Facts{}, "")
			want.Kind, want.RuleID = pushrule.Room, room
			if marshal(t, got) != marshal(t, want) {
				t.Errorf("got  %s\nwant %s", marshal(t, got), marshal(t, want))
			}
		})
	}
}

func TestIgnoredUsers(t *testing.T) {
	t.Parallel()
	rules := defaults(t).Compile([]id.UserID{mustUser(t, bob)})
	counter := rules.In(mustRoom(t, room))
	mention := message(`{"m.mentions":{"user_ids":["@alice:example.org"]}}`)
	if got := counter.Judge(pushrule.Member{UserID: alice}, pushrule.NewEvent(mention, pushrule.Facts{})); got != pushrule.Silent {
		t.Errorf("a mention of an ignored user: %d", got)
	}
	mention.Sender = "@carol:example.org"
	if got := counter.Judge(pushrule.Member{UserID: alice}, pushrule.NewEvent(mention, pushrule.Facts{})); got != pushrule.Highlights {
		t.Errorf("a mention of another: %d", got)
	}
	if rules.IsUsual() || !defaults(t).Compile(nil).IsUsual() {
		t.Error("rules are usual if nothing is changed and nobody ignored")
	}
}
