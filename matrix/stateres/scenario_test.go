package stateres_test

import (
	"testing"

	"stoa/matrix/event"
	"stoa/matrix/roomversion"
	"stoa/matrix/stateres"
	"stoa/matrix/stateres/staterestest"
)

// People of the scenarios: alice creates the room and has 100, bob has 50.
const (
	alice   = "@alice:a.example"
	bob     = "@bob:b.example"
	charlie = "@charlie:c.example"
	zara    = "@zara:z.example"
)

type object = map[string]any

var (
	levelsKey    = stateres.Key{Type: event.TypePowerLevels}
	joinRulesKey = stateres.Key{Type: event.TypeJoinRules}
	topicKey     = stateres.Key{Type: "m.room.topic"}
)

func memberKey(user string) stateres.Key { return stateres.Key{Type: event.TypeMember, StateKey: user} }

// story is a room whose events follow each other on branches. Every event is a second after the one before it.
type story struct {
	*staterestest.Room
	base staterestest.State
	ts   int64
}

func newStory(t *testing.T, rules *roomversion.Rules) *story {
	s := &story{Room: staterestest.NewRoom(t, rules, alice, nil), ts: 1000}
	s.base = staterestest.State{{Type: event.TypeCreate}: s.Named("create")}
	s.Send(s.base, staterestest.Draft{
		Type: event.TypeMember, StateKey: alice, Sender: alice, Content: object{"membership": "join"}, TS: s.ts, Depth: 1,
		Prev: []stateres.Ref{s.Named("create")},
	})
	s.levels(s.base, "levels", alice, bob, 50)
	s.joinRule(s.base, "public", alice, "public")
	s.join(s.base, bob)
	s.join(s.base, charlie)
	s.topic(s.base, "old topic", alice)
	return s
}

func (s *story) send(state staterestest.State, name, eventType, stateKey, sender string, content any) {
	s.T.Helper()
	s.ts += 1000
	s.Send(state, staterestest.Draft{
		Name: name, Type: eventType, StateKey: stateKey, Sender: sender, Content: content, TS: s.ts, Depth: s.ts / 1000,
	})
}

func (s *story) member(state staterestest.State, name, membership, sender, target string) {
	s.T.Helper()
	s.send(state, name, event.TypeMember, target, sender, object{"membership": membership, "reason": name})
}

func (s *story) join(state staterestest.State, user string) {
	s.T.Helper()
	s.member(state, user+" joins", "join", user, user)
}

// levels sets power levels: users and levels alternate; alice has 100 besides, where creators are not privileged.
func (s *story) levels(state staterestest.State, name, sender string, users ...any) {
	s.T.Helper()
	content := object{}
	if !s.Rules.CreatorsPrivileged {
		content[alice] = 100
	}
	for i := 0; i < len(users); i += 2 {
		content[users[i].(string)] = users[i+1]
	}
	s.send(state, name, event.TypePowerLevels, "", sender,
		object{"users": content, "events": object{event.TypePowerLevels: 50, "m.room.topic": 0}})
}

func (s *story) joinRule(state staterestest.State, name, sender, rule string) {
	s.T.Helper()
	s.send(state, name, event.TypeJoinRules, "", sender, object{"join_rule": rule})
}

func (s *story) topic(state staterestest.State, name, sender string) {
	s.T.Helper()
	s.send(state, name, "m.room.topic", "", sender, object{"topic": name})
}

// fork returns two copies of the state that both branches begin with.
func (s *story) fork() (a, b staterestest.State) { return s.base.Clone(), s.base.Clone() }

// expect resolves two branches both ways round.
func (s *story) expect(a, b staterestest.State, want map[stateres.Key]string) {
	s.T.Helper()
	for _, resolved := range []staterestest.State{s.Resolve(a, b), s.Resolve(b, a)} {
		for key, name := range want {
			var ref stateres.Ref
			if name != "" {
				ref = s.Named(name)
			}
			if resolved[key] != ref {
				s.T.Errorf("%v is %s, not %s (%s)", key, s.Describe(resolved[key]), name, s.Describe(ref))
			}
		}
	}
}

