package clientapi_test

import (
	"strings"
	"testing"
)

const pushGlobal = v3 + "/pushrules/global/"

// ruleIDs are the IDs of a list of push rules.
func ruleIDs(v any) (found []string) {
	list, _ := v.([]any)
	for _, rule := range list {
		ruleID, _ := dig(rule, "rule_id").(string)
		found = append(found, ruleID)
	}
	return found
}

func TestPushRules(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		since := s.sync(alice, "").str("next_batch")
		all := s.do("GET", v3+"/pushrules/", alice.Token, nil).want(200, "")
		global := s.do("GET", v3+"/pushrules/global/", alice.Token, nil).want(200, "")
		equal(t, "both lists", all.Body, object{"global": global.Body})
		for _, kind := range []string{"override", "content", "room", "sender", "underride"} {
			if _, ok := global.Body[kind].([]any); !ok {
				t.Errorf("no list of %s rules in %s", kind, global.raw)
			}
		}
		if first := ruleIDs(global.Body["override"])[0]; first != ".m.rule.master" {
			t.Errorf("the first override rule is %s", first)
		}

		put := func(path string, body object) {
			t.Helper()
			equal(t, "answer", s.do("PUT", pushGlobal+path, alice.Token, body).want(200, "").Body, object{})
		}
		content := func(pattern string) object {
			return object{"pattern": pattern, "actions": []any{"notify", object{"set_tweak": "sound", "value": "default"}}}
		}
		// The newest is the most important one, unless the request says where it goes.
		put("content/b", content("b*"))
		put("content/a", content("a*"))
		put("content/c?after=a", content("c*"))
		put("content/d?before=b", content("d*"))
		order := func(want ...string) {
			t.Helper()
			same(t, ruleIDs(s.do("GET", pushGlobal, alice.Token, nil).want(200, "").Body["content"]), want...)
		}
		order("a", "c", "d", "b")
		put("content/b?before=a", content("bb*"))
		order("b", "a", "c", "d")
		put("content/c", content("cc*"))
		order("b", "a", "c", "d")
		equal(t, "rule", s.do("GET", pushGlobal+"content/c", alice.Token, nil).want(200, "").Body, object{
			"rule_id": "c", "default": false, "enabled": true, "pattern": "cc*", "actions": []any{"notify", object{"set_tweak": "sound", "value": "default"}}})

		// Whoever syncs is told, and reads the same.
		event := s.sync(alice, since).eventOf("m.push_rules", "account_data", "events")
		equal(t, "in /sync", dig(event, "content"), s.do("GET", v3+"/pushrules/", alice.Token, nil).want(200, "").Body)
		s.do("GET", pushGlobal+"content/c", bob.Token, nil).want(404, "M_NOT_FOUND")

		for _, ruleID := range []string{"a", "b", "c", "d"} {
			equal(t, "answer", s.do("DELETE", pushGlobal+"content/"+ruleID, alice.Token, nil).want(200, "").Body, object{})
			s.do("DELETE", pushGlobal+"content/"+ruleID, alice.Token, nil).want(404, "M_NOT_FOUND")
		}
		equal(t, "rules without those of alice", s.do("GET", v3+"/pushrules/", alice.Token, nil).want(200, "").Body, all.Body)
	})
}

func TestPushRuleIsEnabledAndActs(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	roomID := "!hall:stoa.test"
	for _, kind := range []string{"room/" + esc(roomID), "sender/" + esc("@bob:stoa.test"), "override/mine", "underride/mine"} {
		s.do("PUT", pushGlobal+kind, alice.Token, object{"actions": []string{"dont_notify"}}).want(200, "")
	}
	for _, rule := range []string{"room/" + esc(roomID), "sender/" + esc("@bob:stoa.test"), "override/mine", "underride/mine",
		"override/.m.rule.tombstone", "underride/.m.rule.message"} {
		kind, name, _ := strings.Cut(rule, "/")
		t.Run(kind+"_"+name, func(t *testing.T) {
			s := s.in(t)
			enabled := func(want bool) {
				t.Helper()
				equal(t, "enabled", s.do("GET", pushGlobal+kind+"/"+name+"/enabled", alice.Token, nil).want(200, "").Body, object{"enabled": want})
				equal(t, "rule", s.do("GET", pushGlobal+rule, alice.Token, nil).want(200, "").Body["enabled"], want)
			}
			enabled(true)
			for _, on := range []bool{false, true, false} {
				equal(t, "answer", s.do("PUT", pushGlobal+kind+"/"+name+"/enabled", alice.Token, object{"enabled": on}).want(200, "").Body, object{})
				enabled(on)
			}
			acts := func(want ...any) {
				t.Helper()
				equal(t, "actions", s.do("GET", pushGlobal+kind+"/"+name+"/actions", alice.Token, nil).want(200, "").Body, object{"actions": want})
			}
			loud := []any{"notify", object{"set_tweak": "highlight"}}
			equal(t, "answer", s.do("PUT", pushGlobal+kind+"/"+name+"/actions", alice.Token, object{"actions": loud}).want(200, "").Body, object{})
			acts(loud...)
			s.do("PUT", pushGlobal+kind+"/"+name+"/actions", alice.Token, object{"actions": []any{}}).want(200, "")
			equal(t, "no actions", s.do("GET", pushGlobal+kind+"/"+name+"/actions", alice.Token, nil).want(200, "").Body, object{"actions": []any{}})
			enabled(false) // actions change nothing of that
		})
	}
	// A rule that is written again stays disabled.
	s.do("PUT", pushGlobal+"override/mine", alice.Token, object{"actions": []string{"notify"}}).want(200, "")
	equal(t, "enabled", s.do("GET", pushGlobal+"override/mine/enabled", alice.Token, nil).want(200, "").Body, object{"enabled": false})
}

