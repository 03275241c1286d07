package differential

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"

	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/signing"
	"stoa/matrix/stateres"
	"stoa/matrix/stateres/staterestest"
)

type object = map[string]any

// odd thinks of events that nobody should send: malformed content, wrong state keys, forged invitations.
type odd struct {
	*rand.Rand
	room  *staterestest.Room
	state staterestest.State
}

func pick[T any](o *odd, from ...T) T { return from[o.IntN(len(from))] }

// attempts returns n of them, as far as they can be events of the room version.
func (o *odd) attempts(n int) []staterestest.Attempt {
	var all []staterestest.Attempt
	for range n {
		state := o.state.Clone()
		draft := o.draft(state)
		draft.TS, draft.Depth, draft.Prev = 5000, 100, []stateres.Ref{o.room.Named("create")}
		if o.IntN(4) > 0 {
			draft.Prev = append(draft.Prev, stateres.Ref(1+o.IntN(o.room.Len())))
		}
		if draft.Type == event.TypeCreate {
			draft.Auth = []stateres.Ref{}
			if o.IntN(3) > 0 {
				draft.Prev = nil
			}
		} else {
			draft.Auth = o.auth(o.room.Select(draft, state))
		}
		if pdu, err := o.room.Build(draft); err == nil {
			all = append(all, staterestest.Attempt{PDU: pdu, State: state, Auth: draft.Auth})
		}
	}
	return all
}

// auth leaves the selected auth events mostly as they are; else one is missing, twice there, or has no business there.
func (o *odd) auth(selected []stateres.Ref) []stateres.Ref {
	auth := append([]stateres.Ref{}, selected...)
	if len(auth) == 0 {
		return auth
	}
	switch o.IntN(10) {
	case 0:
		auth = auth[:len(auth)-1]
	case 1:
		auth = append(auth, auth[0])
	case 2:
		auth = append(auth, stateres.Ref(1+o.IntN(o.room.Len())))
	}
	return auth
}

func (o *odd) user() string { return pick(o, staterestest.Users...) }

func (o *odd) draft(state staterestest.State) staterestest.Draft {
	switch o.IntN(9) {
	case 0, 1, 2:
		return staterestest.Draft{Type: event.TypePowerLevels, Sender: o.user(), Content: o.levels(state)}
	case 3, 4:
		return o.member(state)
	case 5:
		return o.thirdParty(state)
	case 6:
		content := object{"room_version": o.room.Rules.Version, "creator": staterestest.Users[0]}
		switch o.IntN(6) {
		case 0:
			delete(content, "creator")
		case 1:
			content["additional_creators"] = pick[any](o, "@a:b", []string{"@a:b"}, []any{1}, []string{"a"}, []string{}, nil)
		case 2:
			content["m.federate"] = pick[any](o, false, "false", nil)
		}
		return staterestest.Draft{Type: event.TypeCreate, Sender: o.user(), Content: content}
	case 7:
		draft := staterestest.Draft{Type: event.TypeAliases, Sender: o.user(), Content: object{"aliases": []string{}}}
		draft.StateKey = pick(o, "a.example", "b.example", "", draft.Sender, strings.SplitAfter(draft.Sender, ":")[1])
		draft.Message = o.IntN(4) == 0
		return draft
	}
	if o.IntN(2) == 0 {
		target, err := id.ParseEventID(pick(o, "$x:a.example", "$x:b.example", "$x:c.example", "$"+strings.Repeat("x", 43)))
		if err != nil {
			o.room.T.Fatal(err)
		}
		return staterestest.Draft{Type: event.TypeRedaction, Message: true, Sender: o.user(), Redacts: target, Content: object{}}
	}
	return staterestest.Draft{
		Type: "example.odd", StateKey: pick(o, "", "@", o.user(), "@nobody", "a"), Sender: o.user(), Content: object{},
	}
}

// levels changes the present levels by values that may not be levels.
func (o *odd) levels(state staterestest.State) object {
	content := object{}
	if ref := state[stateres.Key{Type: event.TypePowerLevels}]; ref != 0 && o.IntN(5) > 0 {
		if err := json.Unmarshal(o.room.PDU(ref).Content(), &content); err != nil {
			o.room.T.Fatal(err)
		}
	}
	value := func() any {
		if o.IntN(3) > 0 {
			return pick(o, 0, 10, 25, 50, 75, 100)
		}
		return pick[any](o, "50", " +025 ", "-1", "", "x", "1.5", 25.5, 1e2, -0.5, nil, true, []any{}, object{}, 1<<53-1)
	}
	for range 1 + o.IntN(3) {
		switch o.IntN(5) {
		case 0:
			content[pick(o, "ban", "kick", "invite", "redact", "state_default", "events_default", "users_default")] = value()
		case 1:
			delete(content, pick(o, "ban", "kick", "invite", "redact", "state_default", "users", "events", "notifications"))
		case 2:
			o.put(content, "events", pick(o, "m.room.name", "m.room.topic", event.TypePowerLevels), value())
		case 3:
			o.put(content, "notifications", pick(o, "room", "other"), value())
		case 4:
			o.put(content, "users", pick(o, o.user(), o.user(), o.user(), "@x:y.example", "nobody", "@nobody"), value())
		}
	}
	if o.IntN(12) == 0 {
		content[pick(o, "users", "events", "notifications")] = pick[any](o, nil, "x", []any{}, 1)
	}
	return content
}

