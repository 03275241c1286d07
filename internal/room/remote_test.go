package room_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
	"stoa/matrix/signing"
	"stoa/matrix/stateres"
)

const remoteName = "far.test"

// remoteServer is another server: it has the whole graph of one room, with the state
// after each event as a plain map, and answers requests for all of it.
type remoteServer struct {
	t      testing.TB
	rules  *roomversion.Rules
	signer *signing.Signer
	roomID id.RoomID

	list  []*remoteEvent // in the order of their creation; the Ref of list[i] is i+1
	byID  map[id.EventID]*remoteEvent
	clock int64

	// Replacements for answers; nil = the real one.
	missing  func(latest []id.EventID) [][]byte
	event    func(eventID id.EventID) ([]byte, error)
	stateIDs func(eventID id.EventID) (state, chain []id.EventID, err error)
}

type remoteEvent struct {
	pdu      *event.PDU
	ref      stateres.Ref
	before   remoteState
	after    remoteState
	rejected bool
}

type remoteState map[eventauth.Key]*remoteEvent

// Event implements eventauth.State.
func (s remoteState) Event(evType, stateKey string) (*event.PDU, error) {
	if e := s[eventauth.Key{Type: evType, StateKey: stateKey}]; e != nil {
		return e.pdu, nil
	}
	return nil, nil
}

func newRemoteServer(t testing.TB, rules *roomversion.Rules, roomID id.RoomID) *remoteServer {
	return &remoteServer{
		t: t, rules: rules, roomID: roomID, signer: signer(t, remoteName),
		byID: map[id.EventID]*remoteEvent{}, clock: 1_700_001_000_000,
	}
}

// add adds an event unchanged.
func (f *remoteServer) learn(pdu *event.PDU) *remoteEvent {
	f.t.Helper()
	e := &remoteEvent{pdu: pdu, ref: stateres.Ref(len(f.list) + 1)}
	var prev []*remoteEvent
	for _, eventID := range pdu.PrevEvents() {
		prev = append(prev, f.byID[eventID])
	}
	e.before = f.resolve(prev)
	e.after = e.before
	verdict, err := eventauth.Check(pdu, e.before)
	if err != nil {
		f.t.Fatal(err)
	}
	e.rejected = !verdict.Allowed
	if stateKey, ok := pdu.StateKey(); ok && !e.rejected {
		e.after = maps.Clone(e.before)
		e.after[eventauth.Key{Type: pdu.Type(), StateKey: stateKey}] = e
	}
	f.list = append(f.list, e)
	f.byID[pdu.EventID()] = e
	return e
}

// make builds an event of a local user on top of some events.
func (f *remoteServer) make(sender id.UserID, prev []*remoteEvent, evType string, stateKey *string, content string) *remoteEvent {
	f.t.Helper()
	state := f.resolve(prev)
	draft := event.Draft{
		Type: evType, StateKey: stateKey, Sender: sender, RoomID: f.roomID, Content: []byte(content), OriginServerTS: f.clock,
	}
	f.clock++
	for _, p := range prev {
		draft.PrevEvents = append(draft.PrevEvents, p.pdu.EventID())
		draft.Depth = max(draft.Depth, p.pdu.Depth()+1)
	}
	subject := eventauth.Subject{Type: evType, StateKey: stateKey, Sender: sender, Content: []byte(content)}
	for _, key := range eventauth.AuthTypes(f.rules, subject) {
		if e := state[key]; e != nil {
			draft.AuthEvents = append(draft.AuthEvents, e.pdu.EventID())
		}
	}
	pdu, err := event.Build(f.rules, draft, f.signer)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.learn(pdu)
}

// resolve resolves the states after some events, with whole maps.
func (f *remoteServer) resolve(prev []*remoteEvent) remoteState {
	f.t.Helper()
	if len(prev) == 0 {
		return remoteState{}
	}
	if len(prev) == 1 {
		return prev[0].after
	}
	keys := map[eventauth.Key]bool{}
	for _, p := range prev {
		for key := range p.after {
			keys[key] = true
		}
	}
	result := remoteState{}
	in := stateres.Input{Rules: f.rules, Branches: len(prev), Events: f}
	for key := range keys {
		c := stateres.Conflict{Key: key}
		same := true
		for _, p := range prev {
			ref := stateres.Ref(0)
			if e := p.after[key]; e != nil {
				ref = e.ref
			}
			c.Refs = append(c.Refs, ref)
			same = same && ref == c.Refs[0]
		}
		if same {
			result[key] = prev[0].after[key]
		} else {
			in.Conflicts = append(in.Conflicts, c)
		}
	}
	common := maps.Clone(result)
	in.Unconflicted = func(key stateres.Key) (stateres.Ref, error) {
		if e := common[key]; e != nil {
			return e.ref, nil
		}
		return 0, nil
	}
	in.EachUnconflicted = func(yield func(stateres.Ref) bool) error {
		for _, e := range common {
			if !yield(e.ref) {
				break
			}
		}
		return nil
	}
	resolved, err := stateres.Resolve(in)
	if err != nil {
		f.t.Fatal(err)
	}
	for key, ref := range resolved {
		if ref == 0 {
			delete(result, key)
		} else {
			result[key] = f.list[ref-1]
		}
	}
	return result
}

