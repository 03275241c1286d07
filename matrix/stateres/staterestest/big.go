package staterestest

import (
	"fmt"
	"testing"

	"stoa/matrix/event"
	"stoa/matrix/roomversion"
	"stoa/matrix/stateres"
)

// Big makes a room of many members with two branches that differ in 100 keys: the names of 60 members, and 40 other
// entries. If twice is set, one branch has changed each of them a second time, so that it has auth events which neither
// state has.
func Big(t testing.TB, rules *roomversion.Rules, members int, twice bool) *Fork {
	t.Helper()
	const (
		names  = 60
		filler = 40
	)
	creator := Users[0]
	room := NewRoom(t, rules, creator, nil)
	state := State{{Type: event.TypeCreate}: room.create}
	ts := int64(1000)
	send := func(state State, eventType, stateKey, sender string, content any) {
		ts++
		room.Send(state, Draft{
			Type: eventType, StateKey: stateKey, Sender: sender, Content: content, TS: ts, Depth: ts,
			Prev: []stateres.Ref{room.create},
		})
	}
	send(state, event.TypeMember, creator, creator, member("join"))
	levels := map[string]any{}
	if !rules.CreatorsPrivileged {
		levels[creator] = 100
	}
	send(state, event.TypePowerLevels, "", creator, map[string]any{"users": levels})
	send(state, event.TypeJoinRules, "", creator, map[string]any{"join_rule": "public"})
	people := make([]string, members-1)
	for i := range people {
		people[i] = fmt.Sprintf("@user%d:%c.example", i, 'a'+i%8)
		send(state, event.TypeMember, people[i], people[i], member("join"))
	}
	fork := &Fork{Room: room}
	for b := range 2 {
		mine := state.Clone()
		rounds := 1
		if twice && b == 1 {
			rounds = 2
		}
		for round := range rounds {
			text := fmt.Sprintf("branch %d round %d", b, round)
			for i := range min(names, len(people)) {
				send(mine, event.TypeMember, people[i], people[i], map[string]any{"membership": "join", "displayname": text})
			}
			for i := range filler {
				send(mine, "example.other", fmt.Sprint(i), creator, map[string]any{"text": text})
			}
		}
		fork.States = append(fork.States, mine)
	}
	return fork
}