func TestPushRulesRefuse(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	notify := object{"actions": []string{"notify"}}
	for name, c := range map[string]struct {
		method, path string
		body         any
		status       int
		errcode      string
	}{
		"a_rule_that_is_not_there":           {"GET", "override/none", nil, 404, "M_NOT_FOUND"},
		"whether_no_rule_is_enabled":         {"GET", "override/none/enabled", nil, 404, "M_NOT_FOUND"},
		"actions_of_no_rule":                 {"GET", "override/none/actions", nil, 404, "M_NOT_FOUND"},
		"to_enable_no_rule":                  {"PUT", "override/none/enabled", object{"enabled": true}, 404, "M_NOT_FOUND"},
		"to_let_no_rule_act":                 {"PUT", "override/none/actions", notify, 404, "M_NOT_FOUND"},
		"a_default_rule_of_another_kind":     {"GET", "content/.m.rule.master", nil, 404, "M_NOT_FOUND"},
		"to_read_an_unknown_kind":            {"GET", "overrides/x", nil, 404, "M_NOT_FOUND"},
		"to_enable_what_is_of_no_kind":       {"PUT", "overrides/x/enabled", object{"enabled": true}, 404, "M_NOT_FOUND"},
		"to_delete_what_is_of_no_kind":       {"DELETE", "overrides/x", nil, 404, "M_NOT_FOUND"},
		"a_kind_that_is_no_name":             {"PUT", "over%20rides/x", notify, 400, "M_INVALID_PARAM"},
		"to_delete_a_default_rule":           {"DELETE", "override/.m.rule.master", nil, 400, "M_INVALID_PARAM"},
		"an_ID_with_a_dot_in_front":          {"PUT", "override/.mine", notify, 400, "M_INVALID_PARAM"},
		"to_write_a_default_rule":            {"PUT", "override/.m.rule.master", notify, 400, "M_INVALID_PARAM"},
		"a_rule_without_actions":             {"PUT", "override/mine", object{}, 400, "M_BAD_JSON"},
		"actions_that_are_no_list":           {"PUT", "override/mine", object{"actions": "notify"}, 400, "M_BAD_JSON"},
		"a_rule_that_is_not_JSON":            {"PUT", "override/mine", `{`, 400, "M_NOT_JSON"},
		"conditions_that_are_no_list":        {"PUT", "override/mine", object{"actions": []any{}, "conditions": 1}, 400, "M_BAD_JSON"},
		"a_content_rule_without_pattern":     {"PUT", "content/mine", notify, 400, "M_BAD_JSON"},
		"a_place_before_nothing":             {"PUT", "override/mine?before=none", notify, 400, "M_UNKNOWN"},
		"a_place_after_nothing":              {"PUT", "override/mine?after=none", notify, 400, "M_UNKNOWN"},
		"a_place_relative_to_a_default_rule": {"PUT", "override/mine?after=.m.rule.master", notify, 400, "M_UNKNOWN"},
		"enabled_that_is_missing":            {"PUT", "override/.m.rule.master/enabled", object{}, 400, "M_BAD_JSON"},
		"enabled_that_is_text":               {"PUT", "override/.m.rule.master/enabled", object{"enabled": "yes"}, 400, "M_BAD_JSON"},
		"actions_that_are_missing":           {"PUT", "override/.m.rule.master/actions", object{}, 400, "M_BAD_JSON"},
		"actions_of_numbers":                 {"PUT", "override/.m.rule.master/actions", object{"actions": []int{1}}, 400, "M_BAD_JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			s.in(t).do(c.method, pushGlobal+c.path, alice.Token, c.body).want(c.status, c.errcode)
		})
	}
	if s.do("GET", pushGlobal+"override/mine", alice.Token, nil).Status != 404 {
		t.Error("a rule was stored all the same")
	}
}

// Clients of experiments have kinds of their own, and old ones an action that is not there any more.
func TestPushRulesAreGivenBackAsSent(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice := s.signUp("alice")
		const rule = pushGlobal + "org.example.post/x"
		s.do("PUT", rule, alice.Token, object{"actions": []string{"shout"}, "y": object{"z": 1}}).want(200, "")
		want := object{"actions": []string{"shout"}, "default": false, "enabled": true, "rule_id": "x", "y": object{"z": 1}}
		equal(t, "rule", s.do("GET", rule, alice.Token, nil).want(200, "").Body, want)
		s.do("PUT", rule+"/enabled", alice.Token, object{"enabled": false}).want(200, "")
		s.do("PUT", rule+"/actions", alice.Token, object{"actions": []string{}}).want(200, "")
		equal(t, "enabled", s.do("GET", rule+"/enabled", alice.Token, nil).want(200, "").Body, object{"enabled": false})
		equal(t, "actions", s.do("GET", rule+"/actions", alice.Token, nil).want(200, "").Body, object{"actions": []any{}})
		all := s.do("GET", v3+"/pushrules/", alice.Token, nil).want(200, "")
		want["enabled"], want["actions"] = false, []any{}
		equal(t, "all of the kind", dig(all.Body, "global", "org.example.post"), []any{want})

		s.do("PUT", pushGlobal+"room/"+esc("!a:stoa.test"), alice.Token, object{"actions": []string{"dont_notify"}}).want(200, "")
		a := s.do("GET", pushGlobal+"room/"+esc("!a:stoa.test"), alice.Token, nil).want(200, "")
		equal(t, "actions", a.Body["actions"], []any{"dont_notify"})
		s.do("DELETE", rule, alice.Token, nil).want(200, "")
		s.do("GET", rule, alice.Token, nil).want(404, "M_NOT_FOUND")
	})
}
