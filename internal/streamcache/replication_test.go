package streamcache_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"stoa/internal/clientsync/synctest"
	"stoa/internal/packed"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
)

// TestHanded_groups are shown as they are when they are read from the store.
func TestHanded_groups(t *testing.T) {
	t.Parallel()
	writer, here, cold, replicator := synctest.ThreeServers(t)
	alice, bob, roomID := writer.Pair()
	at, from := bob.In(here), bob.In(cold)
	at.After("")
	from.After("")
	replicator.Forget(writer)

	content := json.RawMessage(`{"msgtype":"m.text","body":"with a transaction"}`)
	eventID, err := writer.Send(t.Context(), room.Draft{
		RoomID: roomID, Sender: bob.UserID, Type: "m.room.message", Content: content,
		Txn: room.Txn{UserID: bob.UserID, DeviceID: string(bob.DeviceID), Path: "send/m.room.message", ID: "1"},
	})
	synctest.Must(t, err)
	root := alice.Say(roomID, "root of a thread")
	alice.Send(roomID, "m.room.message", fmt.Sprintf(`{"body":"in it","m.relates_to":{"rel_type":"m.thread","event_id":%q}}`, root))
	alice.Send(roomID, "m.reaction", fmt.Sprintf(`{"m.relates_to":{"rel_type":"m.annotation","event_id":%q,"key":"+"}}`, root))
	alice.ReadUpTo(roomID, eventID)

	groups := replicator.Take(t, 5)
	slices.Reverse(groups) // they may overtake each other
	for _, g := range groups {
		here.Take(g)
	}
	want, got := from.After("").Rooms.Join[roomID.String()], at.After("").Rooms.Join[roomID.String()]
	if len(want.Timeline.Events) != 4 {
		t.Fatalf("the store tells of %d events, want 4", len(want.Timeline.Events))
	}
	if a, b := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); a != b {
		t.Errorf("replicated, the room is\n%s\nand read\n%s", a, b)
	}
	if got.Timeline.Events[0].Unsigned.TransactionID != "1" {
		t.Error("the sender's device is not told its transaction ID")
	}
	here.AppliesReceived(replicator, alice, roomID)
}

// TestHanded_commits: what a commit did to a room is the same after it was packed, and what was cut off is refused.
func TestHanded_commits(t *testing.T) {
	t.Parallel()
	h := synctest.NewServer(t, storetest.SQLite(t))
	tail := h.Store.Subscribe()
	defer tail.Close()
	alice, bob := h.Client("alice"), h.Client("bob")
	roomID := alice.Create()
	bob.Join(roomID)
	root := alice.Say(roomID, "root of a thread")
	alice.Send(roomID, "m.room.message", fmt.Sprintf(`{"body":"in it","m.relates_to":{"rel_type":"m.thread","event_id":%q}}`, root))
	alice.Send(roomID, "m.room.encrypted", `{"algorithm":"m.megolm.v1.aes-sha2"}`)
	want := map[string]bool{"m.room.message": true, "m.room.encrypted": true}
	for seen := 0; seen < 3; {
		b, err := tail.Next(t.Context())
		synctest.Must(t, err)
		for _, p := range b.Payloads {
			c, ok := p.(*room.Committed)
			if !ok || len(c.Events) == 0 {
				continue
			}
			text, ok := c.AppendPacked(nil, true)
			if isMessage := want[c.Events[0].PDU.Type()]; ok != isMessage {
				t.Errorf("%s can be replicated: %t", c.Events[0].PDU.Type(), ok)
			}
			if !ok {
				continue
			}
			seen++
			got, err := room.ParsePacked(string(text), none)
			synctest.Must(t, err)
			if a, b := fmt.Sprintf("%+v", got.Counted()), fmt.Sprintf("%+v", c.Counted()); a != b {
				t.Errorf("what counts is\n%s\nwas\n%s", a, b)
			}
			if got.Room != c.Room || got.RoomID != c.RoomID || got.First != c.First || got.Last != c.Last ||
				got.Joined != c.Joined || got.Invited != c.Invited || !bytes.Equal(got.Events[0].PDU.Bytes(), c.Events[0].PDU.Bytes()) {
				t.Errorf("it is\n%+v\nwas\n%+v", got, c)
			}
			was, is := c.Events[0].SenderMember, got.Events[0].SenderMember
			if was == nil || is == nil || is.Num != was.Num || is.Slot != was.Slot || !bytes.Equal(is.PDU.Bytes(), was.PDU.Bytes()) {
				t.Errorf("the sender's membership is\n%+v\nwas\n%+v", is, was)
			}
			got, err = room.ParsePacked(string(text), func(store.EventNum) bool { return true })
			synctest.Must(t, err)
			if got.Events[0].SenderMember != nil {
				t.Error("a membership that is known is parsed")
			}
			for n := range text {
				if _, err := room.ParsePacked(string(text[:n]), none); err == nil {
					t.Errorf("%d of %d bytes are taken", n, len(text))
				}
			}
		}
	}
}

