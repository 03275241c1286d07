package pushrule_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"stoa/matrix/id"
	"stoa/matrix/pushrule"
)

const highlight = `"actions":["notify",{"set_tweak":"highlight"}]`

// manyRules are rules of one member that take as much work as they can.
func manyRules(t testing.TB, n int, rule func(i int) string) *pushrule.Rules {
	t.Helper()
	set := defaults(t)
	for i := range n {
		set = put(t, set, pushrule.Override, fmt.Sprint(i), rule(i))
	}
	return set.Compile(nil)
}

// TestRulesTakeBoundedWork has a member whose rules would take a second for each message, and counts the steps.
func TestRulesTakeBoundedWork(t *testing.T) {
	t.Parallel()
	const rules = 1000
	body := strings.Repeat("a-b ", 15_000)
	mentions := `"m.mentions":{"user_ids":["@hoarder0:example.org","@erin:example.org"]}`
	hoarder := func(i int) id.UserID { return mustUser(t, fmt.Sprintf("@hoarder%d:example.org", i)) }
	anna := mustUser(t, "@anna:example.org")
	for name, rule := range map[string]func(i int) string{
		"patterns": func(i int) string {
			return fmt.Sprintf(`{"conditions":[{"kind":"event_match","key":"content.body","pattern":"a?b*b?a*x%d?y*"}],%s}`, i, highlight)
		},
		"patterns_of_a_word": func(i int) string {
			return fmt.Sprintf(`{"conditions":[{"kind":"event_match","key":"content.body","pattern":"a ? %d"}],%s}`, i, highlight)
		},
		"other_properties": func(i int) string {
			return fmt.Sprintf(`{"conditions":[{"kind":"event_match","key":"content.formatted_body","pattern":"*a?b*x%d?y*"}],%s}`, i, highlight)
		},
		"missing_properties": func(i int) string {
			return fmt.Sprintf(`{"conditions":[{"kind":"event_property_is","key":"content.missing%d.x","value":1}],%s}`, i, highlight)
		},
		"values": func(i int) string {
			return fmt.Sprintf(`{"conditions":[{"kind":"event_property_contains","key":"content.list","value":%d}],%s}`, i+10, highlight)
		},
		"permissions": func(i int) string {
			return fmt.Sprintf(`{"conditions":[{"kind":"sender_notification_permission","key":"k%d"}],%s}`, i, highlight)
		},
		"display_name": func(int) string {
			return fmt.Sprintf(`{"conditions":[{"kind":"contains_display_name"}],%s}`, highlight)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := pushrule.NewWatch(mustRoom(t, room), func(id.UserID) bool { return true })
			compiled := manyRules(t, rules, rule)
			for i := range 20 {
				w.Set(hoarder(i), "a-b a-b c", compiled)
			}
			w.Set(anna, "Anna", put(t, defaults(t), pushrule.Content, "k", `{"pattern":"cake*",`+highlight+`}`).Compile(nil))
			content := fmt.Sprintf(`{"body":"cakes %s","formatted_body":%q,"list":[%s1],%s}`,
				body[:20_000], body[:10_000], strings.Repeat("1,", 10_000), mentions)
			asked := 0
			e := pushrule.NewEvent(message(content), pushrule.Facts{MemberCount: 30, MayNotify: func(string) bool { asked++; return false }})
			work := pushrule.NewWork(pushrule.EventWork)
			e.LimitWork(work)
			var raised []string
			for _, r := range w.Raised(e) {
				raised = append(raised, r.UserID.Localpart())
			}
			if want := []string{"anna", "erin", "hoarder0"}; !slices.Equal(raised, want) {
				t.Errorf("raised %v, want %v: who has few rules, and the mentioned", raised, want)
			}
			if work.Left() < 0 || asked > pushrule.EventWork/1000 {
				t.Errorf("%d steps are left, and the power levels were asked %d times", work.Left(), asked)
			}
		})
	}
}

// TestOneMemberTakesAShare evaluates the rules of one member, as reading unread events does.
func TestOneMemberTakesAShare(t *testing.T) {
	t.Parallel()
	compiled := manyRules(t, 1000, func(i int) string {
		return fmt.Sprintf(`{"conditions":[{"kind":"event_match","key":"content.body","pattern":"a?b*b?a*x%d?y*"}],%s}`, i, highlight)
	})
	e := pushrule.NewEvent(message(fmt.Sprintf(`{"body":%q}`, strings.Repeat("a-b ", 15_000))), pushrule.Facts{MemberCount: 3})
	work := pushrule.NewWork(pushrule.EventWork)
	e.LimitWork(work)
	compiled.In(mustRoom(t, room)).Judge(pushrule.Member{UserID: "@anna:example.org"}, e)
	if spent := pushrule.EventWork - work.Left(); spent > pushrule.MemberWork || spent < pushrule.MemberWork/2 {
		t.Errorf("one member's rules took %d steps of %d", spent, pushrule.MemberWork)
	}
}

