//go:build goexperiment.jsonv2

package differential

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	mautrixjson "maunium.net/go/mautrix/crypto/canonicaljson"
	mautrixauth "maunium.net/go/mautrix/federation/eventauth"
	"maunium.net/go/mautrix/federation/pdu"
	mautrixid "maunium.net/go/mautrix/id"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
	"stoa/matrix/signing"
	"stoa/matrix/stateres"
	"stoa/matrix/stateres/staterestest"
)

// mautrixPDU reads an event of ours, of room version 3 or later.
func mautrixPDU(t testing.TB, ours *event.PDU) *pdu.PDU {
	t.Helper()
	theirs := &pdu.PDU{}
	if err := json.Unmarshal(ours.Bytes(), theirs); err != nil {
		t.Fatalf("mautrix cannot read %s: %v", ours.Bytes(), err)
	}
	return theirs
}

// mautrixKeys finds the keys of the tests.
func mautrixKeys(room *staterestest.Room) pdu.GetKeyFunc {
	return func(name string, _ mautrixid.KeyID, _ time.Time) (mautrixid.SigningKey, time.Time, error) {
		server, err := id.ParseServerName(name)
		if err != nil {
			return "", time.Time{}, err
		}
		key := signing.Base64(room.Signer(server).Key().Public()).String()
		return mautrixid.SigningKey(key), time.Now().Add(time.Hour), nil
	}
}

// mautrixAuthorize asks for a verdict on an event against its own auth events.
func mautrixAuthorize(t testing.TB, room *staterestest.Room, a staterestest.Attempt) (err error) {
	t.Helper()
	defer func() {
		if p := recover(); p != nil {
			err = panicked{p}
		}
	}()
	known := map[mautrixid.EventID]*event.PDU{}
	for _, ref := range append([]stateres.Ref{room.Named("create")}, a.Auth...) {
		known[mautrixid.EventID(room.PDU(ref).EventID().String())] = room.PDU(ref)
	}
	getEvents := func(ids []mautrixid.EventID) ([]*pdu.PDU, error) {
		events := make([]*pdu.PDU, len(ids))
		for i, eventID := range ids {
			if known[eventID] == nil {
				return nil, errors.New("unknown event " + string(eventID))
			}
			events[i] = mautrixPDU(t, known[eventID])
		}
		return events, nil
	}
	version := mautrixid.RoomVersion(room.Rules.Version)
	return mautrixauth.Authorize(version, mautrixPDU(t, a.PDU), getEvents, mautrixKeys(room))
}

// mautrixCanonical compares canonical JSON.
func mautrixCanonical(t *testing.T, raw, ours []byte) {
	t.Helper()
	theirs := jsontext.Value(bytes.Clone(raw))
	err := mautrixjson.Canonicalize(&theirs)
	if err != nil || !bytes.Equal(ours, theirs) {
		t.Fatalf("%s\n  ours    %s\n  mautrix %s (%v)", raw, ours, theirs, err)
	}
}

func mautrixLenient(t *testing.T, raw, want string) {
	t.Helper()
	theirs := jsontext.Value(raw)
	err := mautrixjson.Canonicalize(&theirs)
	if err != nil {
		theirs = nil
	}
	if string(theirs) != want {
		t.Errorf("mautrix takes %s as %q (%v), not %q any more", raw, theirs, err, want)
	}
}

// TestEvents_mautrix compares event IDs, hashes, signatures and redactions.
func TestEvents_mautrix(t *testing.T) {
	t.Parallel()
	eachEvent(t, func(t *testing.T, room *staterestest.Room, ours *event.PDU) {
		version := mautrixid.RoomVersion(ours.Rules().Version)
		theirs := mautrixAny(t, ours)
		eventID, err := theirs.GetEventID(version)
		if kept, signed := invitesBy3PID(t, ours); kept && !signed {
			if err == nil && string(eventID) == ours.EventID().String() {
				t.Errorf("mautrix no longer drops a third_party_invite without signed: %s", ours.Bytes())
			}
			return
		}
		if !ours.Rules().RedactsInContent && !ours.Redacts().IsZero() {
			if theirs.VerifySignature(version, ours.Sender().ServerName().String(), mautrixKeys(room)) == nil {
				t.Errorf("mautrix no longer keeps redacts in redacted redactions: %s", ours.Bytes())
			}
			return
		}
		if err != nil || string(eventID) != ours.EventID().String() {
			t.Errorf("mautrix has event ID %s (%v), we have %s: %s", eventID, err, ours.EventID(), ours.Bytes())
		}
		if !theirs.VerifyContentHash() {
			t.Errorf("mautrix finds another content hash: %s", ours.Bytes())
		}
		server := ours.Sender().ServerName()
		if err := theirs.VerifySignature(version, server.String(), mautrixKeys(room)); err != nil {
			t.Errorf("mautrix refuses our signature: %v: %s", err, ours.Bytes())
		}
		signer := room.Signer(server)
		err = theirs.Sign(version, "other.example", mautrixid.KeyID(signer.KeyID().String()), privateKey(signer.Key().Seed()))
		if err != nil {
			t.Fatal(err)
		}
		signed, err := json.Marshal(theirs)
		if err != nil {
			t.Fatal(err)
		}
		sameSignature(t, "mautrix", ours, signed)
		redacted, err := mautrixjson.Marshal(mautrixRedacted(t, ours))
		if err != nil || !bytes.Equal(redacted, ours.Redacted().Bytes()) {
			t.Errorf("redacted by mautrix %s (%v)\nby us %s", redacted, err, ours.Redacted().Bytes())
		}
	})
}

