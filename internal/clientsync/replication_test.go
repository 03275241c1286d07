package clientsync_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"stoa/internal/packed"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
	"stoa/matrix/id"
)

// courier keeps what a house hands over until it is delivered.
type courier struct {
	mu     sync.Mutex // guards pieces
	pieces [][]byte
	came   chan struct{} // capacity 1
}

func newCourier() *courier { return &courier{came: make(chan struct{}, 1)} }

// from has a house hand its groups to the courier.
func (c *courier) from(o *options) {
	o.Hand = func(f func([]byte) []byte) {
		c.mu.Lock()
		c.pieces = append(c.pieces, f(nil))
		c.mu.Unlock()
		select {
		case c.came <- struct{}{}:
		default:
		}
	}
}

// take waits for a number of groups, and takes them.
func (c *courier) take(t testing.TB, n int) [][]byte {
	t.Helper()
	for {
		c.mu.Lock()
		if len(c.pieces) >= n {
			out := slices.Clone(c.pieces[:n])
			c.pieces = c.pieces[n:]
			c.mu.Unlock()
			return out
		}
		c.mu.Unlock()
		select {
		case <-c.came:
		case <-t.Context().Done():
			t.Fatalf("fewer than %d groups were handed over", n)
		}
	}
}

// forget drops all that a house has written so far: it is handed over before the house has applied it.
func (c *courier) forget(writer *house) {
	writer.t.Helper()
	if err := writer.cache.Await(writer.t.Context(), writer.store.Head()); err != nil {
		writer.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pieces = nil
}

// take has a house take what another hands over.
func (h *house) take(groups []byte) {
	h.t.Helper()
	if _, err := h.cache.TakeHanded(groups); err != nil {
		h.t.Fatal(err)
	}
}

// threeHouses are instances on one database: what the first writes is handed to the second by the courier, and read from the
// store by the third.
func threeHouses(t *testing.T) (writer, here, cold *house, c *courier) {
	t.Helper()
	url, c := storetest.URL(t, "postgres"), newCourier()
	return newHouse(t, storetest.OpenURL(t, url), c.from), newHouse(t, storetest.OpenURL(t, url)), newHouse(t, storetest.OpenURL(t, url)), c
}

// pair are two people in a room.
func (h *house) pair() (alice, bob *person, roomID id.RoomID) {
	h.t.Helper()
	alice, bob = h.person("alice"), h.person("bob")
	roomID = alice.create()
	bob.join(roomID)
	bob.sync("")
	return alice, bob, roomID
}

// commit writes a change at once.
func (h *house) commit(c *store.Change) {
	h.t.Helper()
	if _, err := h.store.Commit(h.t.Context(), c); err != nil {
		h.t.Fatal(err)
	}
}

// readUpTo moves somebody's receipt to an event.
func (p *person) readUpTo(roomID id.RoomID, eventID id.EventID) {
	p.h.t.Helper()
	p.h.commit(p.reading(roomID, eventID))
}

// reading is the change that moves somebody's receipt to an event.
func (p *person) reading(roomID id.RoomID, eventID id.EventID) *store.Change {
	p.h.t.Helper()
	var row roomdb.Receipt
	p.must(p.h.store.Read(p.h.t.Context(), func(r *store.Read) error {
		e, err := roomdb.EventByID(r, eventID.String())
		row = roomdb.Receipt{
			Room: e.Room, User: p.UserNum, UserID: p.UserID.String(), Kind: roomdb.ReceiptRead, Slot: e.Place.Slot,
			EventID: eventID.String(), TS: 1_700_000_000_000,
		}
		return err
	}))
	c := store.NewChange()
	roomdb.PutReceipt(c, row)
	c.Payload = []roomdb.Receipt{row}
	return c
}

// TestHanded_groups are shown as they are when they are read from the store.
func TestHanded_groups(t *testing.T) {
	t.Parallel()
	writer, here, cold, courier := threeHouses(t)
	alice, bob, roomID := writer.pair()
	at, from := bob.in(here), bob.in(cold)
	at.after("")
	from.after("")
	courier.forget(writer)

	content := json.RawMessage(`{"msgtype":"m.text","body":"with a transaction"}`)
	eventID, err := writer.Send(t.Context(), room.Draft{
		RoomID: roomID, Sender: bob.UserID, Type: "m.room.message", Content: content,
		Txn: room.Txn{UserID: bob.UserID, DeviceID: string(bob.DeviceID), Path: "send/m.room.message", ID: "1"},
	})
	must(t, err)
	root := alice.say(roomID, "root of a thread")
	alice.send(roomID, "m.room.message", fmt.Sprintf(`{"body":"in it","m.relates_to":{"rel_type":"m.thread","event_id":%q}}`, root))
	alice.send(roomID, "m.reaction", fmt.Sprintf(`{"m.relates_to":{"rel_type":"m.annotation","event_id":%q,"key":"+"}}`, root))
	alice.readUpTo(roomID, eventID)

	groups := courier.take(t, 5)
	slices.Reverse(groups) // they may overtake each other
	for _, g := range groups {
		here.take(g)
	}
	want, got := from.after("").Rooms.Join[roomID.String()], at.after("").Rooms.Join[roomID.String()]
	if len(want.Timeline.Events) != 4 {
		t.Fatalf("the store tells of %d events, want 4", len(want.Timeline.Events))
	}
	if a, b := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); a != b {
		t.Errorf("handed over, the room is\n%s\nand read\n%s", a, b)
	}
	if got.Timeline.Events[0].Unsigned.TransactionID != "1" {
		t.Error("the sender's device is not told its transaction ID")
	}
	here.appliesHanded(courier, alice, roomID)
}

