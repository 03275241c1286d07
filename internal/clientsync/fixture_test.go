package clientsync_test

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/clientsync"
	"stoa/internal/history"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/internal/token"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/signing"
)

// house is a server with rooms and people who sync.
type house struct {
	*room.Rooms
	*history.Reader
	cache    *clientsync.Hub
	renderer *clientsync.Renderer
	t        testing.TB
	store    *store.Store
	clock    *atomic.Int64 // ms; each look moves it by one
	stop     func()
	// typing is who types, nil if the house does not know; memory says that the ring is as large as usual.
	typing *keyboard
	memory bool
}

// options are those of a house.
type options struct {
	clientsync.Options
	clientsync.RenderOptions
}

// onBothEngines runs a test on both engines.
func onBothEngines(t *testing.T, f func(h *house), change ...func(*options)) {
	t.Helper()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		f(newHouse(t, open(), change...))
	})
}

func newHouse(t testing.TB, s *store.Store, change ...func(*options)) *house {
	t.Helper()
	h := &house{t: t, store: s, clock: &atomic.Int64{}}
	h.clock.Store(1_700_000_000_000)
	keyID, err := id.ParseKeyID("ed25519:1")
	if err != nil {
		t.Fatal(err)
	}
	key, err := signing.NewKey(keyID, bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	name, err := id.ParseServerName(storetest.ServerName)
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.UnixMilli(h.clock.Add(1)) }
	if h.Rooms, err = room.New(room.Options{Store: s, Signer: signing.NewSigner(name, key), Clock: now}); err != nil {
		t.Fatal(err)
	}
	h.Reader = history.New(s, h.Rooms)
	opt := options{Options: clientsync.Options{Store: s, Clock: now}}
	for _, f := range change {
		f(&opt)
	}
	if k, ok := opt.Typing.(*keyboard); ok {
		opt.TypingDigests = k
	}
	h.cache = clientsync.New(opt.Options)
	opt.Cache = h.cache
	h.renderer = clientsync.NewRenderer(opt.RenderOptions)
	h.typing, _ = opt.Typing.(*keyboard)
	h.memory = opt.RingRecords == 0
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := h.cache.Run(ctx); err != nil {
			t.Errorf("cache: %v", err)
		}
	})
	h.stop = sync.OnceFunc(func() { cancel(); done.Wait() })
	t.Cleanup(h.stop)
	return h
}

// person is a user with one device.
type person struct {
	who.Device
	h *house
	// since is the newest token.
	since *token.Stream
}

func (h *house) person(localpart string) *person {
	h.t.Helper()
	userID, err := id.ParseUserID("@" + localpart + ":" + storetest.ServerName)
	if err != nil {
		h.t.Fatal(err)
	}
	nums, err := h.store.InternUsers(h.t.Context(), func(string) bool { return true }, userID.String())
	if err != nil {
		h.t.Fatal(err)
	}
	return &person{h: h, Device: who.Device{User: who.User{UserID: userID, UserNum: nums[0]}, DeviceID: "DEV"}}
}

func (p *person) create(change ...func(*room.CreateRequest)) id.RoomID {
	p.h.t.Helper()
	req := room.CreateRequest{Creator: p.UserID, Preset: room.PresetPublicChat}
	for _, f := range change {
		f(&req)
	}
	roomID, err := p.h.Create(p.h.t.Context(), req)
	if err != nil {
		p.h.t.Fatalf("create: %v", err)
	}
	return roomID
}

func (p *person) join(roomID id.RoomID) *person {
	p.h.t.Helper()
	p.must(p.h.Join(p.h.t.Context(), room.MembershipRequest{RoomID: roomID, Sender: p.UserID}))
	return p
}

func (p *person) leave(roomID id.RoomID) {
	p.h.t.Helper()
	p.must(p.h.Leave(p.h.t.Context(), room.MembershipRequest{RoomID: roomID, Sender: p.UserID}))
}

func (p *person) invite(roomID id.RoomID, other *person) {
	p.h.t.Helper()
	p.must(p.h.Invite(p.h.t.Context(), room.MembershipRequest{RoomID: roomID, Sender: p.UserID, Target: other.UserID}))
}

func (p *person) must(err error) {
	p.h.t.Helper()
	if err != nil {
		p.h.t.Fatalf("%s: %v", p.UserID, err)
	}
}

func (p *person) say(roomID id.RoomID, body string) id.EventID {
	p.h.t.Helper()
	eventID, err := p.h.Send(p.h.t.Context(), p.message(roomID, body))
	p.must(err)
	return eventID
}

// message is a draft of what somebody says.
func (p *person) message(roomID id.RoomID, body string) room.Draft {
	p.h.t.Helper()
	content, err := json.Marshal(map[string]string{"msgtype": "m.text", "body": body})
	p.must(err)
	return room.Draft{RoomID: roomID, Sender: p.UserID, Type: "m.room.message", Content: content}
}

