package pushrule_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"stoa/matrix/id"
	"stoa/matrix/pushrule"
)

// muted is a rule that mutes the room, as clients make it.
const muted = `{"conditions":[{"kind":"event_match","key":"room_id","pattern":"` + room + `"}],"actions":[]}`

func TestCounter(t *testing.T) {
	t.Parallel()
	const (
		silent     = pushrule.Silent
		notifies   = pushrule.Notifies
		highlights = pushrule.Highlights
	)
	text := pushrule.Classify(pushrule.Facts{MemberCount: 3}, pushrule.Fields{Type: "m.room.message", Content: []byte(`{}`)})
	topic := pushrule.Classify(pushrule.Facts{MemberCount: 3}, pushrule.Fields{Type: "m.room.topic", Content: []byte(`{}`)})
	atRoom := pushrule.Classify(pushrule.Facts{MemberCount: 3, MayNotify: func(string) bool { return true }},
		pushrule.Fields{Type: "m.room.message", Content: []byte(`{"m.mentions":{"room":true}}`)})
	disable := func(s *pushrule.RuleSet, ruleIDs ...string) *pushrule.RuleSet {
		for _, ruleID := range ruleIDs {
			kind := pushrule.Underride
			if _, err := s.Rule(kind, ruleID); err != nil {
				kind = pushrule.Override
			}
			next, err := s.SetEnabled(kind, ruleID, false)
			if err != nil {
				panic(err)
			}
			s = next
		}
		return s
	}
	for name, c := range map[string]struct {
		change            func(*pushrule.RuleSet) *pushrule.RuleSet
		mode              pushrule.Mode
		raises, takesAway bool
		takers            []string
		text, topic, room pushrule.Verdict
	}{
		"default_rules": {
			func(s *pushrule.RuleSet) *pushrule.RuleSet { return s },
			pushrule.ModeAll, true, false, nil, notifies, silent, highlights,
		},
		"a_muted_room": {
			func(s *pushrule.RuleSet) *pushrule.RuleSet { return put(t, s, pushrule.Override, room, muted) },
			pushrule.ModeMute, false, false, nil, silent, silent, silent,
		},
		"the_master_rule": {
			func(s *pushrule.RuleSet) *pushrule.RuleSet {
				s, err := s.SetEnabled(pushrule.Override, pushrule.RuleMaster, true)
				if err != nil {
					panic(err)
				}
				return s
			},
			pushrule.ModeMute, false, false, nil, silent, silent, silent,
		},
		"a_room_with_mentions_only": {
			func(s *pushrule.RuleSet) *pushrule.RuleSet { return put(t, s, pushrule.Room, room, `{"actions":[]}`) },
			pushrule.ModeMentions, true, false, nil, silent, silent, highlights,
		},
		"mentions_only_everywhere": {
			func(s *pushrule.RuleSet) *pushrule.RuleSet {
				return disable(s, pushrule.RuleMessage, pushrule.RuleEncrypted, pushrule.RuleRoomOneToOne, pushrule.RuleEncryptedRoomOneToOne)
			},
			pushrule.ModeMentions, true, false, nil, silent, silent, highlights,
		},
		"a_room_in_which_all_notifies": {
			func(s *pushrule.RuleSet) *pushrule.RuleSet {
				return put(t, s, pushrule.Room, room, `{"actions":["notify"]}`)
			},
			pushrule.ModeAll, true, false, nil, notifies, notifies, highlights,
		},
		"a_rule_for_another_room": {
			func(s *pushrule.RuleSet) *pushrule.RuleSet {
				return put(t, s, pushrule.Room, "!other:b", `{"actions":[]}`)
			},
			pushrule.ModeAll, true, false, nil, notifies, silent, highlights,
		},
		"a_keyword": {
			func(s *pushrule.RuleSet) *pushrule.RuleSet {
				return put(t, s, pushrule.Content, "k", `{"pattern":"cake","actions":["notify",{"set_tweak":"highlight"}]}`)
			},
			pushrule.ModeAll, true, false, nil, notifies, silent, highlights,
		},
		"a_keyword_that_only_notifies": {
			func(s *pushrule.RuleSet) *pushrule.RuleSet {
				return put(t, s, pushrule.Content, "k", `{"pattern":"cake","actions":["notify"]}`)
			},
			pushrule.ModeAll, true, false, nil, notifies, silent, highlights,
		},
		"a_keyword_that_silences": {
			func(s *pushrule.RuleSet) *pushrule.RuleSet {
				return put(t, s, pushrule.Content, "k", `{"pattern":"cake","actions":[]}`)
			},
			pushrule.ModeAll, true, true, nil, notifies, silent, highlights,
		},
		"a_muted_sender": {
			func(s *pushrule.RuleSet) *pushrule.RuleSet { return put(t, s, pushrule.Sender, bob, `{"actions":[]}`) },
			pushrule.ModeAll, true, true, []string{bob}, notifies, silent, highlights,
		},
		"a_muted_sender_in_a_muted_room": {
			func(s *pushrule.RuleSet) *pushrule.RuleSet {
				return put(t, put(t, s, pushrule.Sender, bob, `{"actions":[]}`), pushrule.Override, room, muted)
			},
			pushrule.ModeMute, false, false, nil, silent, silent, silent,
		},
		"a_muted_sender_in_a_room_with_mentions_only": {
			func(s *pushrule.RuleSet) *pushrule.RuleSet {
				return put(t, put(t, s, pushrule.Sender, bob, `{"actions":[]}`), pushrule.Room, room, `{"actions":[]}`)
			},
			pushrule.ModeMentions, true, false, nil, silent, silent, highlights,
		},
		"an_override_for_a_type_that_does_not_notify": {
			func(s *pushrule.RuleSet) *pushrule.RuleSet {
				return put(t, s, pushrule.Override, "o", `{"conditions":[{"kind":"event_match","key":"type","pattern":"m.room.topic"},{"kind":"event_match","key":"state_key","pattern":""}],"actions":[]}`)
			},
			pushrule.ModeAll, true, true, nil, notifies, silent, highlights,
		},
		"a_mention_that_does_not_highlight": {
			func(s *pushrule.RuleSet) *pushrule.RuleSet {
				actions, err := pushrule.ParseActions([]byte(`["notify"]`))
				if err != nil {
					panic(err)
				}
				if s, err = s.SetActions(pushrule.Override, pushrule.RuleIsUserMention, actions); err != nil {
					panic(err)
				}
				return s
			},
			pushrule.ModeAll, true, true, nil, notifies, silent, highlights,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			counter := c.change(defaults(t)).Compile(nil).In(mustRoom(t, room))
			if counter.Mode() != c.mode || counter.Raises() != c.raises {
				t.Errorf("mode %s, raises %v", counter.Mode(), counter.Raises())
			}
			if got := counter.TakesAway(nil); got != c.takesAway {
				t.Errorf("takes away: %v", got)
			}
			if c.takers != nil {
				var asked []string
				if counter.TakesAway(func(user string) bool { asked = append(asked, user); return false }) || !slices.Equal(asked, c.takers) {
					t.Errorf("takes away from senders who are not there, of %v", asked)
				}
			}
			for class, want := range map[pushrule.Class]pushrule.Verdict{text: c.text, topic: c.topic, atRoom: c.room, pushrule.ClassNone: silent} {
				if got := counter.Verdict(class); got != want {
					t.Errorf("class %d: %d, want %d", class, got, want)
				}
			}
		})
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	text := pushrule.Classify(pushrule.Facts{}, pushrule.Fields{Type: "m.room.message"})
	member := pushrule.Classify(pushrule.Facts{}, pushrule.Fields{Type: "m.room.member"})
	var totals pushrule.Totals
	totals.AddMany(text, 5)
	totals.AddMany(member, 7)

	t.Run("adds_classes_and_rows", func(t *testing.T) {
		t.Parallel()
		counter := pushrule.UsualRules().In(mustRoom(t, room))
		u := counter.Count(totals)
		counter.CountRaised(&u, text, pushrule.Highlights)
		counter.CountRaised(&u, member, pushrule.Notifies)
		counter.CountRaised(&u, text, pushrule.Notifies)
		if want := (pushrule.Unread{Notifications: 6, Highlights: 1}); u != want {
			t.Errorf("got %+v", u)
		}
	})

	t.Run("forgets_rows_when_the_room_is_muted", func(t *testing.T) {
		t.Parallel()
		counter := put(t, defaults(t), pushrule.Override, room, muted).Compile(nil).In(mustRoom(t, room))
		u := counter.Count(totals)
		counter.CountRaised(&u, text, pushrule.Highlights)
		if (u != pushrule.Unread{}) {
			t.Errorf("got %+v", u)
		}
	})
}

