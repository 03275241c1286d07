package peers

import (
	"fmt"
	"slices"
	"testing"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

const password = "correct horse battery staple"

// pair is two people, one on each library, in one encrypted room.
type pair struct {
	t        *testing.T
	server   *server
	ada      *jsClient
	adaID    string
	recovery string // ada's recovery key
	bob      *goClient
	room     string
}

func newPair(t *testing.T) *pair {
	t.Helper()
	return newPairSyncing(t, 0)
}

// newPairSyncing has ada use sliding sync with a list of so many rooms, unless that is 0.
func newPairSyncing(t *testing.T, sliding int) *pair {
	t.Helper()
	p := &pair{t: t, server: startServer(t)}
	p.ada, p.adaID, p.recovery = newJSUserSyncing(t, p.server, "ada", sliding)
	p.bob = newGoClient(t, p.server.URL(), "bob", password)
	mach := p.bob.cry.Machine()
	if _, _, err := mach.GenerateAndUploadCrossSigningKeysWithPassword(t.Context(), password, ""); err != nil {
		t.Fatalf("bob's cross-signing: %v", err)
	}
	if err := mach.SignOwnDevice(t.Context(), mach.OwnIdentity()); err != nil {
		t.Fatalf("bob signs his device: %v", err)
	}
	if err := mach.SignOwnMasterKey(t.Context()); err != nil {
		t.Fatalf("bob signs his master key: %v", err)
	}
	return p
}

func (p *pair) meet() {
	p.t.Helper()
	var made struct {
		RoomID string `json:"roomId"`
	}
	p.ada.call("createRoom", map[string]any{"invite": []string{p.bob.cli.UserID.String()}, "name": "peers"}, &made)
	p.room = made.RoomID
	p.bob.join(id.RoomID(p.room))
	p.ada.call("members", map[string]any{"roomId": p.room, "userId": p.bob.cli.UserID.String()}, nil)
}

// verify takes both through SAS and checks that each trusts the other's
// cross-signing identity afterwards.
func (p *pair) verify() {
	p.t.Helper()
	ctx := p.t.Context()
	txn, err := p.bob.ver.StartVerification(ctx, id.UserID(p.adaID))
	if err != nil {
		p.t.Fatalf("bob asks for verification: %v", err)
	}
	accepted := p.ada.begin("acceptVerification", nil)
	p.bob.until("ada's acceptance", func() bool { return p.bob.ready[txn] })
	if err := p.bob.ver.StartSAS(ctx, txn); err != nil {
		p.t.Fatalf("bob starts SAS: %v", err)
	}
	var shown struct {
		Decimal []int `json:"decimal"`
	}
	p.ada.end("acceptVerification", accepted, &shown)
	p.bob.until("the numbers to compare", func() bool { return p.bob.sas[txn] != nil })
	if !slices.Equal(shown.Decimal, p.bob.sas[txn]) {
		p.t.Fatalf("the two sides show different numbers: %v and %v", shown.Decimal, p.bob.sas[txn])
	}
	// One after the other, as people are. If bob's confirmation reached matrix-js-sdk while its own is on its way, it
	// would send what comes after that at the same time, and the two may arrive in either order.
	if err := p.bob.ver.ConfirmSAS(ctx, txn); err != nil {
		p.t.Fatalf("bob confirms: %v", err)
	}
	said := p.bob.send(id.RoomID(p.room), event.EventMessage, &event.MessageEventContent{MsgType: event.MsgText, Body: "the numbers are the same"})
	p.ada.see(said, nil) // so ada has the confirmation, which was sent before
	p.ada.call("confirmVerification", nil, nil)
	p.bob.until("the end of the verification", func() bool { return p.bob.done[txn] })

	var status struct {
		Verified bool `json:"verified"`
	}
	p.ada.call("userVerified", map[string]any{"userId": p.bob.cli.UserID.String()}, &status)
	if !status.Verified {
		p.t.Error("ada does not trust bob after the verification")
	}
	if trusted, err := p.bob.cry.Machine().IsUserTrusted(ctx, id.UserID(p.adaID)); err != nil || !trusted {
		p.t.Errorf("bob does not trust ada after the verification: %v %v", trusted, err)
	}
}

func text(body string) map[string]any { return map[string]any{"msgtype": "m.text", "body": body} }

// talk sends, replies, edits, reacts and redacts, in both directions, and
// checks each on the other side. It gives the events that stay readable.
func (p *pair) talk(round string) map[string]string {
	p.t.Helper()
	t, room := p.t, id.RoomID(p.room)
	hello, goodbye := "hello "+round, "goodbye "+round

	first := p.ada.send(p.room, text(hello))
	if got := p.bob.see(first); got.Content.AsMessage().Body != hello || !got.Mautrix.WasEncrypted {
		t.Fatalf("bob sees %q (encrypted: %v), want %q encrypted", got.Content.AsMessage().Body, got.Mautrix.WasEncrypted, hello)
	}

	answer := &event.MessageEventContent{MsgType: event.MsgText, Body: "re: " + hello, RelatesTo: (&event.RelatesTo{}).SetReplyTo(id.EventID(first))}
	reply := p.bob.send(room, event.EventMessage, answer)
	shown := p.ada.see(reply, map[string]any{"body": "re: " + hello})
	relates, _ := shown.Content["m.relates_to"].(map[string]any)
	to, _ := relates["m.in_reply_to"].(map[string]any)
	if !shown.Encrypted || to["event_id"] != first {
		t.Fatalf("ada sees %+v, want an encrypted reply to %s", shown, first)
	}

	edited := text("* " + hello + "!")
	edited["m.new_content"] = text(hello + "!")
	edited["m.relates_to"] = map[string]any{"rel_type": "m.replace", "event_id": first}
	edit := p.ada.send(p.room, edited)
	if got := p.bob.see(edit).Content.AsMessage(); got.NewContent == nil || got.NewContent.Body != hello+"!" || got.RelatesTo.GetReplaceID() != id.EventID(first) {
		t.Fatalf("bob sees the edit %+v", got)
	}
	p.ada.see(first, map[string]any{"edited": hello + "!"})

	reaction := p.bob.send(room, event.EventReaction, &event.ReactionEventContent{RelatesTo: event.RelatesTo{Type: event.RelAnnotation, EventID: id.EventID(first), Key: "👍"}})
	if got := p.ada.see(reaction, nil); got.Type != "m.reaction" {
		t.Fatalf("ada sees %+v, want a reaction", got)
	}

	regretted := p.ada.send(p.room, text("regretted "+round))
	p.bob.see(regretted)
	var redaction struct {
		EventID string `json:"eventId"`
	}
	p.ada.call("redact", map[string]any{"roomId": p.room, "eventId": regretted}, &redaction)
	if got := p.bob.see(redaction.EventID); got.Type != event.EventRedaction {
		t.Fatalf("bob sees %s, want a redaction", got.Type.Type)
	}
	p.ada.see(regretted, map[string]any{"redacted": true})
	gone, err := p.bob.cli.GetEvent(t.Context(), room, id.EventID(regretted))
	if err != nil || gone.Unsigned.RedactedBecause == nil {
		t.Fatalf("the redacted event as bob reads it again: %+v, %v", gone, err)
	}

	last := p.bob.send(room, event.EventMessage, &event.MessageEventContent{MsgType: event.MsgText, Body: goodbye})
	p.ada.see(last, map[string]any{"body": goodbye})
	return map[string]string{first: hello, reply: "re: " + hello, last: goodbye}
}

// readOnFreshDevice logs ada in anew, takes the keys from the backup with the
// recovery key alone, and reads all that was said.
func (p *pair) readOnFreshDevice(said map[string]string) {
	p.t.Helper()
	t := p.t
	p.ada.call("backedUp", map[string]any{"sessions": 2}, nil) // ada's own and bob's
	fresh := newJSClient(t, "ada's third device")
	var s session
	fresh.call("login", map[string]any{"baseUrl": p.server.URL(), "username": "ada", "password": password}, &s)
	fresh.start(p.server.URL(), s, p.recovery)
	var restored struct {
		Imported, Total int
		Verified        bool
	}
	fresh.call("recover", map[string]any{"username": "ada", "password": password}, &restored)
	if restored.Imported == 0 || restored.Imported != restored.Total || !restored.Verified {
		t.Fatalf("the backup gave %+v, want all sessions and a verified device", restored)
	}
	var history struct {
		Events []shownEvent `json:"events"`
	}
	fresh.call("history", map[string]any{"roomId": p.room}, &history)
	times := map[string]int{}
	for _, e := range history.Events {
		times[e.EventID]++
		if e.Failed {
			t.Errorf("%s can't be read on the fresh device", e.EventID)
		}
		if want, ok := said[e.EventID]; ok && e.Content["body"] != want && e.Edited == nil {
			t.Errorf("%s reads %v on the fresh device, want %q", e.EventID, e.Content["body"], want)
		}
	}
	for eventID, body := range said {
		if times[eventID] != 1 {
			t.Errorf("%q (%s) is %d times in the history of the fresh device, want once", body, eventID, times[eventID])
		}
	}
}

func TestTwoClientsTalkEncrypted(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.meet()
	p.verify()
	said := p.talk("one")
	p.readOnFreshDevice(said)
}

// TestClientsGoOnAfterKill kills the server twice in the middle of the talk,
// while both clients are syncing and sending.
func TestClientsGoOnAfterKill(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.meet()
	said := p.talk("before")
	for round := range 2 {
		sent := p.ada.begin("send", map[string]any{"roomId": p.room, "content": text(fmt.Sprintf("in between %d", round))})
		p.server.Kill()
		p.server.start()
		var between struct {
			EventID string `json:"eventId"`
		}
		p.ada.end("send", sent, &between)
		p.bob.see(between.EventID)
		said[between.EventID] = fmt.Sprintf("in between %d", round)
		for eventID, body := range p.talk(fmt.Sprintf("after %d", round)) {
			said[eventID] = body
		}
	}
	p.verify()
	p.readOnFreshDevice(said)
}