func (o *odd) put(content object, property, key string, value any) {
	entries, ok := content[property].(object)
	if !ok {
		entries = object{}
		content[property] = entries
	}
	entries[key] = value
}

func (o *odd) member(state staterestest.State) staterestest.Draft {
	draft := staterestest.Draft{Type: event.TypeMember, Sender: o.user()}
	draft.StateKey = pick(o, draft.Sender, draft.Sender, o.user(), "", "nobody", "@nobody", "@x:y.example")
	content := object{"membership": pick[any](o, "join", "leave", "invite", "ban", "knock", "other", "", 1, nil)}
	switch o.IntN(5) {
	case 0:
		delete(content, "membership")
	case 1:
		content["join_authorised_via_users_server"] = pick[any](o, o.user(), o.user(), "@x:y.example", "nobody", 1, nil, "")
	}
	o.sometimesBanned(state, draft.StateKey)
	draft.Content = content
	draft.Message = o.IntN(10) == 0
	if o.IntN(3) == 0 { // the present join rule is one that the room's version may not know
		key := stateres.Key{Type: event.TypeJoinRules}
		ref := o.room.Add(staterestest.Draft{
			Type: event.TypeJoinRules, Sender: staterestest.Users[0], TS: 4000, Depth: 90, Auth: []stateres.Ref{},
			Content: object{"join_rule": pick[any](o, "private", "knock", "restricted", "knock_restricted", "other", "", 1, nil)},
		})
		state[key] = ref
	}
	return draft
}

func (o *odd) sometimesBanned(state staterestest.State, user string) {
	if o.IntN(4) == 0 {
		state[stateres.Key{Type: event.TypeMember, StateKey: user}] = o.room.Add(staterestest.Draft{
			Type: event.TypeMember, StateKey: user, Sender: staterestest.Users[0], TS: 4200, Depth: 90,
			Auth: []stateres.Ref{}, Content: object{"membership": "ban"},
		})
	}
}

// thirdParty redeems a third-party invite, not always a good one.
func (o *odd) thirdParty(state staterestest.State) staterestest.Draft {
	inviter, target := o.user(), pick(o, "@guest:y.example", o.user())
	o.sometimesBanned(state, target)
	server, err := id.ParseServerName("identity.example")
	if err != nil {
		o.room.T.Fatal(err)
	}
	signer := o.room.Signer(server)
	public := signing.Base64(signer.Key().Public()).String()
	token := fmt.Sprint("token", o.IntN(3))
	issued := object{"display_name": "g...", "key_validity_url": "https://identity.example/", "public_key": public}
	switch o.IntN(4) {
	case 0:
		issued["public_keys"] = []object{{"public_key": public}}
	case 1:
		issued["public_keys"] = []object{{"public_key": public}}
		issued["public_key"] = strings.Repeat("A", 43)
	case 2:
		issued["public_key"] = strings.Repeat("A", 43)
	}
	if o.IntN(6) > 0 {
		state[stateres.Key{Type: event.TypeThirdPartyInvite, StateKey: token}] = o.room.Add(staterestest.Draft{
			Type: event.TypeThirdPartyInvite, StateKey: token, Sender: pick(o, inviter, inviter, inviter, o.user()), Content: issued,
			TS: 4500, Depth: 95, Auth: []stateres.Ref{},
		})
	}
	text, err := json.Marshal(object{"mxid": pick(o, target, target, target, o.user()), "token": token})
	if err == nil {
		text, err = signing.SignJSON(text, server.String(), signer.Key())
	}
	if err != nil {
		o.room.T.Fatal(err)
	}
	var signed object
	if err := json.Unmarshal(text, &signed); err != nil {
		o.room.T.Fatal(err)
	}
	switch o.IntN(10) {
	case 0:
		delete(signed, "mxid")
	case 1:
		delete(signed, "signatures")
	case 2:
		signed["signatures"] = object{"other.example": signed["signatures"].(object)["identity.example"]}
	case 3:
		signed["token"] = "another"
	}
	invite := object{"display_name": "g...", "signed": signed}
	if o.IntN(12) == 0 {
		delete(invite, "signed")
	}
	return staterestest.Draft{
		Type: event.TypeMember, StateKey: target, Sender: inviter,
		Content: object{"membership": "invite", "third_party_invite": invite},
	}
}
