package history

import "testing"

// TestVisible goes through the numbered rules.
//
// Spec: client-server-api#room-history-visibility
func TestVisible(t *testing.T) {
	t.Parallel()
	steady := func(visibility, membership string, joinsLater bool) EventVisibility {
		return EventVisibility{
			Visibility: visibility, VisibilityAfter: visibility,
			Membership: membership, MembershipAfter: membership, JoinsLater: joinsLater,
		}
	}
	for name, c := range map[string]struct {
		s    EventVisibility
		want bool
	}{
		"1 world_readable shows all to strangers":        {steady("world_readable", "", false), true},
		"1 world_readable shows all to the banned":       {steady("world_readable", "ban", false), true},
		"2 members see what is shared":                   {steady("shared", "join", false), true},
		"2 members see what is for invited":              {steady("invited", "join", false), true},
		"2 members see what is for joined":               {steady("joined", "join", false), true},
		"3 who joins later sees what was shared":         {steady("shared", "", true), true},
		"3 who rejoins later sees what was shared":       {steady("shared", "leave", true), true},
		"3 no visibility counts as shared":               {steady("", "", true), true},
		"3 an unknown visibility counts as shared":       {steady("org.example", "", true), true},
		"3 not what was for invited":                     {steady("invited", "", true), false},
		"3 not what was for joined":                      {steady("joined", "invite", true), false},
		"4 the invited see what is for invited":          {steady("invited", "invite", false), true},
		"4 the invited don't see what is shared":         {steady("shared", "invite", false), false},
		"4 the invited don't see what is for joined":     {steady("joined", "invite", false), false},
		"5 strangers see nothing that is shared":         {steady("shared", "", false), false},
		"5 who left sees nothing after":                  {steady("joined", "leave", false), false},
		"5 who knocks sees nothing":                      {steady("shared", "knock", false), false},
		"the end of world_readable is seen by all":       {EventVisibility{Visibility: "world_readable", VisibilityAfter: "joined"}, true},
		"the beginning of world_readable is seen by all": {EventVisibility{Visibility: "joined", VisibilityAfter: "world_readable"}, true},
		"one's own join is seen":                         {EventVisibility{Visibility: "joined", VisibilityAfter: "joined", MembershipAfter: "join"}, true},
		"one's own leave is seen":                        {EventVisibility{Visibility: "joined", VisibilityAfter: "joined", Membership: "join", MembershipAfter: "leave"}, true},
		"one's own rejected invite is not":               {EventVisibility{Visibility: "joined", VisibilityAfter: "joined", Membership: "invite", MembershipAfter: "leave"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := Visible(c.s); got != c.want {
				t.Errorf("Visible(%+v) = %v", c.s, got)
			}
		})
	}
}
