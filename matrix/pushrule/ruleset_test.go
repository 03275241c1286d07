package pushrule_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"stoa/matrix/mxerr"
	"stoa/matrix/pushrule"
	"stoa/matrix/pushrule/pushruletest"
)

const alice = "@alice:example.org"

func marshal(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func defaults(t testing.TB) *pushrule.RuleSet {
	t.Helper()
	return pushrule.Defaults(mustUser(t, alice))
}

// put adds rules, the last one first in the list.
func put(t testing.TB, s *pushrule.RuleSet, kind pushrule.Kind, ruleID, body string) *pushrule.RuleSet {
	t.Helper()
	next, err := s.Put(kind, ruleID, []byte(body), pushrule.Place{})
	if err != nil {
		t.Fatalf("put %s: %v", ruleID, err)
	}
	return next
}

func ids(s *pushrule.RuleSet, kind pushrule.Kind) []string {
	var list []string
	for _, r := range s.Rules(kind) {
		list = append(list, r.ID)
	}
	return list
}

// TestDefaults compares with the definitions of the specification and of MSC3930 and MSC4075, which testdata/defaults.json has in their order.
func TestDefaults(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/defaults.json")
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte("[the user's Matrix ID]"), []byte(alice))
	var want, got any
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(marshal(t, defaults(t))), &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestPut(t *testing.T) {
	t.Parallel()

	t.Run("adds_as_the_most_important_of_the_users_rules", func(t *testing.T) {
		t.Parallel()
		s := put(t, defaults(t), pushrule.Content, "one", `{"pattern":"a","actions":["notify"]}`)
		s = put(t, s, pushrule.Content, "two", `{"pattern":"b","actions":["notify"]}`)
		if got := ids(s, pushrule.Content); !slices.Equal(got, []string{"two", "one"}) {
			t.Errorf("got %v", got)
		}
	})

	t.Run("adds_behind_the_master_rule_and_before_other_default_rules", func(t *testing.T) {
		t.Parallel()
		s := put(t, defaults(t), pushrule.Override, "one", `{"conditions":[],"actions":[]}`)
		if got := ids(s, pushrule.Override); !slices.Equal(got[:3], []string{pushrule.RuleMaster, "one", pushrule.RuleSuppressNotices}) {
			t.Errorf("got %v", got)
		}
	})

	abc := func(t *testing.T) *pushrule.RuleSet {
		s := defaults(t)
		for _, ruleID := range []string{"c", "b", "a"} {
			s = put(t, s, pushrule.Content, ruleID, `{"pattern":"x","actions":["notify"]}`)
		}
		return s
	}
	for name, c := range map[string]struct {
		rule  string
		place pushrule.Place
		want  string
	}{
		"before_a_rule":    {"new", pushrule.Place{Before: "b"}, "a new b c"},
		"after_a_rule":     {"new", pushrule.Place{After: "b"}, "a b new c"},
		"after_the_last":   {"new", pushrule.Place{After: "c"}, "a b c new"},
		"before_the_first": {"new", pushrule.Place{Before: "a"}, "new a b c"},
		"before_one_if_before_and_after_are_given": {"new", pushrule.Place{Before: "c", After: "a"}, "a b new c"},
		"an_existing_rule_before_another":          {"c", pushrule.Place{Before: "a"}, "c a b"},
		"an_existing_rule_after_another":           {"a", pushrule.Place{After: "b"}, "b a c"},
		"an_existing_rule_where_it_is":             {"b", pushrule.Place{}, "a b c"},
	} {
		t.Run("puts_"+name, func(t *testing.T) {
			t.Parallel()
			before := abc(t)
			s, err := before.Put(pushrule.Content, c.rule, []byte(`{"pattern":"y","actions":[]}`), c.place)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(ids(s, pushrule.Content), " "); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if got := strings.Join(ids(before, pushrule.Content), " "); got != "a b c" {
				t.Errorf("the rule set before became %s", got)
			}
			if r, err := s.Rule(pushrule.Content, c.rule); err != nil || r.Pattern != "y" || !r.Enabled || r.Default {
				t.Errorf("got %+v, %v", r, err)
			}
		})
	}

	t.Run("keeps_a_disabled_rule_disabled", func(t *testing.T) {
		t.Parallel()
		s, err := abc(t).SetEnabled(pushrule.Content, "b", false)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := put(t, s, pushrule.Content, "b", `{"pattern":"y","actions":[]}`).Rule(pushrule.Content, "b"); err != nil || r.Enabled {
			t.Errorf("got %+v, %v", r, err)
		}
	})

	t.Run("shows_what_the_kind_has_and_nothing_else", func(t *testing.T) {
		t.Parallel()
		body := `{"pattern":"x","conditions":[{"kind":"org.example","x":{"y":1}}],"actions":["notify",{"set_tweak":"light","value":{"a":1}}],"enabled":false,"z":1}`
		s := put(t, defaults(t), pushrule.Underride, "u", body)
		s = put(t, s, pushrule.Content, "c", body)
		s = put(t, s, pushrule.Room, "!a:b", body)
		for kind, want := range map[pushrule.Kind]string{
			pushrule.Underride: `{"actions":["notify",{"set_tweak":"light","value":{"a":1}}],"conditions":[{"kind":"org.example","x":{"y":1}}],"default":false,"enabled":true,"rule_id":"u"}`,
			pushrule.Content:   `{"actions":["notify",{"set_tweak":"light","value":{"a":1}}],"default":false,"enabled":true,"pattern":"x","rule_id":"c"}`,
			pushrule.Room:      `{"actions":["notify",{"set_tweak":"light","value":{"a":1}}],"default":false,"enabled":true,"rule_id":"!a:b"}`,
		} {
			if got := marshal(t, s.Rules(kind)[0]); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		}
	})

	t.Run("keeps_historical_actions", func(t *testing.T) {
		t.Parallel()
		s := put(t, defaults(t), pushrule.Room, "!a:b", `{"actions":["dont_notify","coalesce"]}`)
		s, err := s.SetActions(pushrule.Override, pushrule.RuleMaster, s.Rules(pushrule.Room)[0].Actions)
		if err != nil {
			t.Fatal(err)
		}
		loaded, err := pushrule.Load(s.User(), s.Stored())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []*pushrule.RuleSet{s, loaded} {
			for _, rule := range []pushrule.Rule{s.Rules(pushrule.Room)[0], s.Rules(pushrule.Override)[0]} {
				if got := marshal(t, rule.Actions); got != `["dont_notify","coalesce"]` {
					t.Errorf("got %s", got)
				}
			}
		}
		if !strings.Contains(string(s.Stored()), `"actions":[],"all"`) {
			t.Errorf("an earlier version can't read %s", s.Stored())
		}
	})

	t.Run("keeps_kinds_that_it_does_not_know", func(t *testing.T) {
		t.Parallel()
		s, err := defaults(t).PutOther("org.example.post", "a", []byte(`{"x":[1], "actions":["shout"]}`))
		if err != nil {
			t.Fatal(err)
		}
		if s, err = s.SetOtherEnabled("org.example.post", "a", false); err != nil {
			t.Fatal(err)
		}
		loaded, err := pushrule.Load(s.User(), s.Stored())
		if err != nil || s.IsDefault() || !strings.Contains(marshal(t, loaded),
			`"org.example.post":[{"actions":["shout"],"default":false,"enabled":false,"rule_id":"a","x":[1]}]`) {
			t.Errorf("got %s, %v", marshal(t, loaded), err)
		}
		if s, err = s.DeleteOther("org.example.post", "a"); err != nil || !s.IsDefault() {
			t.Errorf("got %s, %v", s.Stored(), err)
		}
	})

	t.Run("takes_an_override_without_conditions", func(t *testing.T) {
		t.Parallel()
		s := put(t, defaults(t), pushrule.Override, "a", `{"actions":[]}`)
		if r, err := s.Rule(pushrule.Override, "a"); err != nil || !strings.Contains(marshal(t, r), `"conditions":[]`) {
			t.Errorf("got %+v, %v", r, err)
		}
	})
}

func TestPutRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 5000)
	const good = `{"pattern":"x","actions":[]}`
	condition := func(text string) string { return `{"actions":[],"conditions":[` + text + `]}` }
	for name, c := range map[string]struct {
		kind   pushrule.Kind
		ruleID string
		body   string
		place  pushrule.Place
		status int
		code   string
	}{
		"an_empty_ID":                      {pushrule.Content, "", good, pushrule.Place{}, 400, mxerr.CodeInvalidParam},
		"an_ID_with_a_dot_in_front":        {pushrule.Content, ".x", good, pushrule.Place{}, 400, mxerr.CodeInvalidParam},
		"the_ID_of_a_default_rule":         {pushrule.Override, pushrule.RuleMaster, good, pushrule.Place{}, 400, mxerr.CodeInvalidParam},
		"an_ID_with_a_slash":               {pushrule.Content, "a/b", good, pushrule.Place{}, 400, mxerr.CodeInvalidParam},
		"an_ID_with_a_backslash":           {pushrule.Content, `a\b`, good, pushrule.Place{}, 400, mxerr.CodeInvalidParam},
		"an_ID_that_is_no_UTF-8":           {pushrule.Content, "\xfa", good, pushrule.Place{}, 400, mxerr.CodeInvalidParam},
		"a_long_ID":                        {pushrule.Content, long, good, pushrule.Place{}, 400, mxerr.CodeInvalidParam},
		"a_room_rule_for_no_room":          {pushrule.Room, "#a:b", good, pushrule.Place{}, 400, mxerr.CodeInvalidParam},
		"a_sender_rule_for_no_user":        {pushrule.Sender, "alice", good, pushrule.Place{}, 400, mxerr.CodeInvalidParam},
		"before_an_unknown_rule":           {pushrule.Content, "a", good, pushrule.Place{Before: "x"}, 400, mxerr.CodeUnknown},
		"after_an_unknown_rule":            {pushrule.Content, "a", good, pushrule.Place{After: "x"}, 400, mxerr.CodeUnknown},
		"after_a_default_rule":             {pushrule.Override, "a", good, pushrule.Place{After: pushrule.RuleMaster}, 400, mxerr.CodeUnknown},
		"before_itself":                    {pushrule.Content, "a", good, pushrule.Place{Before: "a"}, 400, mxerr.CodeUnknown},
		"no_JSON":                          {pushrule.Content, "a", `{`, pushrule.Place{}, 400, mxerr.CodeNotJSON},
		"no_object":                        {pushrule.Content, "a", `[]`, pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"null":                             {pushrule.Content, "a", `null`, pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"a_key_twice":                      {pushrule.Content, "a", `{"actions":[],"actions":[],"pattern":"x"}`, pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"no_actions":                       {pushrule.Content, "a", `{"pattern":"x"}`, pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"actions_in_another_case":          {pushrule.Content, "a", `{"pattern":"x","Actions":[]}`, pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"actions_that_are_null":            {pushrule.Content, "a", `{"pattern":"x","actions":null}`, pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"an_unknown_action":                {pushrule.Content, "a", `{"pattern":"x","actions":["shout"]}`, pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"an_action_that_is_a_number":       {pushrule.Content, "a", `{"pattern":"x","actions":[1]}`, pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"an_action_that_is_null":           {pushrule.Content, "a", `{"pattern":"x","actions":[null]}`, pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"an_action_without_set_tweak":      {pushrule.Content, "a", `{"pattern":"x","actions":[{"value":1}]}`, pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"too_many_actions":                 {pushrule.Room, "!a:b", `{"actions":[` + strings.Repeat(`"notify",`, 40) + `"notify"]}`, pushrule.Place{}, 413, mxerr.CodeTooLarge},
		"a_content_rule_without_pattern":   {pushrule.Content, "a", `{"actions":[]}`, pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"a_pattern_that_is_no_string":      {pushrule.Override, "a", `{"actions":[],"pattern":1}`, pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"a_long_pattern":                   {pushrule.Content, "a", `{"actions":[],"pattern":"` + long + `"}`, pushrule.Place{}, 413, mxerr.CodeTooLarge},
		"conditions_that_are_no_array":     {pushrule.Content, "a", `{"actions":[],"pattern":"","conditions":{}}`, pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"too_many_conditions":              {pushrule.Override, "a", condition(strings.Repeat(`{"kind":"x"},`, 40) + `{"kind":"x"}`), pushrule.Place{}, 413, mxerr.CodeTooLarge},
		"a_long_condition":                 {pushrule.Override, "a", condition(`{"kind":"` + long + `"}`), pushrule.Place{}, 413, mxerr.CodeTooLarge},
		"a_condition_that_is_a_string":     {pushrule.Override, "a", condition(`"event_match"`), pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"a_condition_without_kind":         {pushrule.Override, "a", condition(`{"key":"a"}`), pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"a_condition_of_a_numeric_kind":    {pushrule.Override, "a", condition(`{"kind":1}`), pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"a_key_that_is_a_number":           {pushrule.Override, "a", condition(`{"kind":"x","key":1}`), pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"event_match_without_pattern":      {pushrule.Override, "a", condition(`{"kind":"event_match","key":"a"}`), pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"event_match_without_key":          {pushrule.Override, "a", condition(`{"kind":"event_match","pattern":"a"}`), pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"event_match_with_a_long_pattern":  {pushrule.Override, "a", condition(`{"kind":"event_match","key":"a","pattern":"` + long[:1000] + `"}`), pushrule.Place{}, 413, mxerr.CodeTooLarge},
		"event_property_is_without_value":  {pushrule.Override, "a", condition(`{"kind":"event_property_is","key":"a"}`), pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"event_property_is_with_an_object": {pushrule.Override, "a", condition(`{"kind":"event_property_is","key":"a","value":{}}`), pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"event_property_is_with_a_float":   {pushrule.Override, "a", condition(`{"kind":"event_property_is","key":"a","value":1.5}`), pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"event_property_is_out_of_range":   {pushrule.Override, "a", condition(`{"kind":"event_property_is","key":"a","value":9007199254740992}`), pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"room_member_count_without_is":     {pushrule.Override, "a", condition(`{"kind":"room_member_count"}`), pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"room_member_count_without_number": {pushrule.Override, "a", condition(`{"kind":"room_member_count","is":"<"}`), pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"room_member_count_with_a_sign":    {pushrule.Override, "a", condition(`{"kind":"room_member_count","is":"=-1"}`), pushrule.Place{}, 400, mxerr.CodeBadJSON},
		"permission_without_key":           {pushrule.Override, "a", condition(`{"kind":"sender_notification_permission"}`), pushrule.Place{}, 400, mxerr.CodeBadJSON},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := defaults(t).Put(c.kind, c.ruleID, []byte(c.body), c.place)
			if e, ok := mxerr.As(err); !ok || e.Code != c.code || e.Status != c.status {
				t.Errorf("got %v, want %d %s", err, c.status, c.code)
			}
		})
	}

	t.Run("more_rules_than_there_may_be", func(t *testing.T) {
		t.Parallel()
		s := defaults(t)
		for i := range pushrule.Content.MaxRules() {
			s = put(t, s, pushrule.Content, fmt.Sprint(i), good)
		}
		if _, err := s.Put(pushrule.Content, "new", []byte(good), pushrule.Place{}); !mxerr.Is(err, mxerr.CodeTooLarge) {
			t.Errorf("got %v", err)
		}
		put(t, s, pushrule.Content, "7", good)
	})

	t.Run("more_conditions_than_there_may_be", func(t *testing.T) {
		t.Parallel()
		s, body := defaults(t), condition(strings.Repeat(`{"kind":"x"},`, 31)+`{"kind":"x"}`)
		for i := range pushrule.MaxConditionsOfKind / 32 {
			s = put(t, s, pushrule.Override, fmt.Sprint(i), body)
		}
		if _, err := s.Put(pushrule.Override, "new", []byte(body), pushrule.Place{}); !mxerr.Is(err, mxerr.CodeTooLarge) {
			t.Errorf("got %v", err)
		}
	})
}

func TestKinds(t *testing.T) {
	t.Parallel()
	for i, name := range []string{"override", "content", "room", "sender", "underride"} {
		if kind, err := pushrule.ParseKind(name); err != nil || kind != pushrule.Kind(i) || kind.String() != name {
			t.Errorf("%s: %v, %v", name, kind, err)
		}
	}
	if _, err := pushrule.ParseKind("Override"); !mxerr.Is(err, mxerr.CodeInvalidParam) {
		t.Errorf("got %v", err)
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	s := put(t, defaults(t), pushrule.Content, "a", `{"pattern":"x","actions":[]}`)
	next, err := s.Delete(pushrule.Content, "a")
	if err != nil || !next.IsDefault() || s.IsDefault() {
		t.Errorf("the rule should be gone: %v", err)
	}
	if _, err := next.Delete(pushrule.Content, "a"); !mxerr.Is(err, mxerr.CodeNotFound) {
		t.Errorf("a rule that is gone: %v", err)
	}
	if _, err := s.Delete(pushrule.Override, "a"); !mxerr.Is(err, mxerr.CodeNotFound) {
		t.Errorf("a rule of another kind: %v", err)
	}
	if _, err := s.Delete(pushrule.Override, pushrule.RuleMaster); !mxerr.Is(err, mxerr.CodeInvalidParam) {
		t.Errorf("a default rule: %v", err)
	}
}

func TestEnabledAndActions(t *testing.T) {
	t.Parallel()

	t.Run("change_rules_that_the_user_added", func(t *testing.T) {
		t.Parallel()
		s := put(t, defaults(t), pushrule.Room, "!a:b", `{"actions":["notify"]}`)
		s, err := s.SetEnabled(pushrule.Room, "!a:b", false)
		if err != nil {
			t.Fatal(err)
		}
		if s, err = s.SetActions(pushrule.Room, "!a:b", nil); err != nil {
			t.Fatal(err)
		}
		if r, err := s.Rule(pushrule.Room, "!a:b"); err != nil || r.Enabled || marshal(t, r.Actions) != `[]` {
			t.Errorf("got %+v, %v", r, err)
		}
	})

	t.Run("change_default_rules_and_back", func(t *testing.T) {
		t.Parallel()
		s, err := defaults(t).SetEnabled(pushrule.Override, pushrule.RuleMaster, true)
		if err != nil {
			t.Fatal(err)
		}
		actions, err := pushrule.ParseActions([]byte(`["notify"]`))
		if err != nil {
			t.Fatal(err)
		}
		if s, err = s.SetActions(pushrule.Override, pushrule.RuleMaster, actions); err != nil {
			t.Fatal(err)
		}
		r, err := s.Rule(pushrule.Override, pushrule.RuleMaster)
		if err != nil || !r.Enabled || !r.Default || marshal(t, r.Actions) != `["notify"]` || s.IsDefault() {
			t.Errorf("got %+v, %v", r, err)
		}
		if s, err = s.SetEnabled(pushrule.Override, pushrule.RuleMaster, false); err != nil {
			t.Fatal(err)
		}
		if s, err = s.SetActions(pushrule.Override, pushrule.RuleMaster, nil); err != nil || !s.IsDefault() {
			t.Errorf("nothing should be changed any more: %s, %v", s.Stored(), err)
		}
	})

	t.Run("are_not_found_of_unknown_rules", func(t *testing.T) {
		t.Parallel()
		if _, err := defaults(t).SetEnabled(pushrule.Room, "!a:b", true); !mxerr.Is(err, mxerr.CodeNotFound) {
			t.Errorf("enabled: %v", err)
		}
		if _, err := defaults(t).SetActions(pushrule.Room, pushrule.RuleMaster, nil); !mxerr.Is(err, mxerr.CodeNotFound) {
			t.Errorf("actions: %v", err)
		}
		if _, err := defaults(t).Rule(pushrule.Room, "!a:b"); !mxerr.Is(err, mxerr.CodeNotFound) {
			t.Errorf("rule: %v", err)
		}
	})

	t.Run("show_an_empty_list_of_actions", func(t *testing.T) {
		t.Parallel()
		r, err := defaults(t).Rule(pushrule.Override, pushrule.RuleMaster)
		if err != nil || marshal(t, r.Actions) != `[]` {
			t.Errorf("got %s, %v", marshal(t, r.Actions), err)
		}
	})
}

func TestStored(t *testing.T) {
	t.Parallel()

	t.Run("is_empty_if_nothing_is_changed", func(t *testing.T) {
		t.Parallel()
		if stored := defaults(t).Stored(); len(stored) != 0 {
			t.Errorf("got %s", stored)
		}
		s, err := pushrule.Load(mustUser(t, alice), nil)
		if err != nil || !s.IsDefault() || s.User() != mustUser(t, alice) {
			t.Errorf("got %v, %v", s, err)
		}
	})

	t.Run("has_only_what_was_changed", func(t *testing.T) {
		t.Parallel()
		s, err := defaults(t).SetEnabled(pushrule.Underride, pushrule.RuleMessage, false)
		if err != nil {
			t.Fatal(err)
		}
		s = put(t, s, pushrule.Sender, "@a:b", `{"actions":[]}`)
		const want = `{"format":"a","own":{"sender":[{"id":"@a:b","actions":[]}]},"changed":{".m.rule.message":{"enabled":false}}}`
		if got := string(s.Stored()); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})

	t.Run("comes_back_as_it_was", func(t *testing.T) {
		t.Parallel()
		r := pushruletest.NewRandom(1, modelUsers, modelRooms)
		s := defaults(t)
		for range 300 {
			s = r.Change(s)
			loaded, err := pushrule.Load(s.User(), s.Stored())
			if err != nil {
				t.Fatal(err)
			}
			if got, want := marshal(t, loaded), marshal(t, s); got != want || !bytes.Equal(loaded.Stored(), s.Stored()) {
				t.Fatalf("got  %s\nwant %s", got, want)
			}
			parsed, err := pushrule.Parse(s.User(), []byte(marshal(t, s)))
			if err != nil || !bytes.Equal(parsed.Stored(), s.Stored()) {
				t.Fatalf("parsed %s, %v\nwant   %s", parsed.Stored(), err, s.Stored())
			}
		}
	})

	t.Run("keeps_changes_of_default_rules_that_are_gone", func(t *testing.T) {
		t.Parallel()
		const stored = `{"format":"a","changed":{".m.rule.contains_display_name":{"enabled":false}}}`
		s, err := pushrule.Load(mustUser(t, alice), []byte(stored))
		if err != nil || marshal(t, s) != marshal(t, defaults(t)) || string(s.Stored()) != stored {
			t.Errorf("got %s, %v", s.Stored(), err)
		}
	})

	t.Run("refuses_other_formats", func(t *testing.T) {
		t.Parallel()
		for _, text := range []string{`{}`, `{"format":"b"}`, `x`, `{"format":"a","own":{"x":[{}]}}`,
			`{"format":"a","own":{"room":[{"id":"!a:b","actions":["coalesce"]}]}}`,
			`{"format":"a","own":{"room":[{"id":"!a:b","actions":["shout"]}]}}`} {
			if _, err := pushrule.Load(mustUser(t, alice), []byte(text)); err == nil {
				t.Errorf("%s should not be read", text)
			}
		}
	})
}

func TestParseRuleSetRefuses(t *testing.T) {
	t.Parallel()
	for text, code := range map[string]string{
		`{`:                                     mxerr.CodeNotJSON,
		`[]`:                                    mxerr.CodeBadJSON,
		`{"room":[],"room":[]}`:                 mxerr.CodeBadJSON,
		`{"room":{}}`:                           mxerr.CodeBadJSON,
		`{"room":[1]}`:                          mxerr.CodeBadJSON,
		`{"room":[{"actions":[],"enabled":1}]}`: mxerr.CodeBadJSON,
		`{"room":[{"rule_id":"!a:b","actions":[]}]}`:                                                               mxerr.CodeBadJSON,
		`{"room":[{"rule_id":"x","actions":[],"enabled":true}]}`:                                                   mxerr.CodeInvalidParam,
		`{"override":[{"rule_id":".m.rule.master","enabled":true}]}`:                                               mxerr.CodeBadJSON,
		`{"room":[{"rule_id":"!a:b","actions":[],"enabled":true},{"rule_id":"!a:b","actions":[],"enabled":true}]}`: mxerr.CodeBadJSON,
	} {
		if _, err := pushrule.Parse(mustUser(t, alice), []byte(text)); !mxerr.Is(err, code) {
			t.Errorf("%s: got %v, want %s", text, err, code)
		}
	}
	s, err := pushrule.Parse(mustUser(t, alice), []byte(`{"override":[{"rule_id":".org.example","actions":[],"enabled":true}],"x":1}`))
	if err != nil || !s.IsDefault() {
		t.Errorf("a default rule that is not known: %v", err)
	}
}

func TestCopyRoom(t *testing.T) {
	t.Parallel()
	from, to := mustRoom(t, "!old:b"), mustRoom(t, "!new:b")
	s := put(t, defaults(t), pushrule.Room, "!old:b", `{"actions":[]}`)
	s = put(t, s, pushrule.Room, "!other:b", `{"actions":["notify"]}`)
	s = put(t, s, pushrule.Override, "!old:b", `{"conditions":[{"kind":"event_match","key":"room_id","pattern":"!old:b"}],"actions":[]}`)
	s = put(t, s, pushrule.Underride, "is !old:b", `{"conditions":[{"kind":"event_property_is","key":"room_id","value":"!old:b"}],"actions":[]}`)
	s = put(t, s, pushrule.Override, "named !old:b", `{"conditions":[],"actions":[]}`)
	s = put(t, s, pushrule.Content, "!old:b", `{"pattern":"x","actions":[]}`)
	copied := s.CopyRoom(from, to)
	if got := strings.Join(ids(copied, pushrule.Room), " "); got != "!other:b !new:b !old:b" {
		t.Errorf("rules of the kind room: %s", got)
	}
	if got := ids(copied, pushrule.Override)[1:4]; !slices.Equal(got, []string{"named !old:b", "!new:b", "!old:b"}) {
		t.Errorf("rules of the kind override: %v", got)
	}
	for kind, ruleID := range map[pushrule.Kind]string{pushrule.Override: "!new:b", pushrule.Underride: "is !new:b"} {
		r, err := copied.Rule(kind, ruleID)
		if err != nil || !strings.Contains(marshal(t, r.Conditions), `"!new:b"`) || strings.Contains(marshal(t, r.Conditions), "old") {
			t.Errorf("the copy of the kind %s: %s, %v", kind, marshal(t, r), err)
		}
	}
	if len(copied.Rules(pushrule.Content)) != 1 {
		t.Error("rules of the kind content are for no room")
	}
	if got, want := marshal(t, copied.CopyRoom(from, to)), marshal(t, copied); got != want {
		t.Errorf("copied once more: %s\nwant %s", got, want)
	}
}

func FuzzPut(f *testing.F) {
	f.Add(uint8(0), "a", `{"conditions":[{"kind":"event_match","key":"content.body","pattern":"c*k?"}],"actions":["notify"]}`)
	f.Add(uint8(4), "b", `{"conditions":[{"kind":"room_member_count","is":"<=10"},{"kind":"event_property_contains","key":"content.a","value":null}],"actions":[]}`)
	f.Add(uint8(1), "c", `{"pattern":"cake*lie","actions":["notify",{"set_tweak":"sound","value":"x"},"dont_notify"]}`)
	f.Add(uint8(2), "!a:b", `{"actions":[{"set_tweak":"highlight","value":false}]}`)
	body := `{"body":"An example event","msgtype":"m.text","a":[null,1]}`
	f.Fuzz(func(t *testing.T, kind uint8, ruleID, text string) {
		k := pushrule.Kind(kind % 5)
		s, err := defaults(t).Put(k, ruleID, []byte(text), pushrule.Place{})
		if err != nil {
			if _, ok := mxerr.As(err); !ok {
				t.Fatalf("an error without errcode: %v", err)
			}
			return
		}
		loaded, err := pushrule.Load(s.User(), s.Stored())
		if err != nil || marshal(t, loaded) != marshal(t, s) {
			t.Fatalf("stored as %s: %v", s.Stored(), err)
		}
		event := pushruletest.NewEvent(pushrule.Fields{
			Type: "m.room.message", Sender: "@bob:example.org", RoomID: "!a:b", EventID: "$e", Content: []byte(body),
		})
		counter := s.Compile(nil).In(mustRoom(t, "!a:b"))
		got := counter.Judge(pushrule.Member{UserID: alice}, pushrule.NewEvent(event.Fields, pushrule.Facts{MemberCount: 2}))
		want := pushruletest.Naive(pushruletest.Member{UserID: alice, Rules: []byte(marshal(t, s))}, event.JSON, pushrule.Facts{MemberCount: 2})
		if got != want {
			t.Fatalf("verdict %d, naive %d, rules %s", got, want, s.Stored())
		}
	})
}
