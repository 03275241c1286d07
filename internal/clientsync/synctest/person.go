package synctest

import (
	"context"
	"encoding/json"
	"stoa/internal/clientsync"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/userdb"
	"stoa/internal/token"
	"stoa/internal/who"
	"stoa/matrix/id"
	"time"
)

// Person is a user with one device.
type Person struct {
	who.Device
	House *House
	// Since is the newest token.
	Since *token.Stream
}

func (p *Person) Create(change ...func(*room.CreateRequest)) id.RoomID {
	p.House.T.Helper()
	req := room.CreateRequest{Creator: p.UserID, Preset: room.PresetPublicChat}
	for _, f := range change {
		f(&req)
	}
	roomID, err := p.House.Create(p.House.T.Context(), req)
	if err != nil {
		p.House.T.Fatalf("create: %v", err)
	}
	return roomID
}

func (p *Person) Join(roomID id.RoomID) *Person {
	p.House.T.Helper()
	p.Must(p.House.Join(p.House.T.Context(), room.MembershipRequest{RoomID: roomID, Sender: p.UserID}))
	return p
}

func (p *Person) Leave(roomID id.RoomID) {
	p.House.T.Helper()
	p.Must(p.House.Leave(p.House.T.Context(), room.MembershipRequest{RoomID: roomID, Sender: p.UserID}))
}

func (p *Person) Invite(roomID id.RoomID, other *Person) {
	p.House.T.Helper()
	p.Must(p.House.Invite(p.House.T.Context(), room.MembershipRequest{RoomID: roomID, Sender: p.UserID, Target: other.UserID}))
}

func (p *Person) Must(err error) {
	p.House.T.Helper()
	if err != nil {
		p.House.T.Fatalf("%s: %v", p.UserID, err)
	}
}

func (p *Person) Say(roomID id.RoomID, body string) id.EventID {
	p.House.T.Helper()
	eventID, err := p.House.Send(p.House.T.Context(), p.Message(roomID, body))
	p.Must(err)
	return eventID
}

// Message is a draft of what somebody says.
func (p *Person) Message(roomID id.RoomID, body string) room.Draft {
	p.House.T.Helper()
	content, err := json.Marshal(map[string]string{"msgtype": "m.text", "body": body})
	p.Must(err)
	return room.Draft{RoomID: roomID, Sender: p.UserID, Type: "m.room.message", Content: content}
}

func (p *Person) Send(roomID id.RoomID, evType, content string) id.EventID {
	p.House.T.Helper()
	eventID, err := p.House.Send(p.House.T.Context(), room.Draft{RoomID: roomID, Sender: p.UserID, Type: evType, Content: json.RawMessage(content)})
	p.Must(err)
	return eventID
}

func (p *Person) Set(roomID id.RoomID, evType, stateKey, content string) id.EventID {
	p.House.T.Helper()
	eventID, err := p.House.Send(p.House.T.Context(), room.Draft{
		RoomID: roomID, Sender: p.UserID, Type: evType, StateKey: &stateKey, Content: json.RawMessage(content)})
	p.Must(err)
	return eventID
}

// Sync asks once, from the newest token, and keeps the new one. filter is "" or JSON.
func (p *Person) Sync(filter string, change ...func(*clientsync.Request)) Answer {
	p.House.T.Helper()
	a, err := p.TrySync(p.House.T.Context(), filter, change...)
	p.Must(err)
	return a
}

func (p *Person) TrySync(ctx context.Context, filter string, change ...func(*clientsync.Request)) (Answer, error) {
	f, err := p.House.Renderer.Filter(ctx, p.Device, filter)
	if err != nil {
		return Answer{}, err
	}
	req := &clientsync.Request{Device: p.Device, Since: p.Since, Filter: f, Presence: "online"}
	for _, c := range change {
		c(req)
	}
	got, err := p.House.Renderer.Sync(ctx, req)
	if err != nil {
		return Answer{}, err
	}
	defer got.Release()
	var a Answer
	if err := json.Unmarshal(got.Body(), &a); err != nil {
		p.House.T.Errorf("answer is not JSON: %v\n%s", err, got.Body())
		return Answer{}, err
	}
	a.Raw = string(got.Body())
	since, err := token.ParseStream(a.NextBatch)
	if err != nil {
		return Answer{}, err
	}
	p.Since = &since
	return a, nil
}