// appliesHanded checks that a house applies what it is handed. A look may find a group first, and is waited for by nobody.
func (h *house) appliesHanded(c *courier, writer *person, roomID id.RoomID) {
	h.t.Helper()
	for range 50 {
		if h.cache.FollowedHanded() > 0 {
			return
		}
		writer.say(roomID, "again")
		h.take(c.take(h.t, 1)[0])
		writer.must(h.cache.Await(h.t.Context(), writer.h.store.Head()))
	}
	h.t.Error("nothing is applied as it was handed over")
}

// TestHanded_commits: what a commit did to a room is the same after it was packed, and what was cut off is refused.
func TestHanded_commits(t *testing.T) {
	t.Parallel()
	h := newHouse(t, storetest.SQLite(t))
	tail := h.store.Tail()
	defer tail.Close()
	alice, bob := h.person("alice"), h.person("bob")
	roomID := alice.create()
	bob.join(roomID)
	root := alice.say(roomID, "root of a thread")
	alice.send(roomID, "m.room.message", fmt.Sprintf(`{"body":"in it","m.relates_to":{"rel_type":"m.thread","event_id":%q}}`, root))
	alice.send(roomID, "m.room.encrypted", `{"algorithm":"m.megolm.v1.aes-sha2"}`)
	want := map[string]bool{"m.room.message": true, "m.room.encrypted": true}
	for seen := 0; seen < 3; {
		b, err := tail.Next(t.Context())
		must(t, err)
		for _, p := range b.Payloads {
			c, ok := p.(*room.Committed)
			if !ok || len(c.Events) == 0 {
				continue
			}
			text, ok := c.AppendPacked(nil, true)
			if isMessage := want[c.Events[0].PDU.Type()]; ok != isMessage {
				t.Errorf("%s can be handed over: %t", c.Events[0].PDU.Type(), ok)
			}
			if !ok {
				continue
			}
			seen++
			got, err := room.ParsePacked(string(text), none)
			must(t, err)
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
			must(t, err)
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

// TestHanded_members: who speaks is known with what they say, at their instance and where it is handed over, and is shown as
// where it is read; as it was no longer when it is redacted.
func TestHanded_members(t *testing.T) {
	t.Parallel()
	const always = `{"room":{"state":{"lazy_load_members":true,"include_redundant_members":true}}}`
	writer, here, cold, courier := threeHouses(t)
	alice, bob, roomID := writer.pair()
	carol := writer.person("carol").join(roomID)
	member := carol.set(roomID, "m.room.member", carol.UserID.String(), `{"membership":"join","displayname":"Carola"}`)
	num, err := writer.roomNum(roomID)
	must(t, err)
	at, from := bob.in(here), bob.in(cold)
	at.after("")
	from.after("")
	bob.sync("")
	courier.forget(writer)

	// known says whether the stream has told who carol is: at the writer, and at the other unless a look found the message
	// before it was handed over, which is waited for by nobody.
	known := func(want bool) {
		t.Helper()
		for name, h := range map[string]*house{"at the writer": writer, "where it is handed over": here} {
			must(t, h.cache.Await(t.Context(), writer.store.Head()))
			if is := h.cache.KnowsMember(num, carol.UserID.String()); is != want && (h == writer || h.cache.FollowedHanded() > 0) {
				t.Errorf("who has spoken is known %s: %t", name, is)
			}
		}
	}
	alike := func(displayname any) {
		t.Helper()
		want, got := from.after(always).join(roomID).State, at.after(always).join(roomID).State
		equal(t, "the state", got.names(), want.names())
		for name, state := range map[string]events{"read": want, "handed over": got} {
			if ev := state.find("m.room.member", carol.UserID.String()); ev == nil || ev.Content["displayname"] != displayname {
				t.Errorf("%s, carol is %+v", name, ev)
			}
		}
	}
	known(false)
	carol.say(roomID, "one")
	here.take(courier.take(t, 1)[0])
	known(true)
	alike("Carola")

	writer.ForgetAll() // so that the redaction has to find out whether it is about the state
	_, err = writer.Redact(t.Context(), room.RedactRequest{RoomID: roomID, Sender: alice.UserID, EventID: member})
	must(t, err)
	carol.say(roomID, "two")
	for _, group := range courier.take(t, 2) {
		here.take(group)
	}
	known(false)
	writer.ForgetAll()
	carol.say(roomID, "three") // who she is has been read
	here.take(courier.take(t, 1)[0])
	known(false)
	alike(nil)
}

// TestGroup_redacts: what a group redacts is redacted in memory, whatever else the group did to the room before.
func TestGroup_redacts(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		faults := &store.Faults{}
		h := newHouse(t, open(func(o *store.Options) { o.Faults = faults }))
		alice, bob, roomID := h.pair()
		member := alice.set(roomID, "m.room.member", alice.UserID.String(), `{"membership":"join","displayname":"Alicia"}`)
		num, err := h.roomNum(roomID)
		must(t, err)
		receipt := alice.reading(roomID, member)

		held, goOn := make(chan struct{}), make(chan struct{})
		var first sync.Once
		faults.Arm(store.FaultBeforeCommit, func() error {
			first.Do(func() { close(held); <-goOn })
			return nil
		})
		var writers sync.WaitGroup
		writers.Go(func() { _, err = h.Send(t.Context(), bob.message(roomID, "holds the others up")) })
		<-held
		read := h.store.CommitAsync(receipt)
		var redacted error
		writers.Go(func() {
			_, redacted = h.Redact(t.Context(), room.RedactRequest{RoomID: roomID, Sender: alice.UserID, EventID: member})
		})
		h.awaitQueue(2)
		close(goOn)
		writers.Wait()
		_, failed := read.Wait(t.Context())
		must(t, errors.Join(err, redacted, failed))
		must(t, h.cache.Await(t.Context(), h.store.Head()))
		if h.cache.KnowsMember(num, alice.UserID.String()) {
			t.Error("a membership event is kept as it was before the redaction")
		}
		told := false
		for _, ev := range bob.sync("").join(roomID).Timeline.Events {
			told = told || ev.EventID == member.String()
			if ev.EventID == member.String() && ev.Content["displayname"] != nil {
				t.Errorf("%+v is told as it was before the redaction", ev)
			}
		}
		if !told {
			t.Error("the redacted event is not told")
		}
	})
}

// awaitQueue waits until a number of changes wait for the committer.
func (h *house) awaitQueue(n float64) {
	h.t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(h.store)
	for h.t.Context().Err() == nil {
		families, err := registry.Gather()
		if err != nil {
			h.t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "stoa_store_queue_changes" && f.GetMetric()[0].GetGauge().GetValue() == n {
				return
			}
		}
		runtime.Gosched()
	}
	h.t.Fatalf("there are never %v changes that wait", n)
}

// TestHanded_partly: what is lost, or can't be handed over, is read from the store, and what follows is in its place.
func TestHanded_partly(t *testing.T) {
	t.Parallel()
	writer, here, _, courier := threeHouses(t)
	alice, bob, roomID := writer.pair()
	at := bob.in(here)
	at.after("")
	courier.forget(writer)

	var want, got []string
	for i := range 12 {
		body := fmt.Sprint(i)
		if want = append(want, body); i%4 == 3 {
			alice.set(roomID, "m.room.topic", "", fmt.Sprintf(`{"body":%q}`, body)) // a change of the state is not handed over
		} else {
			alice.say(roomID, body)
		}
		if group := courier.take(t, 1); i%3 > 0 {
			here.take(group[0])
		}
		if i%2 == 0 {
			got = append(got, at.after("").Rooms.Join[roomID.String()].Timeline.bodies()...)
		}
	}
	got = append(got, at.after("").Rooms.Join[roomID.String()].Timeline.bodies()...)
	if !slices.Equal(got, want) {
		t.Errorf("the answers hold %q, want %q", got, want)
	}
	here.appliesHanded(courier, alice, roomID)
}

// TestHanded_toEachOther: two instances that write the same rooms and hand everything to each other show them alike.
func TestHanded_toEachOther(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t, "postgres")
	var houses [2]*house
	var ready sync.WaitGroup
	ready.Add(1)
	for i := range houses {
		houses[i] = newHouse(t, storetest.OpenURL(t, url), func(o *options) {
			o.Hand = func(f func([]byte) []byte) {
				ready.Wait()
				if _, err := houses[1-i].cache.TakeHanded(f(nil)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	ready.Done()
	alice, bob := houses[0].person("alice"), houses[1].person("bob")
	roomID := alice.create()
	must(t, houses[1].cache.Barrier(t.Context()))
	bob.join(roomID)
	alice.after("")
	bob.after("")
	var writers sync.WaitGroup
	for _, p := range []*person{alice, bob} {
		writers.Go(func() {
			for i := range 25 {
				p.say(roomID, fmt.Sprint(p.UserID.Localpart(), i))
			}
		})
	}
	writers.Wait()
	wide := `{"room":{"timeline":{"limit":100}}}`
	a, b := alice.after(wide).Rooms.Join[roomID.String()].Timeline.bodies(), bob.after(wide).Rooms.Join[roomID.String()].Timeline.bodies()
	if len(a) != 50 || !slices.Equal(a, b) {
		t.Errorf("one shows %d messages, %q\nthe other %d, %q", len(a), a, len(b), b)
	}
}

// TestTakeHanded_malformed: a group that is cut off anywhere is refused, and changes nothing.
func TestTakeHanded_malformed(t *testing.T) {
	t.Parallel()
	writer, here, _, courier := threeHouses(t)
	alice := writer.person("alice")
	roomID := alice.create()
	must(t, here.cache.Barrier(t.Context()))
	courier.forget(writer)
	alice.say(roomID, "hello")
	group := courier.take(t, 1)[0]
	inner := packed.Read(string(group)).Text()
	for n := range len(inner) {
		for _, cut := range [][]byte{group[:n+1], packed.AppendText(nil, inner[:n])} {
			if _, err := here.cache.TakeHanded(cut); err == nil {
				t.Errorf("%d of %d bytes are taken", n, len(inner))
			}
		}
	}
	if n := here.cache.FollowedHanded(); n > 0 {
		t.Errorf("%d groups were applied", n)
	}
}