func (p *person) send(roomID id.RoomID, evType, content string) id.EventID {
	p.h.t.Helper()
	eventID, err := p.h.Send(p.h.t.Context(), room.Draft{RoomID: roomID, Sender: p.UserID, Type: evType, Content: json.RawMessage(content)})
	p.must(err)
	return eventID
}

func (p *person) set(roomID id.RoomID, evType, stateKey, content string) id.EventID {
	p.h.t.Helper()
	eventID, err := p.h.Send(p.h.t.Context(), room.Draft{
		RoomID: roomID, Sender: p.UserID, Type: evType, StateKey: &stateKey, Content: json.RawMessage(content)})
	p.must(err)
	return eventID
}

// sync asks once, from the newest token, and keeps the new one. filter is "" or JSON.
func (p *person) sync(filter string, change ...func(*clientsync.Request)) answer {
	p.h.t.Helper()
	a, err := p.trySync(p.h.t.Context(), filter, change...)
	p.must(err)
	return a
}

func (p *person) trySync(ctx context.Context, filter string, change ...func(*clientsync.Request)) (answer, error) {
	f, err := p.h.renderer.Filter(ctx, p.Device, filter)
	if err != nil {
		return answer{}, err
	}
	req := &clientsync.Request{Device: p.Device, Since: p.since, Filter: f, Presence: "online"}
	for _, c := range change {
		c(req)
	}
	got, err := p.h.renderer.Sync(ctx, req)
	if err != nil {
		return answer{}, err
	}
	defer got.Release()
	var a answer
	if err := json.Unmarshal(got.Body(), &a); err != nil {
		p.h.t.Errorf("answer is not JSON: %v\n%s", err, got.Body())
		return answer{}, err
	}
	a.Raw = string(got.Body())
	since, err := token.ParseStream(a.NextBatch)
	if err != nil {
		return answer{}, err
	}
	p.since = &since
	return a, nil
}

func waiting(r *clientsync.Request)    { r.Timeout = 30 * time.Second }
func fullState(r *clientsync.Request)  { r.FullState = true }
func stateAfter(r *clientsync.Request) { r.StateAfter = true }

// fromStart asks without a token.
func fromStart(r *clientsync.Request) { r.Since = nil }

// The shape of an answer.
type (
	answer struct {
		Raw       string `json:"-"`
		NextBatch string `json:"next_batch"`
		Rooms     struct {
			Join, Leave map[string]roomAnswer
			Invite      map[string]struct {
				State events `json:"invite_state"`
			}
			Knock map[string]struct {
				State events `json:"knock_state"`
			}
		}
		AccountData events                           `json:"account_data"`
		ToDevice    events                           `json:"to_device"`
		DeviceLists struct{ Changed, Left []string } `json:"device_lists"`
		Presence    events
		Counts      map[string]int `json:"device_one_time_keys_count"`
	}
	roomAnswer struct {
		Timeline struct {
			events
			Limited   bool
			PrevBatch string `json:"prev_batch"`
		}
		State, Ephemeral events
		StateAfter       *events           `json:"state_after"`
		AccountData      events            `json:"account_data"`
		Unread           counts            `json:"unread_notifications"`
		Threads          map[string]counts `json:"unread_thread_notifications"`
		Summary          struct {
			Heroes  []string `json:"m.heroes"`
			Joined  *int     `json:"m.joined_member_count"`
			Invited *int     `json:"m.invited_member_count"`
		}
	}
	counts struct {
		Highlights    int `json:"highlight_count"`
		Notifications int `json:"notification_count"`
	}
	events struct{ Events []event }
	event  struct {
		EventID  string `json:"event_id"`
		Type     string
		Sender   string
		RoomID   string  `json:"room_id"`
		StateKey *string `json:"state_key"`
		Content  map[string]any
		Unsigned struct {
			Membership    string
			TransactionID string         `json:"transaction_id"`
			PrevContent   map[string]any `json:"prev_content"`
			ReplacesState string         `json:"replaces_state"`
			Relations     map[string]any `json:"m.relations"`
			Because       *event         `json:"redacted_because"`
		}
	}
)

// bodies are the texts of the messages among events.
func (e events) bodies() []string {
	var out []string
	for _, ev := range e.Events {
		if body, ok := ev.Content["body"].(string); ok {
			out = append(out, body)
		}
	}
	return out
}

// names are the events as type or type/state key, in order.
func (e events) names() []string {
	var out []string
	for _, ev := range e.Events {
		name := ev.Type
		if ev.StateKey != nil && *ev.StateKey != "" {
			name += "/" + *ev.StateKey
		}
		out = append(out, name)
	}
	return out
}

func (e events) find(evType, stateKey string) *event {
	for i, ev := range e.Events {
		if ev.Type == evType && (ev.StateKey == nil && stateKey == "" || ev.StateKey != nil && *ev.StateKey == stateKey) {
			return &e.Events[i]
		}
	}
	return nil
}
