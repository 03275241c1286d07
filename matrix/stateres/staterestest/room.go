// Package staterestest makes rooms with forks for tests of state resolution: by hand, or at random. It also holds a
// resolution by the letter of the specification, slow and plain, to compare the real one with.
//
// It is used by tests alone. A room is made by one goroutine; read, by as many as like. The invariant: the same seed gives
// the same room, event IDs included.
package staterestest

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"testing"

	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
	"stoa/matrix/signing"
	"stoa/matrix/stateres"
)

// State is a whole room state.
type State map[stateres.Key]stateres.Ref

// Clone returns a copy.
func (s State) Clone() State { return maps.Clone(s) }

// Room is a graph of events. It implements stateres.Graph; the n-th event has number n.
type Room struct {
	T     testing.TB
	Rules *roomversion.Rules
	// Refused has the events that were rejected when they were received.
	Refused map[stateres.Ref]bool

	roomID  id.RoomID
	create  stateres.Ref
	events  []*event.PDU
	auth    [][]stateres.Ref
	refs    map[id.EventID]stateres.Ref
	names   map[string]stateres.Ref
	signers map[id.ServerName]*signing.Signer
}

// Draft is an event that a test wants.
type Draft struct {
	// Name lets a test find the event again; it may be empty.
	Name     string
	Type     string
	StateKey string
	// Message makes an event without state key.
	Message bool
	Sender  string
	// Content is marshaled.
	Content any
	// Redacts is for redactions.
	Redacts id.EventID
	// TS is origin_server_ts in ms, Depth the depth.
	TS, Depth int64
	// Prev are the prev events.
	Prev []stateres.Ref
	// Auth replaces the selected auth events if it is not nil.
	Auth []stateres.Ref
}

// NewRoom returns a room with a create event by sender.
func NewRoom(t testing.TB, rules *roomversion.Rules, sender string, content map[string]any) *Room {
	t.Helper()
	r := &Room{
		T: t, Rules: rules, Refused: map[stateres.Ref]bool{}, refs: map[id.EventID]stateres.Ref{},
		names: map[string]stateres.Ref{}, signers: map[id.ServerName]*signing.Signer{},
	}
	full := map[string]any{"room_version": rules.Version}
	maps.Copy(full, content)
	if !rules.CreatorIsSender {
		full["creator"] = sender
	}
	if !rules.RoomIDFromCreate {
		roomID, err := id.ParseRoomID("!room:" + r.user(sender).ServerName().String())
		r.check(err)
		r.roomID = roomID
	}
	r.create = r.Add(Draft{Name: "create", Type: event.TypeCreate, Sender: sender, Content: full, TS: 1, Depth: 1,
		Auth: []stateres.Ref{}})
	r.roomID = r.PDU(r.create).RoomID()
	return r
}

func (r *Room) check(err error) {
	if err != nil {
		r.T.Helper()
		r.T.Fatal(err)
	}
}

func (r *Room) user(name string) id.UserID {
	user, err := id.ParseUserID(name)
	r.check(err)
	return user
}

// Signer returns the key of a server, always the same.
func (r *Room) Signer(server id.ServerName) *signing.Signer {
	if s, ok := r.signers[server]; ok {
		return s
	}
	keyID, err := id.ParseKeyID("ed25519:1")
	r.check(err)
	seed := sha256.Sum256([]byte(server.String()))
	key, err := signing.NewKey(keyID, seed[:])
	r.check(err)
	r.signers[server] = signing.NewSigner(server, key)
	return r.signers[server]
}

// Build makes an event without adding it to the room. It errs if the content is none for the room version.
//
// A join that a user authorises is signed by their server too.
func (r *Room) Build(d Draft) (*event.PDU, error) {
	r.T.Helper()
	content, err := json.Marshal(d.Content)
	r.check(err)
	draft := event.Draft{
		Type: d.Type, Sender: r.user(d.Sender), RoomID: r.roomID, Content: content, Depth: d.Depth, OriginServerTS: d.TS,
		Redacts: d.Redacts, ReferenceHash: r.referenceHash,
	}
	if d.Type == event.TypeCreate && r.Rules.RoomIDFromCreate {
		draft.RoomID = id.RoomID{}
	}
	if !d.Message {
		draft.StateKey = &d.StateKey
	}
	for _, ref := range d.Prev {
		draft.PrevEvents = append(draft.PrevEvents, r.PDU(ref).EventID())
	}
	for _, ref := range d.Auth {
		draft.AuthEvents = append(draft.AuthEvents, r.PDU(ref).EventID())
	}
	pdu, err := event.Build(r.Rules, draft, r.Signer(draft.Sender.ServerName()))
	if err != nil {
		return nil, err
	}
	if pdu.Type() != event.TypeMember {
		return pdu, nil
	}
	member, err := pdu.Member()
	if err != nil || member.Authoriser.IsZero() {
		return pdu, err
	}
	return pdu.Sign(r.Signer(member.Authoriser.ServerName()))
}

// referenceHash is for room versions whose edges have hashes.
func (r *Room) referenceHash(eventID id.EventID) ([sha256.Size]byte, bool) {
	ref, ok := r.refs[eventID]
	if !ok {
		return [sha256.Size]byte{}, false
	}
	hash, err := r.PDU(ref).ReferenceHash()
	r.check(err)
	return hash, true
}

func (r *Room) build(d Draft) *event.PDU {
	r.T.Helper()
	pdu, err := r.Build(d)
	r.check(err)
	return pdu
}

// Add adds an event with the auth events that the draft names, without checking it.
func (r *Room) Add(d Draft) stateres.Ref {
	r.T.Helper()
	return r.add(d, r.build(d))
}

