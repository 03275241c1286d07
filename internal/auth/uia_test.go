package auth

import "testing"

func TestFlows(t *testing.T) {
	t.Parallel()
	flows := []Flow{{Stages: []string{"a", "b"}}, {Stages: []string{"a", "c"}}, {Stages: []string{"d"}}}
	for _, c := range []struct {
		name      string
		completed []string
		stage     string
		may, done bool // whether the stage may be attempted; whether a flow is complete after it
	}{
		{"begin_with_any_first_stage", nil, "a", true, false},
		{"begin_with_another_first_stage", nil, "d", true, true},
		{"refuse_a_second_stage_first", nil, "b", false, false},
		{"refuse_an_unknown_stage", []string{"a"}, "x", false, false},
		{"go_on_with_one_branch", []string{"a"}, "b", true, true},
		{"go_on_with_the_other_branch", []string{"a"}, "c", true, true},
		{"let_a_client_change_to_another_flow", []string{"a"}, "d", true, true},
		{"are_not_opened_by_stages_of_others", []string{"d"}, "c", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if may := mayAttempt(flows, c.completed, c.stage); may != c.may {
				t.Errorf("may attempt %s after %v: %v", c.stage, c.completed, may)
			}
			after := c.completed
			if c.may {
				after = append(after, c.stage)
			}
			if done := completes(flows, after); done != c.done {
				t.Errorf("complete with %v: %v", after, done)
			}
		})
	}
	if completes(nil, []string{"a"}) {
		t.Error("no flow at all is complete")
	}
}
