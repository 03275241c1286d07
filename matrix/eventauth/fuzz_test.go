package eventauth

import (
	"testing"

	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
)

// FuzzCheck throws content at the rules, as an event under check and as the state that it is checked against: there must be
// a verdict with a number of the version's page, the same each time, and a reason exactly if it is no.
func FuzzCheck(f *testing.F) {
	for i, content := range []string{
		`{"membership":"join"}`, `{"membership":"invite","third_party_invite":{"signed":{"mxid":"@a:b","token":"t","signatures":{}}}}`,
		`{"users":{"@alice:a.example":"50"},"events":{"m.room.name":1.5}}`, `{"join_rule":"restricted","allow":[]}`,
		`{"additional_creators":["@alice:a.example"],"room_version":"12"}`, `{"users":[]}`, `{}`,
	} {
		f.Add(uint8(i), uint8(i), true, "", content, content)
	}
	types := []string{
		event.TypeCreate, event.TypeMember, event.TypePowerLevels, event.TypeJoinRules, event.TypeThirdPartyInvite,
		event.TypeAliases, event.TypeRedaction, "m.room.topic",
	}
	f.Fuzz(func(t *testing.T, version, eventType uint8, isState bool, stateKey, content, inState string) {
		rules := roomversion.All()[int(version)%len(roomversion.All())]
		fix := newFixture(t, rules)
		fix.join(alice)
		user := must(id.ParseUserID(alice))(t)
		build := func(eventType string, stateKey *string, content string) *event.PDU {
			pdu, err := event.Build(rules, event.Draft{
				Type: eventType, StateKey: stateKey, Sender: user, RoomID: fix.roomID, Content: []byte(content),
				PrevEvents: fix.prev, Depth: 1, OriginServerTS: 1,
			}, signer(t, user.ServerName()))
			if err != nil {
				return nil // no event of this room version
			}
			return pdu
		}
		for _, key := range []Key{{Type: event.TypePowerLevels}, {Type: event.TypeJoinRules}, {event.TypeThirdPartyInvite, "t"}} {
			if pdu := build(key.Type, &key.StateKey, inState); pdu != nil {
				fix.put(pdu)
			}
		}
		var key *string
		if isState {
			key = &stateKey
		}
		ev := build(types[int(eventType)%len(types)], key, content)
		if ev == nil {
			return
		}
		verdict := fix.check(ev)
		if again := fix.check(ev); again != verdict {
			t.Fatalf("two verdicts: %+v and %+v", verdict, again)
		}
		if verdict.Rule == "" || (verdict.Reason == "") != verdict.Allowed {
			t.Fatalf("verdict %+v", verdict)
		}
		if keys := AuthTypes(rules, SubjectOf(ev)); len(keys) > event.MaxAuthEvents {
			t.Fatalf("%d auth events", len(keys))
		}
	})
}