// none is known.
func none(store.EventNum) bool { return false }

// TestHanded_members: who speaks is known with what they say, at their instance and where it is replicated, and is shown as
// where it is read; as it was no longer when it is redacted.
func TestHanded_members(t *testing.T) {
	t.Parallel()
	const always = `{"room":{"state":{"lazy_load_members":true,"include_redundant_members":true}}}`
	writer, here, cold, replicator := synctest.ThreeServers(t)
	alice, bob, roomID := writer.Pair()
	carol := writer.Client("carol").Join(roomID)
	member := carol.Set(roomID, "m.room.member", carol.UserID.String(), `{"membership":"join","displayname":"Carola"}`)
	num, err := writer.RoomNum(roomID)
	synctest.Must(t, err)
	at, from := bob.In(here), bob.In(cold)
	at.After("")
	from.After("")
	bob.Sync("")
	replicator.Forget(writer)

	// known says whether the stream has told who carol is: at the writer, and at the other unless a poll found the message
	// before it was replicated.
	known := func(want bool) {
		t.Helper()
		for name, h := range map[string]*synctest.Server{"at the writer": writer, "where it is replicated": here} {
			synctest.Must(t, h.Cache.Await(t.Context(), writer.Store.Head()))
			if is := h.Cache.KnowsMember(num, carol.UserID.String()); is != want && (h == writer || h.ReceivedGroups() > 0) {
				t.Errorf("who has spoken is known %s: %t", name, is)
			}
		}
	}
	alike := func(displayname any) {
		t.Helper()
		want, got := from.After(always).Join(roomID).State, at.After(always).Join(roomID).State
		synctest.Equal(t, "the state", got.Names(), want.Names())
		for name, state := range map[string]synctest.EventList{"read": want, "replicated": got} {
			if ev := state.Find("m.room.member", carol.UserID.String()); ev == nil || ev.Content["displayname"] != displayname {
				t.Errorf("%s, carol is %+v", name, ev)
			}
		}
	}
	known(false)
	carol.Say(roomID, "one")
	here.Take(replicator.Take(t, 1)[0])
	known(true)
	alike("Carola")

	writer.ForgetAll() // so that the redaction has to find out whether it is about the state
	_, err = writer.Redact(t.Context(), room.RedactRequest{RoomID: roomID, Sender: alice.UserID, EventID: member})
	synctest.Must(t, err)
	carol.Say(roomID, "two")
	for _, group := range replicator.Take(t, 2) {
		here.Take(group)
	}
	known(false)
	writer.ForgetAll()
	carol.Say(roomID, "three") // who she is has been read
	here.Take(replicator.Take(t, 1)[0])
	known(false)
	alike(nil)
}

// TestGroup_redacts: what a group redacts is redacted in memory, whatever else the group did to the room before.
func TestGroup_redacts(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		faults := &store.Faults{}
		h := synctest.NewServer(t, open(func(o *store.Options) { o.Faults = faults }))
		alice, bob, roomID := h.Pair()
		member := alice.Set(roomID, "m.room.member", alice.UserID.String(), `{"membership":"join","displayname":"Alicia"}`)
		num, err := h.RoomNum(roomID)
		synctest.Must(t, err)
		receipt := alice.Reading(roomID, member)

		paused, goOn := make(chan struct{}), make(chan struct{})
		var first sync.Once
		faults.Arm(store.FaultBeforeCommit, func() error {
			first.Do(func() { close(paused); <-goOn })
			return nil
		})
		var writers sync.WaitGroup
		writers.Go(func() { _, err = h.Send(t.Context(), bob.Message(roomID, "holds the others up")) })
		<-paused
		read := h.Store.CommitAsync(receipt)
		var redacted error
		writers.Go(func() {
			_, redacted = h.Redact(t.Context(), room.RedactRequest{RoomID: roomID, Sender: alice.UserID, EventID: member})
		})
		h.AwaitQueue(2)
		close(goOn)
		writers.Wait()
		_, failed := read.Wait(t.Context())
		synctest.Must(t, errors.Join(err, redacted, failed))
		synctest.Must(t, h.Cache.Await(t.Context(), h.Store.Head()))
		if h.Cache.KnowsMember(num, alice.UserID.String()) {
			t.Error("a membership event is kept as it was before the redaction")
		}
		notified := false
		for _, ev := range bob.Sync("").Join(roomID).Timeline.Events {
			notified = notified || ev.EventID == member.String()
			if ev.EventID == member.String() && ev.Content["displayname"] != nil {
				t.Errorf("%+v is told as it was before the redaction", ev)
			}
		}
		if !notified {
			t.Error("the redacted event is not told")
		}
	})
}