// mautrixAny reads an event of any room version.
func mautrixAny(t testing.TB, ours *event.PDU) pdu.AnyPDU {
	t.Helper()
	if ours.Rules().EventFormat != roomversion.EventFormatV1 {
		return mautrixPDU(t, ours)
	}
	theirs := &pdu.RoomV1PDU{}
	if err := json.Unmarshal(ours.Bytes(), theirs); err != nil {
		t.Fatalf("mautrix cannot read %s: %v", ours.Bytes(), err)
	}
	return theirs
}

func mautrixRedacted(t testing.TB, ours *event.PDU) any {
	version := mautrixid.RoomVersion(ours.Rules().Version)
	switch theirs := mautrixAny(t, ours).(type) {
	case *pdu.RoomV1PDU:
		return theirs.Redact(version)
	case *pdu.PDU:
		return theirs.Redact(version)
	}
	return nil
}

// TestVerdicts_mautrix compares verdicts on events against their own auth events.
func TestVerdicts_mautrix(t *testing.T) {
	t.Parallel()
	d := &differences{library: "mautrix", known: mautrixKnown()}
	var create sync.Map // by room: its create event, where the room ID implies it
	eachAttempt(t, func(t *testing.T, room *staterestest.Room, a staterestest.Attempt) {
		if room.Rules.EventFormat == roomversion.EventFormatV1 {
			return // mautrix has no rules for these
		}
		var implied *event.PDU
		if room.Rules.RoomIDFromCreate {
			value, _ := create.LoadOrStore(room, room.PDU(room.Named("create")))
			implied = value.(*event.PDU)
		}
		var auth []eventauth.AuthEvent
		for _, ref := range a.Auth {
			auth = append(auth, eventauth.AuthEvent{PDU: room.PDU(ref)})
		}
		ours := eventauth.CheckAuthEvents(a.PDU, auth)
		if ours.Allowed {
			var err error
			if ours, err = eventauth.Check(a.PDU, eventauth.StateOf(implied, auth)); err != nil {
				t.Fatal(err)
			}
		}
		d.ask(t, question{room, a, ours, mautrixAuthorize(t, room, a)})
	})
	d.report(t)
}

func mautrixKnown() []*known {
	isLevels := func(q question) bool { return q.PDU.Type() == event.TypePowerLevels }
	return []*known{
		{name: "m.room.aliases has no rule of its own before version 6", explains: func(q question) bool {
			return q.PDU.Type() == event.TypeAliases && q.room.Rules.AliasesAuthRule
		}},
		{name: "the creator's first join must have no auth events but the create event", explains: func(q question) bool {
			return q.theirs != nil && q.PDU.Membership() == "join" && len(q.PDU.PrevEvents()) == 1 && len(q.Auth) > 1
		}},
		{name: "third-party invites are never valid", explains: func(q question) bool {
			return errors.Is(q.theirs, mautrixauth.ErrThirdPartyInviteNotSigned)
		}},
		{name: "join rules that are no string count as invite", explains: func(q question) bool {
			pdu := q.entry(event.TypeJoinRules, "")
			if pdu == nil {
				return false
			}
			_, isString := canonicaljson.String(canonicaljson.Get(pdu.Content(), "join_rule"))
			return q.theirs == nil && q.PDU.Membership() == "join" && !isString
		}},
		{name: "join_authorised_via_users_server counts only if it is a string and not empty", explains: func(q question) bool {
			return q.theirs == nil && strings.HasSuffix(q.ours.Rule, ".2.1")
		}},
		{name: "power levels: taking a user of equal power out panics", explains: func(q question) bool {
			return q.panicked() && isLevels(q)
		}},
		{name: "power levels: notifications are guarded before version 6", explains: func(q question) bool {
			return q.theirs != nil && isLevels(q) && !q.room.Rules.NotificationLevels && strings.Contains(q.theirs.Error(), "notifications")
		}},
		{name: "power levels: before version 10, what is no level counts as missing, and booleans are levels", explains: func(q question) bool {
			var content *event.ContentError
			_, err := q.PDU.PowerLevels()
			return q.theirs == nil && isLevels(q) && !q.room.Rules.IntegerPowerLevels && errors.As(err, &content)
		}},
	}
}