func (r *Room) add(d Draft, pdu *event.PDU) stateres.Ref {
	if ref, ok := r.refs[pdu.EventID()]; ok {
		return ref // the same event again
	}
	r.events = append(r.events, pdu)
	r.auth = append(r.auth, d.Auth)
	ref := stateres.Ref(len(r.events))
	r.refs[pdu.EventID()] = ref
	if d.Name != "" {
		r.names[d.Name] = ref
	}
	return ref
}

// Select returns the auth events that an event gets in a state.
func (r *Room) Select(d Draft, state State) []stateres.Ref {
	content, err := json.Marshal(d.Content)
	r.check(err)
	subject := eventauth.Subject{Type: d.Type, Sender: r.user(d.Sender), Content: content}
	if !d.Message {
		subject.StateKey = &d.StateKey
	}
	auth := []stateres.Ref{}
	for _, key := range eventauth.AuthTypes(r.Rules, subject) {
		if ref := state[key]; ref != 0 {
			auth = append(auth, ref)
		}
	}
	return auth
}

// Try adds an event to the room and to a state, if the state allows it.
func (r *Room) Try(state State, d Draft) (stateres.Ref, bool) {
	r.T.Helper()
	if d.Auth == nil {
		d.Auth = r.Select(d, state)
	}
	pdu := r.build(d)
	verdict, err := eventauth.Check(pdu, r.View(state))
	r.check(err)
	if !verdict.Allowed {
		return 0, false
	}
	ref := r.add(d, pdu)
	if !d.Message {
		state[stateres.Key{Type: d.Type, StateKey: d.StateKey}] = ref
	}
	return ref, true
}

// Send is Try for what must be allowed.
func (r *Room) Send(state State, d Draft) stateres.Ref {
	r.T.Helper()
	ref, ok := r.Try(state, d)
	if !ok {
		r.T.Fatalf("%s by %s is not allowed", d.Type, d.Sender)
	}
	return ref
}

// View returns a state for eventauth. The create event is in it even if the state lacks it.
func (r *Room) View(state State) eventauth.State { return view{r, state} }

type view struct {
	r     *Room
	state State
}

func (v view) Event(eventType, stateKey string) (*event.PDU, error) {
	ref := v.state[stateres.Key{Type: eventType, StateKey: stateKey}]
	if ref == 0 && eventType == event.TypeCreate && v.r.Rules.RoomIDFromCreate {
		ref = v.r.create
	}
	if ref == 0 {
		return nil, nil
	}
	return v.r.Event(ref)
}

// PDU returns an event.
func (r *Room) PDU(ref stateres.Ref) *event.PDU { return r.events[ref-1] }

// Len returns how many events the room has.
func (r *Room) Len() int { return len(r.events) }

// Named returns the event of a name.
func (r *Room) Named(name string) stateres.Ref {
	ref, ok := r.names[name]
	if !ok {
		r.T.Helper()
		r.T.Fatalf("there is no event %q", name)
	}
	return ref
}

// Describe says what an event is, for messages of tests.
func (r *Room) Describe(ref stateres.Ref) string {
	if ref == 0 {
		return "none"
	}
	pdu := r.PDU(ref)
	stateKey, _ := pdu.StateKey()
	return fmt.Sprintf("#%d %s %q by %s %s", ref, pdu.Type(), stateKey, pdu.Sender(), pdu.Content())
}

// Event implements stateres.Graph.
func (r *Room) Event(ref stateres.Ref) (*event.PDU, error) {
	if ref <= 0 || int(ref) > len(r.events) {
		return nil, fmt.Errorf("there is no event %d", ref)
	}
	return r.events[ref-1], nil
}

// AuthEvents implements stateres.Graph.
func (r *Room) AuthEvents(ref stateres.Ref) ([]stateres.Ref, error) {
	if ref <= 0 || int(ref) > len(r.auth) {
		return nil, fmt.Errorf("there is no event %d", ref)
	}
	return r.auth[ref-1], nil
}

// Rejected implements stateres.Graph.
func (r *Room) Rejected(ref stateres.Ref) (bool, error) { return r.Refused[ref], nil }

// Input returns the difference of states.
func (r *Room) Input(states ...State) stateres.Input {
	in := stateres.Input{Rules: r.Rules, Branches: len(states), Events: r}
	common := State{}
	keys := map[stateres.Key]bool{}
	for _, state := range states {
		for key := range state {
			keys[key] = true
		}
	}
	for key := range keys {
		refs := make([]stateres.Ref, len(states))
		same := true
		for i, state := range states {
			refs[i] = state[key]
			same = same && refs[i] == refs[0]
		}
		if same {
			common[key] = refs[0]
		} else {
			in.Conflicts = append(in.Conflicts, stateres.Conflict{Key: key, Refs: refs})
		}
	}
	in.Unconflicted = func(key stateres.Key) (stateres.Ref, error) { return common[key], nil }
	in.EachUnconflicted = func(yield func(stateres.Ref) bool) error {
		for _, ref := range common {
			if !yield(ref) {
				break
			}
		}
		return nil
	}
	return in
}

// Resolve resolves states by package stateres and returns the whole resolved state.
func (r *Room) Resolve(states ...State) State {
	r.T.Helper()
	resolved, err := stateres.Resolve(r.Input(states...))
	r.check(err)
	whole := State{}
	for key, ref := range states[0] {
		whole[key] = ref
	}
	for key, ref := range resolved {
		if whole[key] = ref; ref == 0 {
			delete(whole, key)
		}
	}
	return whole
}
