package staterestest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"stoa/matrix/event"
	"stoa/matrix/roomversion"
	"stoa/matrix/stateres"
)

// Users are the people of random rooms, on three servers. The first creates the room.
var Users = []string{
	"@carol:c.example", "@dora:c.example", "@alice:a.example", "@anna:a.example", "@bob:b.example", "@ben:b.example",
}

// Fork is a room with states to resolve.
type Fork struct {
	*Room
	States []State
	// Attempts are what was tried, allowed or not, with the state of the time.
	Attempts []Attempt
}

// Attempt is an event and a state to check it against.
type Attempt struct {
	PDU   *event.PDU
	State State
	// Auth are the event's auth events.
	Auth []stateres.Ref
}

// RandomOptions say how wild a random fork gets.
type RandomOptions struct {
	// Attempts keeps the events that were tried.
	Attempts bool
	// Rejected lets some events count as rejected afterwards, so that they lend no authority.
	Rejected bool
}

// Random makes a room with two to four branches, on which people do random things, mostly what changes who may do what.
// Branches may be resolved and forked again on the way.
func Random(t testing.TB, rules *roomversion.Rules, seed uint64, o RandomOptions) *Fork {
	t.Helper()
	g := &generator{rand: rand.New(rand.NewPCG(seed, 20)), options: o, fork: &Fork{}, ts: 1000}
	content := map[string]any{}
	if rules.CreatorsPrivileged && g.one(3) {
		content["additional_creators"] = []string{Users[1]}
	}
	room := NewRoom(t, rules, Users[0], content)
	g.fork.Room = room
	base := &branch{state: State{{Type: event.TypeCreate}: room.create}, head: room.create, depth: 1}
	g.send(base, Draft{Type: event.TypeMember, StateKey: Users[0], Sender: Users[0], Content: member("join")})
	if !g.one(5) {
		g.send(base, g.powerLevels(base, Users[0]))
	}
	g.send(base, Draft{Type: event.TypeJoinRules, Sender: Users[0], Content: map[string]any{"join_rule": "public"}})
	for _, user := range Users[1:] {
		if !g.one(3) {
			g.send(base, Draft{Type: event.TypeMember, StateKey: user, Sender: user, Content: member("join")})
		}
	}
	g.live(base, g.rand.IntN(8))
	branches := make([]*branch, 2+g.rand.IntN(3))
	for i := range branches {
		branches[i] = base.clone()
	}
	for range 1 + g.rand.IntN(3) {
		for _, b := range branches {
			g.live(b, g.rand.IntN(7))
		}
		if g.one(3) { // two branches meet, and one goes on from there
			a, b := branches[g.rand.IntN(len(branches))], branches[g.rand.IntN(len(branches))]
			a.state = room.Resolve(a.state, b.state)
			a.depth = max(a.depth, b.depth)
		}
	}
	if o.Rejected && g.one(2) {
		for ref := stateres.Ref(2); int(ref) <= room.Len(); ref++ {
			room.Refused[ref] = g.one(10)
		}
	}
	for _, b := range branches {
		g.fork.States = append(g.fork.States, b.state)
	}
	return g.fork
}

type branch struct {
	state State
	head  stateres.Ref
	depth int64
}

func (b *branch) clone() *branch { return &branch{b.state.Clone(), b.head, b.depth} }

type generator struct {
	rand    *rand.Rand
	options RandomOptions
	fork    *Fork
	ts      int64
}

func (g *generator) one(of int) bool { return g.rand.IntN(of) == 0 }

func pick[T any](g *generator, from ...T) T { return from[g.rand.IntN(len(from))] }

func member(membership string) map[string]any { return map[string]any{"membership": membership} }

func (g *generator) live(b *branch, n int) {
	for range n {
		g.send(b, g.draft(b))
	}
}

// send tries an event; clocks go wrong, and depths are the same on many branches.
func (g *generator) send(b *branch, d Draft) {
	g.ts += int64(g.rand.IntN(40)) - 10
	d.TS, d.Depth, d.Prev = g.ts, b.depth+1, []stateres.Ref{b.head}
	if g.options.Attempts {
		before := b.state.Clone()
		d.Auth = g.fork.Select(d, before)
		g.fork.Attempts = append(g.fork.Attempts, Attempt{g.fork.build(d), before, d.Auth})
	}
	if ref, ok := g.fork.Try(b.state, d); ok {
		b.head = ref
		b.depth++
	}
}

// draft thinks of something to do.
func (g *generator) draft(b *branch) Draft {
	user, other := pick(g, Users...), pick(g, Users...)
	switch g.rand.IntN(12) {
	case 0, 1:
		return g.powerLevels(b, user)
	case 2:
		rule := map[string]any{"join_rule": pick(g, "public", "invite", "knock", "restricted", "knock_restricted")}
		return Draft{Type: event.TypeJoinRules, Sender: user, Content: rule}
	case 3, 4:
		return Draft{Type: event.TypeMember, StateKey: user, Sender: user, Content: member(pick(g, "join", "join", "leave", "knock"))}
	case 5, 6:
		content := member(pick(g, "ban", "leave", "invite"))
		return Draft{Type: event.TypeMember, StateKey: other, Sender: user, Content: content}
	case 7:
		content := member("join")
		if g.one(2) {
			content["displayname"] = fmt.Sprint("name ", g.rand.IntN(9))
		} else {
			content["join_authorised_via_users_server"] = other
		}
		return Draft{Type: event.TypeMember, StateKey: user, Sender: user, Content: content}
	case 8:
		return Draft{Type: "m.room.aliases", StateKey: pick(g, "a.example", "b.example"), Sender: user, Content: map[string]any{}}
	case 9:
		return Draft{Type: "example.own", StateKey: other, Sender: user, Content: map[string]any{"n": g.rand.IntN(9)}}
	case 10:
		return Draft{Type: "m.room.message", Message: true, Sender: user, Content: map[string]any{"body": "hello"}}
	}
	return Draft{Type: pick(g, "m.room.topic", "m.room.name"), Sender: user, Content: map[string]any{"text": g.rand.IntN(9)}}
}

// powerLevels changes a little of the present levels.
func (g *generator) powerLevels(b *branch, sender string) Draft {
	users, events := map[string]any{}, map[string]any{}
	content := map[string]any{"users": users, "events": events}
	if ref := b.state[stateres.Key{Type: event.TypePowerLevels}]; ref != 0 {
		if old, err := g.fork.PDU(ref).PowerLevels(); err == nil {
			for user, level := range old.Users {
				users[user.String()] = level
			}
			for eventType, level := range old.Events {
				events[eventType] = level
			}
		}
	} else {
		for i, user := range Users {
			if !g.fork.Rules.CreatorsPrivileged || i > 1 {
				users[user] = 100 - 25*(i/2)
			}
		}
		events[event.TypePowerLevels] = 50
	}
	for range g.rand.IntN(3) {
		switch g.rand.IntN(4) {
		case 0:
			content[pick(g, "ban", "kick", "invite", "redact", "state_default", "events_default", "users_default")] = pick(g, 0, 25, 50, 75)
		case 1:
			events[pick(g, "m.room.topic", "m.room.name", event.TypeJoinRules, event.TypePowerLevels)] = pick(g, 0, 25, 50, 75, 100)
		case 2:
			content["notifications"] = map[string]any{"room": pick(g, 0, 50, 75)}
		default:
			users[pick(g, Users[2:]...)] = pick(g, 0, 25, 50, 75, 100)
		}
	}
	return Draft{Type: event.TypePowerLevels, Sender: sender, Content: content}
}