// TestStories tells forks of which the outcome is known, for all versions whose algorithm is v2 or v2.1.
//
// Spec: rooms/v2#state-resolution, rooms/v12#state-resolution
func TestStories(t *testing.T) {
	t.Parallel()
	for _, story := range stories {
		t.Run(story.name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, rules *roomversion.Rules) {
				if rules.StateRes != roomversion.StateResV1 {
					story.tell(newStory(t, rules))
				}
			})
		})
	}
}

var stories = []struct {
	name string
	tell func(s *story)
}{
	{"a ban undoes what the banned do meanwhile", func(s *story) {
		a, b := s.fork()
		s.member(a, "ban", "ban", alice, bob)
		s.topic(b, "new topic", bob)
		s.expect(a, b, map[stateres.Key]string{memberKey(bob): "ban", topicKey: "old topic"})
	}},
	{"a ban beats a new name", func(s *story) {
		a, b := s.fork()
		s.member(a, "ban", "ban", alice, charlie)
		s.member(b, "new name", "join", charlie, charlie)
		s.expect(a, b, map[stateres.Key]string{memberKey(charlie): "ban"})
	}},
	{"a ban beats leaving", func(s *story) {
		a, b := s.fork()
		s.member(a, "ban", "ban", alice, charlie)
		s.member(b, "leave", "leave", charlie, charlie)
		s.expect(a, b, map[stateres.Key]string{memberKey(charlie): "ban"})
	}},
	{"who is banned cannot ban", func(s *story) {
		a, b := s.fork()
		s.member(a, "ban of bob", "ban", alice, bob)
		s.member(b, "ban of charlie", "ban", bob, charlie)
		s.expect(a, b, map[stateres.Key]string{memberKey(bob): "ban of bob", memberKey(charlie): charlie + " joins"})
	}},
	{"a ban by less power comes after a ban and its lifting by more", func(s *story) {
		a, b := s.fork()
		s.member(b, "ban by bob", "ban", bob, charlie)
		s.member(a, "ban by alice", "ban", alice, charlie)
		s.member(a, "unban", "leave", alice, charlie)
		s.expect(a, b, map[stateres.Key]string{memberKey(charlie): "ban by bob"})
	}},
	{"lifting the same ban twice keeps the later", func(s *story) {
		s.member(s.base, "ban", "ban", alice, charlie)
		a, b := s.fork()
		s.member(a, "first", "leave", alice, charlie)
		s.member(b, "second", "leave", alice, charlie)
		s.expect(a, b, map[stateres.Key]string{memberKey(charlie): "second"})
	}},
	{"rejoining after a ban was lifted stays", func(s *story) {
		a, b := s.fork()
		s.member(a, "ban", "ban", alice, charlie)
		s.member(a, "unban", "leave", alice, charlie)
		s.member(a, "back", "join", charlie, charlie)
		s.topic(b, "new topic", bob)
		s.expect(a, b, map[stateres.Key]string{memberKey(charlie): "back", topicKey: "new topic"})
	}},
	{"who is demoted cannot change levels meanwhile", func(s *story) {
		a, b := s.fork()
		s.levels(b, "charlie rises", bob, bob, 50, charlie, 50)
		s.levels(a, "bob falls", alice, bob, 0)
		s.expect(a, b, map[stateres.Key]string{levelsKey: "bob falls"})
	}},
	{"what the promoted do counts if the promotion does", func(s *story) {
		a, b := s.fork()
		s.levels(a, "charlie rises", alice, bob, 50, charlie, 50)
		s.joinRule(a, "invite", charlie, "invite")
		s.topic(b, "new topic", bob)
		s.expect(a, b, map[stateres.Key]string{levelsKey: "charlie rises", joinRulesKey: "invite", topicKey: "new topic"})
	}},
	{"a closed door cannot be evaded by joining in the past", func(s *story) {
		a, b := s.fork()
		s.joinRule(a, "closed", alice, "invite")
		s.member(b, "zara joins", "join", zara, zara)
		s.expect(a, b, map[stateres.Key]string{joinRulesKey: "closed", memberKey(zara): ""})
	}},
	{"of topics on the same levels the later wins", func(s *story) {
		a, b := s.fork()
		s.topic(a, "earlier", alice)
		s.topic(b, "later", bob)
		s.expect(a, b, map[stateres.Key]string{topicKey: "later"})
	}},
	{"a topic on newer levels wins over a later one on older levels", func(s *story) {
		a, b := s.fork()
		s.levels(a, "new levels", alice, bob, 50, charlie, 1)
		s.topic(a, "on new levels", alice)
		s.topic(b, "on old levels", bob)
		s.expect(a, b, map[stateres.Key]string{levelsKey: "new levels", topicKey: "on new levels"})
	}},
	{"a topic on levels that lost counts as one on the levels before", func(s *story) {
		a, b := s.fork()
		s.levels(b, "levels that lose", bob, bob, 50, charlie, 50)
		s.levels(a, "levels that win", alice, bob, 0)
		s.topic(b, "on levels that lose", alice)
		s.topic(a, "on levels that win", alice)
		later := b.Clone()
		s.topic(later, "later, on levels that lose", alice)
		s.expect(a, later, map[stateres.Key]string{levelsKey: "levels that win", topicKey: "on levels that win"})
	}},
	{"levels that lost are nearer than the first", func(s *story) {
		a, b := s.fork()
		s.levels(b, "levels that lose", bob, bob, 50, charlie, 50)
		s.levels(a, "levels that win", alice, bob, 0)
		s.topic(b, "on levels that lose", alice)
		s.topic(a, "on levels that win", alice)
		// Of two topics at the same place in the mainline the later wins: one on the first levels, one on levels that lost.
		c := s.base.Clone()
		s.topic(c, "on the first levels", alice)
		delete(a, topicKey)
		for _, states := range [][]staterestest.State{{a, b, c}, {c, b, a}, {b, a, c}} {
			if got := s.Resolve(states...)[topicKey]; got != s.Named("on the first levels") {
				s.T.Errorf("the topic is %s", s.Describe(got))
			}
		}
	}},
}

