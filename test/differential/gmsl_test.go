package differential

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"testing"

	"github.com/matrix-org/gomatrixserverlib"
	"github.com/matrix-org/gomatrixserverlib/spec"

	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/signing"
	"stoa/matrix/stateres"
	"stoa/matrix/stateres/staterestest"
)

// gmslVersion is gomatrixserverlib's row of a room version.
func gmslVersion(t testing.TB, version string) gomatrixserverlib.IRoomVersion {
	t.Helper()
	v, err := gomatrixserverlib.GetRoomVersion(gomatrixserverlib.RoomVersion(version))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// gmslPDU reads an event of ours as a trusted one.
func gmslPDU(t testing.TB, pdu *event.PDU) gomatrixserverlib.PDU {
	t.Helper()
	theirs, err := gmslVersion(t, pdu.Rules().Version).NewEventFromTrustedJSONWithEventID(pdu.EventID().String(), pdu.Bytes(), false)
	if err != nil {
		t.Fatalf("gomatrixserverlib cannot read %s: %v", pdu.Bytes(), err)
	}
	return theirs
}

// gmslUser is the answer to who a sender is: they themselves.
func gmslUser(_ spec.RoomID, sender spec.SenderID) (*spec.UserID, error) {
	return spec.NewUserID(string(sender), true)
}

// gmslEvents keeps gomatrixserverlib's form of a room's events.
type gmslEvents struct {
	room *staterestest.Room
	pdus map[*event.PDU]gomatrixserverlib.PDU
}

func newGMSLEvents(room *staterestest.Room) *gmslEvents {
	return &gmslEvents{room, map[*event.PDU]gomatrixserverlib.PDU{}}
}

func (g *gmslEvents) pdu(pdu *event.PDU) gomatrixserverlib.PDU {
	if _, ok := g.pdus[pdu]; !ok {
		g.pdus[pdu] = gmslPDU(g.room.T, pdu)
	}
	return g.pdus[pdu]
}

// panicked is the error of a call that panicked.
type panicked struct{ value any }

func (p panicked) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// allowed asks gomatrixserverlib for a verdict. Like the server that it was made for, it is given the entries that the
// event needs, and the create event always.
func (g *gmslEvents) allowed(pdu *event.PDU, state eventauth.State) (err error) {
	g.room.T.Helper()
	defer func() {
		if p := recover(); p != nil {
			err = panicked{p}
		}
	}()
	var entries []gomatrixserverlib.PDU
	keys := append(eventauth.AuthTypes(pdu.Rules(), eventauth.SubjectOf(pdu)), eventauth.Key{Type: event.TypeCreate})
	seen := map[eventauth.Key]bool{}
	for _, key := range keys {
		if seen[key] {
			continue
		}
		seen[key] = true
		entry, err := state.Event(key.Type, key.StateKey)
		if err != nil {
			g.room.T.Fatal(err)
		}
		if entry != nil {
			entries = append(entries, g.pdu(entry))
		}
	}
	provider, err := gomatrixserverlib.NewAuthEvents(entries)
	if err != nil {
		g.room.T.Fatal(err)
	}
	return gomatrixserverlib.Allowed(g.pdu(pdu), provider, gmslUser)
}

// states are whole states in gomatrixserverlib's form.
func (g *gmslEvents) states(states []staterestest.State) [][]gomatrixserverlib.PDU {
	sets := make([][]gomatrixserverlib.PDU, len(states))
	for i, state := range states {
		for _, ref := range state {
			sets[i] = append(sets[i], g.pdu(g.room.PDU(ref)))
		}
	}
	return sets
}

// all are all events of the room that are state, which gomatrixserverlib wants as the auth events of the states.
func (g *gmslEvents) all() []gomatrixserverlib.PDU {
	var all []gomatrixserverlib.PDU
	for ref := stateres.Ref(1); int(ref) <= g.room.Len(); ref++ {
		if g.room.PDU(ref).IsState() {
			all = append(all, g.pdu(g.room.PDU(ref)))
		}
	}
	return all
}

// resolve has gomatrixserverlib resolve states; a panic is an error.
func (g *gmslEvents) resolve(states []staterestest.State) (resolved staterestest.State, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked{p}
		}
	}()
	numbers := map[string]stateres.Ref{}
	for ref := stateres.Ref(1); int(ref) <= g.room.Len(); ref++ {
		numbers[g.room.PDU(ref).EventID().String()] = ref
	}
	rejected := func(eventID string) bool { return g.room.Refused[numbers[eventID]] }
	version := gomatrixserverlib.RoomVersion(g.room.Rules.Version)
	auth := g.all()
	if gmslVersion(g.room.T, g.room.Rules.Version).StateResAlgorithm() == gomatrixserverlib.StateResV1 {
		auth = g.agreed(states)
	}
	result, err := gomatrixserverlib.ResolveConflictsNew(version, g.states(states), auth, gmslUser, rejected)
	if err != nil {
		return nil, err
	}
	resolved = staterestest.State{}
	for _, pdu := range result {
		resolved[stateres.Key{Type: pdu.Type(), StateKey: *pdu.StateKey()}] = numbers[pdu.EventID()]
	}
	return resolved, nil
}

// agreed are the entries for which the states know only one event.
func (g *gmslEvents) agreed(states []staterestest.State) []gomatrixserverlib.PDU {
	entries, conflicts := staterestest.State{}, map[stateres.Key]bool{}
	for _, state := range states {
		for key, ref := range state {
			if known, ok := entries[key]; ok && known != ref {
				conflicts[key] = true
			}
			entries[key] = ref
		}
	}
	var agreed []gomatrixserverlib.PDU
	for key, ref := range entries {
		if !conflicts[key] {
			agreed = append(agreed, g.pdu(g.room.PDU(ref)))
		}
	}
	return agreed
}

// gmslKeys verifies signatures with the keys of the tests.
type gmslKeys struct {
	signer func(id.ServerName) *signing.Signer
}

func (k gmslKeys) VerifyJSONs(_ context.Context, requests []gomatrixserverlib.VerifyJSONRequest) ([]gomatrixserverlib.VerifyJSONResult, error) {
	results := make([]gomatrixserverlib.VerifyJSONResult, len(requests))
	for i, r := range requests {
		server, err := id.ParseServerName(string(r.ServerName))
		if err != nil {
			return nil, err
		}
		key := k.signer(server).Key()
		results[i].Error = gomatrixserverlib.VerifyJSON(string(r.ServerName), gomatrixserverlib.KeyID(key.ID().String()),
			ed25519.PublicKey(key.Public()), r.Message)
	}
	return results, nil
}