func TestTotals(t *testing.T) {
	t.Parallel()
	classes := []pushrule.Class{
		pushrule.Classify(pushrule.Facts{}, pushrule.Fields{Type: "m.room.message"}),
		pushrule.Classify(pushrule.Facts{}, pushrule.Fields{Type: "m.call.invite"}),
		pushrule.Classify(pushrule.Facts{}, pushrule.Fields{Type: "x"}),
	}

	t.Run("count_and_come_back", func(t *testing.T) {
		t.Parallel()
		r := rand.New(rand.NewPCG(1, 1))
		var totals pushrule.Totals
		history := []pushrule.Totals{totals}
		var want [3]int64
		for range 500 {
			i := r.IntN(3)
			totals.Add(classes[i])
			want[i]++
			stored := totals.Append([]byte("x"))
			parsed, err := pushrule.ParseTotals(stored[1:])
			if err != nil || !bytes.Equal(parsed.Append(nil), stored[1:]) {
				t.Fatal(err)
			}
			only, one := parsed.Minus(history[len(history)-1]).Only()
			if !one || only != classes[i] {
				t.Fatalf("the difference is %d, %v", only, one)
			}
			for i, class := range classes {
				if parsed.Of(class) != want[i] {
					t.Fatalf("class %d: %d, want %d", class, parsed.Of(class), want[i])
				}
			}
			history = append(history, parsed)
		}
		for range 100 {
			i := r.IntN(len(history))
			diff := totals.Minus(history[i])
			if !bytes.Equal(history[i].Plus(diff).Append(nil), totals.Append(nil)) {
				t.Fatalf("%d: sum and difference", i)
			}
			var sum int64
			for _, class := range classes {
				sum += diff.Of(class)
			}
			if sum != int64(500-i) {
				t.Fatalf("%d: %d events", i, sum)
			}
		}
	})

	t.Run("do_not_change_in_copies", func(t *testing.T) {
		t.Parallel()
		var a pushrule.Totals
		a.Add(classes[0])
		b := a
		b.Add(classes[0])
		b.Add(classes[1])
		if a.Of(classes[0]) != 1 || a.Of(classes[1]) != 0 || b.Of(classes[0]) != 2 {
			t.Errorf("%v and %v", a, b)
		}
	})

	t.Run("do_not_count_what_counts_for_nobody", func(t *testing.T) {
		t.Parallel()
		var a pushrule.Totals
		a.Add(pushrule.ClassNone)
		if !a.IsZero() || len(a.Append(nil)) != 0 {
			t.Errorf("%v", a)
		}
		if _, one := a.Only(); one {
			t.Error("nothing is no event")
		}
	})

	t.Run("are_never_less_than_nothing", func(t *testing.T) {
		t.Parallel()
		var a, b pushrule.Totals
		b.AddMany(classes[0], 3)
		a.Add(classes[1])
		if diff := a.Minus(b); diff.Of(classes[0]) != 0 || diff.Of(classes[1]) != 1 {
			t.Errorf("%v", diff)
		}
	})

	t.Run("refuse_other_forms", func(t *testing.T) {
		t.Parallel()
		for _, stored := range []string{"b", "a", "a\x01", "a\x00\x01", "a\x01\x00", "a\x81\x00\x01", "a\x01\x80", "a\xff\xff\x7f\x01",
			"a\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "a\x01\x01\x00\x01"} {
			if totals, err := pushrule.ParseTotals([]byte(stored)); err == nil {
				t.Errorf("%q is read as %v", stored, totals)
			}
		}
	})

	t.Run("are_small", func(t *testing.T) {
		t.Parallel()
		var a pushrule.Totals
		for _, class := range classes[:1] {
			a.AddMany(class, 100_000)
		}
		if got := len(a.Append(nil)); got > 5 {
			t.Errorf("%d bytes", got)
		}
	})
}