// TestHanded_partly: what is lost, or can't be replicated, is read from the store, and what follows is in its place.
func TestHanded_partly(t *testing.T) {
	t.Parallel()
	writer, here, _, replicator := synctest.ThreeServers(t)
	alice, bob, roomID := writer.Pair()
	at := bob.In(here)
	at.After("")
	replicator.Forget(writer)

	var want, got []string
	for i := range 12 {
		body := fmt.Sprint(i)
		if want = append(want, body); i%4 == 3 {
			alice.Set(roomID, "m.room.topic", "", fmt.Sprintf(`{"body":%q}`, body)) // a change of the state is not replicated
		} else {
			alice.Say(roomID, body)
		}
		if group := replicator.Take(t, 1); i%3 > 0 {
			here.Take(group[0])
		}
		if i%2 == 0 {
			got = append(got, at.After("").Rooms.Join[roomID.String()].Timeline.Bodies()...)
		}
	}
	got = append(got, at.After("").Rooms.Join[roomID.String()].Timeline.Bodies()...)
	if !slices.Equal(got, want) {
		t.Errorf("the answers hold %q, want %q", got, want)
	}
	here.AppliesReceived(replicator, alice, roomID)
}

// TestHanded_toEachOther: two instances that write the same rooms and hand everything to each other show them alike.
func TestHanded_toEachOther(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t, "postgres")
	var servers [2]*synctest.Server
	var ready sync.WaitGroup
	ready.Add(1)
	for i := range servers {
		servers[i] = synctest.NewServer(t, storetest.OpenURL(t, url), func(o *synctest.Options) {
			o.Replicate = func(f func([]byte) []byte) {
				ready.Wait()
				if _, err := servers[1-i].Cache.ReceiveGroups(f(nil)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	ready.Done()
	alice, bob := servers[0].Client("alice"), servers[1].Client("bob")
	roomID := alice.Create()
	synctest.Must(t, servers[1].Cache.Barrier(t.Context()))
	bob.Join(roomID)
	alice.After("")
	bob.After("")
	var writers sync.WaitGroup
	for _, p := range []*synctest.Client{alice, bob} {
		writers.Go(func() {
			for i := range 25 {
				p.Say(roomID, fmt.Sprint(p.UserID.Localpart(), i))
			}
		})
	}
	writers.Wait()
	wide := `{"room":{"timeline":{"limit":100}}}`
	a, b := alice.After(wide).Rooms.Join[roomID.String()].Timeline.Bodies(), bob.After(wide).Rooms.Join[roomID.String()].Timeline.Bodies()
	if len(a) != 50 || !slices.Equal(a, b) {
		t.Errorf("one shows %d messages, %q\nthe other %d, %q", len(a), a, len(b), b)
	}
}

// TestReceiveGroups_malformed: a group that is cut off anywhere is refused, and changes nothing.
func TestReceiveGroups_malformed(t *testing.T) {
	t.Parallel()
	writer, here, _, replicator := synctest.ThreeServers(t)
	alice := writer.Client("alice")
	roomID := alice.Create()
	synctest.Must(t, here.Cache.Barrier(t.Context()))
	replicator.Forget(writer)
	alice.Say(roomID, "hello")
	group := replicator.Take(t, 1)[0]
	inner := packed.Read(string(group)).Text()
	for n := range len(inner) {
		for _, truncated := range [][]byte{group[:n+1], packed.AppendText(nil, inner[:n])} {
			if _, err := here.Cache.ReceiveGroups(truncated); err == nil {
				t.Errorf("%d of %d bytes are taken", n, len(inner))
			}
		}
	}
	if n := here.ReceivedGroups(); n > 0 {
		t.Errorf("%d groups were applied", n)
	}
}