// Event and the two after it implement stateres.Graph on farGraph.
func (f *remoteServer) Event(ref stateres.Ref) (*event.PDU, error) { return f.list[ref-1].pdu, nil }

func (f *remoteServer) AuthEvents(ref stateres.Ref) ([]stateres.Ref, error) {
	var refs []stateres.Ref
	for _, eventID := range f.list[ref-1].pdu.AuthEvents() {
		refs = append(refs, f.byID[eventID].ref)
	}
	return refs, nil
}

func (f *remoteServer) Rejected(ref stateres.Ref) (bool, error) { return f.list[ref-1].rejected, nil }

// heads are the events without successors.
func (f *remoteServer) heads() []*remoteEvent {
	var heads []*remoteEvent
	for _, e := range f.list {
		if !e.rejected && !slices.ContainsFunc(f.list, func(x *remoteEvent) bool {
			return !x.rejected && slices.Contains(x.pdu.PrevEvents(), e.pdu.EventID())
		}) {
			heads = append(heads, e)
		}
	}
	return heads
}

// remoteAPI gives package room access to the remote server.
type remoteAPI struct{ *remoteServer }

func (a remoteAPI) Keys(context.Context, map[id.ServerName][]id.KeyID) (signing.KeySource, error) {
	return a, nil
}

func (a remoteAPI) VerifyKey(server id.ServerName, keyID id.KeyID) (signing.VerifyKey, bool) {
	key := a.signer.Key()
	return signing.VerifyKey{Key: key.Public(), ValidUntilTS: 1 << 52}, server == a.signer.ServerName() && keyID == key.ID()
}

var errNotThere = errors.New("there is no such event")

func (a remoteAPI) Event(_ context.Context, _ id.ServerName, _ *roomversion.Rules, eventID id.EventID) ([]byte, error) {
	if a.event != nil {
		return a.event(eventID)
	}
	if e := a.byID[eventID]; e != nil {
		return e.pdu.Bytes(), nil
	}
	return nil, errNotThere
}

func (a remoteAPI) MissingEvents(_ context.Context, _ id.ServerName, _ id.RoomID, known, latest []id.EventID, limit int) ([][]byte, error) {
	if a.missing != nil {
		return a.missing(latest), nil
	}
	var found []*remoteEvent
	seen := map[id.EventID]bool{}
	for _, eventID := range known {
		seen[eventID] = true
	}
	queue := slices.Clone(latest)
	for len(queue) > 0 && len(found) < limit {
		e := a.byID[queue[0]]
		queue = queue[1:]
		if e == nil {
			continue
		}
		for _, prev := range e.pdu.PrevEvents() {
			if !seen[prev] && a.byID[prev] != nil {
				seen[prev] = true
				found = append(found, a.byID[prev])
				queue = append(queue, prev)
			}
		}
	}
	slices.SortFunc(found, func(x, y *remoteEvent) int { return int(x.ref - y.ref) })
	var raws [][]byte
	for _, e := range found {
		raws = append(raws, e.pdu.Bytes())
	}
	return raws, nil
}

func (a remoteAPI) StateIDs(_ context.Context, _ id.ServerName, _ id.RoomID, eventID id.EventID) (state, chain []id.EventID, err error) {
	if a.stateIDs != nil {
		return a.stateIDs(eventID)
	}
	e := a.byID[eventID]
	if e == nil {
		return nil, nil, errNotThere
	}
	for _, s := range e.before {
		state = append(state, s.pdu.EventID())
	}
	return state, nil, nil
}

// shuffled returns a copy in random order.
func shuffled[T any](r *rand.Rand, list []T) []T {
	list = slices.Clone(list)
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}