func FuzzTotals(f *testing.F) {
	f.Add([]byte("a\x03\x05\x10\x01"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, stored []byte) {
		totals, err := pushrule.ParseTotals(stored)
		if err != nil {
			return
		}
		if got := totals.Append(nil); !bytes.Equal(got, stored) {
			t.Fatalf("%q became %q", stored, got)
		}
		if !totals.Minus(totals).IsZero() {
			t.Fatal("a difference to itself")
		}
	})
}

func TestWatch(t *testing.T) {
	t.Parallel()
	keyword := func(pattern string) *pushrule.Rules {
		return put(t, defaults(t), pushrule.Content, "k", fmt.Sprintf(`{"pattern":%q,"actions":["notify",{"set_tweak":"highlight"}]}`, pattern)).Compile(nil)
	}
	carol, dave := mustUser(t, "@carol:example.org"), mustUser(t, "@dave:example.org")
	raised := func(w *pushrule.Watch, content string) []string {
		var names []string
		for _, r := range w.Raised(pushrule.NewEvent(message(content), pushrule.Facts{MemberCount: 9})) {
			names = append(names, fmt.Sprintf("%s %d", r.UserID.Localpart(), r.Verdict))
		}
		return names
	}
	newWatch := func() *pushrule.Watch {
		w := pushrule.NewWatch(mustRoom(t, room), func(user id.UserID) bool { return user.Localpart() != "gone" })
		w.Set(carol, "Carol", keyword("cake"))
		w.Set(dave, "Dave", keyword("tea time"))
		return w
	}

	t.Run("finds_keywords_and_mentions_in_order", func(t *testing.T) {
		t.Parallel()
		content := `{"body":"cake, at tea time","m.mentions":{"user_ids":["@erin:example.org","@erin:example.org","@alice:example.org","@gone:example.org","@bob:example.org","nobody",1]}}`
		want := []string{"alice 2", "carol 2", "dave 2", "erin 2"}
		if got := raised(newWatch(), content); !slices.Equal(got, want) {
			t.Errorf("got %v", got)
		}
	})

	t.Run("finds_nobody_in_an_ordinary_message", func(t *testing.T) {
		t.Parallel()
		if got := raised(newWatch(), `{"body":"pancakes, tea and time"}`); got != nil {
			t.Errorf("got %v", got)
		}
	})

	t.Run("follows_changes_of_rules_and_members", func(t *testing.T) {
		t.Parallel()
		w := newWatch()
		w.Set(carol, "Carol", keyword("tea"))
		w.Remove(dave)
		if got := raised(w, `{"body":"cake at tea time"}`); !slices.Equal(got, []string{"carol 2"}) {
			t.Errorf("got %v", got)
		}
		w.Set(carol, "Carol", pushrule.UsualRules())
		if got := raised(w, `{"body":"cake at tea time","m.mentions":{"user_ids":["@carol:example.org"]}}`); !slices.Equal(got, []string{"carol 2"}) {
			t.Errorf("got %v", got)
		}
		if w.Counter(carol) != pushrule.UsualRules().In(mustRoom(t, room)) {
			t.Error("the usual rules count")
		}
	})

	t.Run("does_not_raise_what_the_room_has_muted", func(t *testing.T) {
		t.Parallel()
		w := newWatch()
		w.Set(carol, "Carol", put(t, defaults(t), pushrule.Override, room, muted).Compile(nil))
		if got := raised(w, `{"m.mentions":{"user_ids":["@carol:example.org"]}}`); got != nil {
			t.Errorf("got %v", got)
		}
		if w.Counter(carol).Mode() != pushrule.ModeMute {
			t.Error("the room is muted")
		}
	})

	t.Run("tells_a_display_name_from_a_pattern", func(t *testing.T) {
		t.Parallel()
		w := newWatch()
		named := put(t, defaults(t), pushrule.Override, "n", `{"conditions":[{"kind":"contains_display_name"}],"actions":["notify",{"set_tweak":"highlight"}]}`).Compile(nil)
		w.Set(carol, "x*y z", named)
		w.Set(dave, "", keyword("x*y z"))
		if got := raised(w, `{"body":"x and y z"}`); !slices.Equal(got, []string{"dave 2"}) {
			t.Errorf("got %v", got)
		}
		if got := raised(w, `{"body":"X*Y z"}`); !slices.Equal(got, []string{"carol 2", "dave 2"}) {
			t.Errorf("got %v", got)
		}
	})
}