// TestConflictedSubgraph is a fork that resets the levels under v2 and does not under v2.1: the levels that link those of
// the branches are in every auth chain, so that only the conflicted state subgraph has them.
//
// Spec: rooms/v12#state-resolution
func TestConflictedSubgraph(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, rules *roomversion.Rules) {
		if rules.StateRes == roomversion.StateResV1 {
			return
		}
		s := newStory(t, rules)
		early := s.base.Clone()
		s.levels(s.base, "charlie rises", alice, bob, 50, charlie, 90)
		s.join(s.base, zara) // rests on these levels, and is in both states
		late := s.base.Clone()
		s.levels(late, "zara rises", charlie, bob, 50, charlie, 90, zara, 80)
		early[memberKey(zara)] = late[memberKey(zara)]
		want := "zara rises"
		if rules.StateRes == roomversion.StateResV2 {
			want = "levels"
		}
		s.expect(early, late, map[stateres.Key]string{levelsKey: want})
	})
}

// TestEmptyInitialState is a fork that loses its join rules under v2 and does not under v2.1: those who set them have left
// in all branches, and v2 begins with that.
//
// Spec: rooms/v12#state-resolution
func TestEmptyInitialState(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, rules *roomversion.Rules) {
		if rules.StateRes == roomversion.StateResV1 {
			return
		}
		s := newStory(t, rules)
		s.levels(s.base, "both rise", alice, bob, 50, charlie, 50)
		a, b := s.fork()
		s.joinRule(a, "by bob", bob, "invite")
		s.joinRule(b, "by charlie", charlie, "knock")
		s.member(a, "bob leaves", "leave", bob, bob)
		s.member(b, "charlie leaves", "leave", charlie, charlie)
		for _, state := range []staterestest.State{a, b} {
			state[memberKey(bob)], state[memberKey(charlie)] = s.Named("bob leaves"), s.Named("charlie leaves")
		}
		want := "by charlie"
		if rules.StateRes == roomversion.StateResV2 {
			want = ""
		}
		s.expect(a, b, map[stateres.Key]string{joinRulesKey: want})
	})
}