// TestOneEventIsMoreForABoundedNumber has an event mention 3,000 people in a room where many look for one of its words.
func TestOneEventIsMoreForABoundedNumber(t *testing.T) {
	t.Parallel()
	looked := 0
	w := pushrule.NewWatch(mustRoom(t, room), func(id.UserID) bool { looked++; return true })
	compiled := put(t, defaults(t), pushrule.Content, "k", `{"pattern":"cake",`+highlight+`}`).Compile(nil)
	user := func(i int) id.UserID { return mustUser(t, fmt.Sprintf("@user%d:example.org", i)) }
	for i := range 1500 {
		w.Set(user(i), "", compiled)
	}
	var mentioned []string
	for i := range 3000 {
		mentioned = append(mentioned, fmt.Sprintf("%q", user(2999-i)))
	}
	for name, c := range map[string]struct {
		content  string
		want     int
		looked   int
		exceeded bool
		first    id.UserID
	}{
		"mentions":           {`{"body":"x","m.mentions":{"user_ids":[` + strings.Join(mentioned, ",") + `]}}`, 1000, 1000, true, user(2000)},
		"keywords":           {`{"body":"cake"}`, 1000, 0, true, id.UserID{}},
		"few mentions":       {`{"body":"x","m.mentions":{"user_ids":[` + strings.Join(mentioned[:5], ",") + `]}}`, 5, 5, false, user(2995)},
		"keyword and people": {`{"body":"cake","m.mentions":{"user_ids":[` + strings.Join(mentioned[:5], ",") + `]}}`, 1000, 5, true, user(2999)},
	} {
		looked = 0
		e := pushrule.NewEvent(message(c.content), pushrule.Facts{MemberCount: 3000})
		raised := w.Raised(e)
		if len(raised) != c.want || looked != c.looked || w.Exceeded(e) != c.exceeded {
			t.Errorf("%s: %d members, %d looked for, exceeded: %v", name, len(raised), looked, w.Exceeded(e))
		}
		if !c.first.IsZero() && !slices.ContainsFunc(raised, func(r pushrule.Raised) bool { return r.UserID == c.first }) {
			t.Errorf("%s: not %s", name, c.first)
		}
	}
}

// TestPatternsSeeTheBeginning is about texts that are longer than what patterns look at.
func TestPatternsSeeTheBeginning(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x ", pushrule.MaxMatchedText/2-2) // four bytes are left
	for _, c := range []struct {
		body string
		want pushrule.Verdict
	}{
		{long + "cake", pushrule.Highlights},
		{long + "cake and more", pushrule.Highlights},
		{long + "cakewalk", pushrule.Notifies},    // not cut to a word that is not there
		{long + "xxxxxx cake", pushrule.Notifies}, // beyond the bound
		{"cake " + long + long, pushrule.Highlights},
		{strings.Repeat("é", pushrule.MaxMatchedText), pushrule.Notifies},
	} {
		rules := put(t, defaults(t), pushrule.Content, "k", `{"pattern":"cake",`+highlight+`}`).Compile(nil)
		e := pushrule.NewEvent(message(fmt.Sprintf(`{"body":%q}`, c.body)), pushrule.Facts{MemberCount: 3})
		if got := rules.In(mustRoom(t, room)).Judge(pushrule.Member{UserID: "@anna:example.org"}, e); got != c.want {
			t.Errorf("…%q: %v, want %v", c.body[max(0, len(c.body)-20):], got, c.want)
		}
	}
}

// BenchmarkWatchWork has members with as many patterns as they may have, and the longest message.
func BenchmarkWatchWork(b *testing.B) {
	w := pushrule.NewWatch(mustRoom(b, room), func(id.UserID) bool { return true })
	compiled := manyRules(b, 1000, func(i int) string {
		return fmt.Sprintf(`{"conditions":[{"kind":"event_match","key":"content.body","pattern":"a?b*b?a*x%d?y*"}],%s}`, i, highlight)
	})
	for i := range 20 {
		w.Set(mustUser(b, fmt.Sprintf("@hoarder%d:example.org", i)), "", compiled)
	}
	f := message(fmt.Sprintf(`{"body":%q}`, strings.Repeat("a-b ", 15_000)))
	for b.Loop() {
		w.Raised(pushrule.NewEvent(f, pushrule.Facts{MemberCount: 30}))
	}
}
