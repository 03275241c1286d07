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
type Client struct {
	who.Device
	Server *Server
	// Since is the newest token.
	Since *token.Stream
}

func (p *Client) Create(change ...func(*room.CreateRequest)) id.RoomID {
	p.Server.T.Helper()
	req := room.CreateRequest{Creator: p.UserID, Preset: room.PresetPublicChat}
	for _, f := range change {
		f(&req)
	}
	roomID, err := p.Server.Create(p.Server.T.Context(), req)
	if err != nil {
		p.Server.T.Fatalf("create: %v", err)
	}
	return roomID
}

func (p *Client) Join(roomID id.RoomID) *Client {
	p.Server.T.Helper()
	p.Must(p.Server.Join(p.Server.T.Context(), room.MembershipRequest{RoomID: roomID, Sender: p.UserID}))
	return p
}

func (p *Client) Leave(roomID id.RoomID) {
	p.Server.T.Helper()
	p.Must(p.Server.Leave(p.Server.T.Context(), room.MembershipRequest{RoomID: roomID, Sender: p.UserID}))
}

func (p *Client) Invite(roomID id.RoomID, other *Client) {
	p.Server.T.Helper()
	p.Must(p.Server.Invite(p.Server.T.Context(), room.MembershipRequest{RoomID: roomID, Sender: p.UserID, Target: other.UserID}))
}

func (p *Client) Must(err error) {
	p.Server.T.Helper()
	if err != nil {
		p.Server.T.Fatalf("%s: %v", p.UserID, err)
	}
}

func (p *Client) Say(roomID id.RoomID, body string) id.EventID {
	p.Server.T.Helper()
	eventID, err := p.Server.Send(p.Server.T.Context(), p.Message(roomID, body))
	p.Must(err)
	return eventID
}

// Message is a draft of what somebody says.
func (p *Client) Message(roomID id.RoomID, body string) room.Draft {
	p.Server.T.Helper()
	content, err := json.Marshal(map[string]string{"msgtype": "m.text", "body": body})
	p.Must(err)
	return room.Draft{RoomID: roomID, Sender: p.UserID, Type: "m.room.message", Content: content}
}

func (p *Client) Send(roomID id.RoomID, evType, content string) id.EventID {
	p.Server.T.Helper()
	eventID, err := p.Server.Send(p.Server.T.Context(), room.Draft{RoomID: roomID, Sender: p.UserID, Type: evType, Content: json.RawMessage(content)})
	p.Must(err)
	return eventID
}

func (p *Client) Set(roomID id.RoomID, evType, stateKey, content string) id.EventID {
	p.Server.T.Helper()
	eventID, err := p.Server.Send(p.Server.T.Context(), room.Draft{
		RoomID: roomID, Sender: p.UserID, Type: evType, StateKey: &stateKey, Content: json.RawMessage(content)})
	p.Must(err)
	return eventID
}

// Sync asks once, from the newest token, and keeps the new one. filter is "" or JSON.
func (p *Client) Sync(filter string, change ...func(*clientsync.Request)) Answer {
	p.Server.T.Helper()
	a, err := p.TrySync(p.Server.T.Context(), filter, change...)
	p.Must(err)
	return a
}

func (p *Client) TrySync(ctx context.Context, filter string, change ...func(*clientsync.Request)) (Answer, error) {
	f, err := p.Server.Renderer.Filter(ctx, p.Device, filter)
	if err != nil {
		return Answer{}, err
	}
	req := &clientsync.Request{Device: p.Device, Since: p.Since, Filter: f, Presence: "online"}
	for _, c := range change {
		c(req)
	}
	got, err := p.Server.Renderer.Sync(ctx, req)
	if err != nil {
		return Answer{}, err
	}
	defer got.Release()
	var a Answer
	if err := json.Unmarshal(got.Body(), &a); err != nil {
		p.Server.T.Errorf("answer is not JSON: %v\n%s", err, got.Body())
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

func (p *Client) Commit(f func(c *store.Change)) {
	p.Server.T.Helper()
	c := store.NewChange()
	f(c)
	_, err := p.Server.Store.Commit(p.Server.T.Context(), c)
	p.Must(err)
}

func (p *Client) Note(roomID, dataType, content string) {
	p.Server.T.Helper()
	p.Commit(func(c *store.Change) { userdb.PutAccountData(c, p.UserNum, roomID, dataType, content) })
}

func (p *Client) Receipt(r id.RoomID, eventID id.EventID, kind roomdb.ReceiptKind, thread string) {
	p.Server.T.Helper()
	x := roomdb.Receipt{User: p.UserNum, UserID: p.UserID.String(), Kind: kind, Thread: thread, EventID: eventID.String(), TS: 7}
	p.Server.Read(func(read *store.Read) (err error) {
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
func (p *Client) Wait() <-chan Answer {
	got := make(chan Answer, 1)
	go func() {
		a, err := p.TrySync(p.Server.T.Context(), "", Waiting)
		if err != nil {
			p.Server.T.Error(err)
		}
		got <- a
	}()
	return got
}

// In is the person at another instance, with the same token.
func (p *Client) In(h *Server) *Client {
	return &Client{Server: h, Device: p.Device, Since: p.Since}
}

// After is sync, as a request does it: behind the barrier.
func (p *Client) After(filter string) Answer {
	p.Server.T.Helper()
	p.Must(p.Server.Cache.Barrier(p.Server.T.Context()))
	return p.Sync(filter)
}

// Show sets a person's presence, with a status. payload says that the change carries it, so that it need not be read.
func (p *Client) Show(status string, payload bool) {
	row := userdb.Presence{User: p.UserNum, UserID: p.UserID.String(), Presence: "online", StatusMsg: &status, ActiveTS: 1}
	p.Commit(func(c *store.Change) {
		userdb.SetPresence(c, row)
		if payload {
			c.Payload = []userdb.Presence{row}
		}
	})
}

// ReadUpTo moves somebody's receipt to an event.
func (p *Client) ReadUpTo(roomID id.RoomID, eventID id.EventID) {
	p.Server.T.Helper()
	p.Server.commit(p.Reading(roomID, eventID))
}

// Reading is the change that moves somebody's receipt to an event.
func (p *Client) Reading(roomID id.RoomID, eventID id.EventID) *store.Change {
	p.Server.T.Helper()
	var row roomdb.Receipt
	p.Must(p.Server.Store.Read(p.Server.T.Context(), func(r *store.Read) error {
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
func (p *Client) WaitWithin(limit time.Duration) <-chan Answer {
	got := make(chan Answer, 1)
	go func() {
		ctx, cancel := context.WithTimeout(p.Server.T.Context(), limit)
		defer cancel()
		a, err := p.TrySync(ctx, "", Waiting)
		if err != nil {
			p.Server.T.Errorf("a sync that waits is not told: %v", err)
		}
		got <- a
	}()
	return got
}