// benchWatch has a room of members of whom every fifth has keywords.
func benchWatch(b *testing.B, members int) *pushrule.Watch {
	w := pushrule.NewWatch(mustRoom(b, room), func(id.UserID) bool { return true })
	for i := range members / 5 {
		user := mustUser(b, fmt.Sprintf("@user%d:example.org", i))
		s := pushrule.Defaults(user)
		for j := range 3 {
			s = put(b, s, pushrule.Content, fmt.Sprint(j), fmt.Sprintf(`{"pattern":"keyword %d of %d","actions":["notify",{"set_tweak":"highlight"}]}`, j, i))
		}
		w.Set(user, "", s.Compile(nil))
	}
	return w
}

var benchContent = []byte(`{"body":"Good morning everyone, the lecture on Monday is in room 204, please bring your notes of last week","m.mentions":{"user_ids":["@user77777:example.org"]},"msgtype":"m.text"}`)

func BenchmarkClassify(b *testing.B) {
	f := message(string(benchContent))
	b.ReportAllocs()
	for b.Loop() {
		if pushrule.Classify(pushrule.Facts{MemberCount: 100}, f) == pushrule.ClassNone {
			b.Fatal("no class")
		}
	}
}

func BenchmarkWatch(b *testing.B) {
	for _, members := range []int{100, 26_000} {
		b.Run(fmt.Sprint(members), func(b *testing.B) {
			w := benchWatch(b, members)
			f := message(string(benchContent))
			b.ReportAllocs()
			for b.Loop() {
				if len(w.Raised(pushrule.NewEvent(f, pushrule.Facts{MemberCount: members}))) != 1 {
					b.Fatal("one member is mentioned")
				}
			}
		})
	}
}