// TestCreatorsOrder promises that infinite power comes before any level.
//
// Spec: rooms/v12#state-resolution
func TestCreatorsOrder(t *testing.T) {
	t.Parallel()
	rules, _ := roomversion.Of("12")
	s := newStory(t, rules)
	s.levels(s.base, "highest", alice, bob, int64(1)<<53-1)
	a, b := s.fork()
	s.joinRule(b, "by bob", bob, "invite")
	s.joinRule(a, "by alice", alice, "knock")
	// Alice's is later, yet comes first, so bob's is the last that is applied.
	s.expect(a, b, map[stateres.Key]string{joinRulesKey: "by bob"})
}

// TestRejectedAuthEvents promises that a rejected auth event lends no authority.
//
// Spec: rooms/v2#rejected-events
func TestRejectedAuthEvents(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, rules *roomversion.Rules) {
		if rules.StateRes == roomversion.StateResV1 {
			return
		}
		s := newStory(t, rules)
		s.join(s.base, zara)
		s.member(s.base, "invited", "invite", zara, "@friend:z.example")
		a, b := s.fork()
		s.topic(b, "new topic", zara)
		// Neither state has zara, and both rest on her: only the topic's auth events say that she is in the room.
		delete(a, memberKey(zara))
		delete(b, memberKey(zara))
		s.expect(a, b, map[stateres.Key]string{topicKey: "new topic"})
		s.Refused[s.Named(zara+" joins")] = true
		s.expect(a, b, map[stateres.Key]string{topicKey: "old topic"})
	})
}

// TestV1 tells the forks of room version 1.
//
// Spec: rooms/v1#state-resolution
func TestV1(t *testing.T) {
	t.Parallel()
	rules, _ := roomversion.Of("1")
	for _, story := range []struct {
		name string
		tell func(s *story)
	}{
		{"of topics the deeper wins", func(s *story) {
			a, b := s.fork()
			s.topic(a, "shallow", alice)
			s.topic(b, "deep", bob)
			s.expect(a, b, map[stateres.Key]string{topicKey: "deep"})
		}},
		{"of topics the deepest that is allowed wins", func(s *story) {
			a, b := s.fork()
			s.topic(a, "shallow", alice)
			s.member(a, "ban", "ban", alice, bob)
			s.topic(b, "deep", bob)
			b[memberKey(bob)] = a[memberKey(bob)]
			s.expect(a, b, map[stateres.Key]string{topicKey: "shallow"})
		}},
		{"of topics that are not allowed the shallowest wins", func(s *story) {
			a, b := s.fork()
			s.topic(a, "shallow", charlie)
			s.topic(b, "deep", charlie)
			s.member(a, "ban", "ban", alice, charlie)
			b[memberKey(charlie)] = a[memberKey(charlie)]
			s.expect(a, b, map[stateres.Key]string{topicKey: "shallow"})
		}},
		{"a ban beats a deeper new name", func(s *story) {
			a, b := s.fork()
			s.member(a, "ban", "ban", alice, charlie)
			s.member(b, "new name", "join", charlie, charlie)
			s.expect(a, b, map[stateres.Key]string{memberKey(charlie): "ban"})
		}},
		{"levels are taken as far as each allows the next", func(s *story) {
			a, b := s.fork()
			s.levels(a, "bob falls", alice, bob, 0)
			s.levels(b, "charlie rises", bob, bob, 50, charlie, 50)
			s.expect(a, b, map[stateres.Key]string{levelsKey: "bob falls"})
		}},
		{"what only one branch has is no conflict", func(s *story) {
			a, b := s.fork()
			s.joinRule(a, "closed", alice, "invite")
			s.member(b, "zara joins", "join", zara, zara)
			s.expect(a, b, map[stateres.Key]string{joinRulesKey: "closed", memberKey(zara): "zara joins"})
		}},
	} {
		t.Run(story.name, func(t *testing.T) {
			t.Parallel()
			story.tell(newStory(t, rules))
		})
	}
}