func Waiting(r *clientsync.Request) { r.Timeout = 30 * time.Second }

func FullState(r *clientsync.Request) { r.FullState = true }

func StateAfter(r *clientsync.Request) { r.StateAfter = true }

// FromStart asks without a token.
func FromStart(r *clientsync.Request) { r.Since = nil }

func (p *Person) Commit(f func(c *store.Change)) {
	p.House.T.Helper()
	c := store.NewChange()
	f(c)
	_, err := p.House.Store.Commit(p.House.T.Context(), c)
	p.Must(err)
}

func (p *Person) Note(roomID, dataType, content string) {
	p.House.T.Helper()
	p.Commit(func(c *store.Change) { userdb.PutAccountData(c, p.UserNum, roomID, dataType, content) })
}

func (p *Person) Receipt(r id.RoomID, eventID id.EventID, kind roomdb.ReceiptKind, thread string) {
	p.House.T.Helper()
	x := roomdb.Receipt{User: p.UserNum, UserID: p.UserID.String(), Kind: kind, Thread: thread, EventID: eventID.String(), TS: 7}
	p.House.Read(func(read *store.Read) (err error) {
		if x.Room, err = roomdb.RoomNum(read, r.String()); err != nil {
			return err
		}
		e, err := roomdb.EventByID(read, eventID.String())
		x.Slot, x.Off = e.Place.Slot, e.Place.Off
		return err
	})
	p.Commit(func(c *store.Change) {
		roomdb.PutReceipt(c, x)
		c.Payload = []roomdb.Receipt{x}
	})
}

// Wait asks, and gives the answer when it comes.
func (p *Person) Wait() <-chan Answer {
	got := make(chan Answer, 1)
	go func() {
		a, err := p.TrySync(p.House.T.Context(), "", Waiting)
		if err != nil {
			p.House.T.Error(err)
		}
		got <- a
	}()
	return got
}

// In is the person at another instance, with the same token.
func (p *Person) In(h *House) *Person {
	return &Person{House: h, Device: p.Device, Since: p.Since}
}

// After is sync, as a request does it: behind the barrier.
func (p *Person) After(filter string) Answer {
	p.House.T.Helper()
	p.Must(p.House.Cache.Barrier(p.House.T.Context()))
	return p.Sync(filter)
}

// Show sets a person's presence, with a status. payload says that the change carries it, so that it need not be read.
func (p *Person) Show(status string, payload bool) {
	row := userdb.Presence{User: p.UserNum, UserID: p.UserID.String(), Presence: "online", StatusMsg: &status, ActiveTS: 1}
	p.Commit(func(c *store.Change) {
		userdb.SetPresence(c, row)
		if payload {
			c.Payload = []userdb.Presence{row}
		}
	})
}

// ReadUpTo moves somebody's receipt to an event.
func (p *Person) ReadUpTo(roomID id.RoomID, eventID id.EventID) {
	p.House.T.Helper()
	p.House.commit(p.Reading(roomID, eventID))
}

// Reading is the change that moves somebody's receipt to an event.
func (p *Person) Reading(roomID id.RoomID, eventID id.EventID) *store.Change {
	p.House.T.Helper()
	var row roomdb.Receipt
	p.Must(p.House.Store.Read(p.House.T.Context(), func(r *store.Read) error {
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

// WaitWithin waits for news, which have to come without any tick of the clock.
func (p *Person) WaitWithin(limit time.Duration) <-chan Answer {
	got := make(chan Answer, 1)
	go func() {
		ctx, cancel := context.WithTimeout(p.House.T.Context(), limit)
		defer cancel()
		a, err := p.TrySync(ctx, "", Waiting)
		if err != nil {
			p.House.T.Errorf("a sync that waits is not told: %v", err)
		}
		got <- a
	}()
	return got
}