func BenchmarkJudge(b *testing.B) {
	f := message(string(benchContent))
	counter := put(b, defaults(b), pushrule.Sender, "@carol:example.org", `{"actions":[]}`).Compile(nil).In(mustRoom(b, room))
	b.ReportAllocs()
	for b.Loop() {
		counter.Judge(pushrule.Member{UserID: alice}, pushrule.NewEvent(f, pushrule.Facts{MemberCount: 100}))
	}
}

func BenchmarkCompile(b *testing.B) {
	s := put(b, defaults(b), pushrule.Override, room, muted)
	b.ReportAllocs()
	for b.Loop() {
		s.Compile(nil)
	}
}

func BenchmarkCount(b *testing.B) {
	var totals pushrule.Totals
	for i, eventType := range []string{"m.room.message", "m.room.member", "m.reaction", "m.room.topic"} {
		totals.AddMany(pushrule.Classify(pushrule.Facts{}, pushrule.Fields{Type: eventType}), int64(1000*(i+1)))
	}
	base, newest := totals.Append(nil), totals.Append(nil)
	counter := pushrule.UsualRules().In(mustRoom(b, room))
	b.ReportAllocs()
	for b.Loop() {
		from, err := pushrule.ParseTotals(base)
		if err != nil {
			b.Fatal(err)
		}
		to, err := pushrule.ParseTotals(newest)
		if err != nil {
			b.Fatal(err)
		}
		counter.Count(to.Minus(from))
	}
}
