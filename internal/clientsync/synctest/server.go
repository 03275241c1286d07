// Package synctest starts the stream in memory and the answers to /sync on a real store, with people who create rooms, speak and
// sync, for the tests of packages streamcache and clientsync.
//
// It owns nothing that a server runs. It never checks anything by itself: tests do.
//
// The invariant that matters: everything in a server is real but the clock.
package synctest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/clientsync"
	"stoa/internal/history"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
	"stoa/internal/streamcache"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/signing"

	"github.com/prometheus/client_golang/prometheus"
)

// Server is a server with rooms and people who sync.
type Server struct {
	*room.Rooms
	*history.Reader
	Cache    *streamcache.Cache
	Renderer *clientsync.Renderer
	registry *prometheus.Registry
	T        testing.TB
	Store    *store.Store
	Clock    *atomic.Int64 // ms; each look moves it by one
	Stop     func()
	// Typing is who types, nil if the server does not know; memory says that the ring is as large as usual.
	Typing *TypingUsers
	Memory bool
}

// The options of the two packages that a server is made of.
type (
	streamOptions = streamcache.Options
	renderOptions = clientsync.Options
)

// Options are those of a server.
type Options struct {
	streamOptions
	renderOptions
}

// OnBothEngines runs a test on both engines.
func OnBothEngines(t *testing.T, f func(h *Server), change ...func(*Options)) {
	t.Helper()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		f(NewServer(t, open(), change...))
	})
}

func NewServer(t testing.TB, s *store.Store, change ...func(*Options)) *Server {
	t.Helper()
	h := &Server{T: t, Store: s, Clock: &atomic.Int64{}}
	h.Clock.Store(1_700_000_000_000)
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
	now := func() time.Time { return time.UnixMilli(h.Clock.Add(1)) }
	if h.Rooms, err = room.New(room.Options{Store: s, Signer: signing.NewSigner(name, key), Clock: now}); err != nil {
		t.Fatal(err)
	}
	h.Reader = history.New(s, h.Rooms)
	opt := Options{streamOptions: streamOptions{Store: s, Clock: now}}
	h.registry = prometheus.NewRegistry()
	opt.Registerer = h.registry
	for _, f := range change {
		f(&opt)
	}
	if k, ok := opt.Typing.(*TypingUsers); ok {
		opt.TypingHashes = k
	}
	h.Cache = streamcache.New(opt.streamOptions)
	opt.Cache = h.Cache
	h.Renderer = clientsync.New(opt.renderOptions)
	h.Typing, _ = opt.Typing.(*TypingUsers)
	h.Memory = opt.RingRecords == 0
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := h.Cache.Run(ctx); err != nil {
			t.Errorf("cache: %v", err)
		}
	})
	h.Stop = sync.OnceFunc(func() { cancel(); done.Wait() })
	t.Cleanup(h.Stop)
	return h
}

func (h *Server) Client(localpart string) *Client {
	h.T.Helper()
	userID, err := id.ParseUserID("@" + localpart + ":" + storetest.ServerName)
	if err != nil {
		h.T.Fatal(err)
	}
	nums, err := h.Store.InternUsers(h.T.Context(), func(string) bool { return true }, userID.String())
	if err != nil {
		h.T.Fatal(err)
	}
	return &Client{Server: h, Device: who.Device{User: who.User{UserID: userID, UserNum: nums[0]}, DeviceID: "DEV"}}
}

// Metric is the value of a metric of the server's; label is the value of its only label, "" if it has none.
func (h *Server) Metric(name, label string) int {
	h.T.Helper()
	families, err := h.registry.Gather()
	if err != nil {
		h.T.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return int(m.GetCounter().GetValue() + m.GetGauge().GetValue())
			}
		}
	}
	return 0
}

// Wakeups counts the waits that have ended.
func (h *Server) Wakeups() int { return h.Metric("stoa_clientsync_wakeups_total", "") }

// ReceivedGroups counts the groups of others that were applied as they were handed over.
func (h *Server) ReceivedGroups() int { return h.Metric("stoa_clientsync_followed_total", "handed") }

// AwaitWaiting waits until a number of requests wait.
func (h *Server) AwaitWaiting(n int) {
	h.T.Helper()
	for range 5000 {
		if h.Metric("stoa_clientsync_waiting_requests", "") == n {
			return
		}
		time.Sleep(time.Millisecond)
	}
	h.T.Fatalf("there are never %d requests that wait", n)
}

// Fill makes rooms of members who have said a few things.
func (h *Server) Fill(owner *Client, rooms, members int) {
	h.T.Helper()
	people := make([]id.UserID, members)
	for i := range people {
		people[i] = h.Client(fmt.Sprint("member", i)).UserID
	}
	for i := range rooms {
		r := owner.Create(func(c *room.CreateRequest) { c.Name = fmt.Sprint("Room ", i) })
		var drafts []room.Draft
		for _, p := range people {
			key := p.String()
			drafts = append(drafts, room.Draft{RoomID: r, Sender: p, Type: "m.room.member", StateKey: &key,
				Content: json.RawMessage(fmt.Sprintf(`{"membership":"join","displayname":"Member %s"}`, p.Localpart()))})
		}
		for n := range 30 {
			drafts = append(drafts, room.Draft{RoomID: r, Sender: people[(i+n)%members], Type: "m.room.message",
				Content: json.RawMessage(fmt.Sprintf(`{"msgtype":"m.text","body":"message %d of the usual length, give or take a few words and a smile"}`, n))})
		}
		_, err := h.SendMany(h.T.Context(), r, drafts)
		owner.Must(err)
	}
}

func (h *Server) RoomNum(roomID id.RoomID) (num store.RoomNum, err error) {
	err = h.Store.Read(h.T.Context(), func(r *store.Read) error {
		num, err = roomdb.RoomNum(r, roomID.String())
		return err
	})
	return num, err
}

func BothWaysWith(t *testing.T, f func(h *Server)) {
	t.Helper()
	for name, records := range map[string]int{"from memory": 0, "from the store": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			OnBothEngines(t, f, WithAll, func(o *Options) { o.RingRecords = records })
		})
	}
}

// TwoServers are two instances on one database.
func TwoServers(t *testing.T, change ...func(*Options)) (first, second *Server) {
	t.Helper()
	url := storetest.URL(t, "postgres")
	return NewServer(t, storetest.OpenURL(t, url), change...), NewServer(t, storetest.OpenURL(t, url), change...)
}

func Must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Pair are two people in a room.
func (h *Server) Pair() (alice, bob *Client, roomID id.RoomID) {
	h.T.Helper()
	alice, bob = h.Client("alice"), h.Client("bob")
	roomID = alice.Create()
	bob.Join(roomID)
	bob.Sync("")
	return alice, bob, roomID
}

// commit writes a change at once.
func (h *Server) commit(c *store.Change) {
	h.T.Helper()
	if _, err := h.Store.Commit(h.T.Context(), c); err != nil {
		h.T.Fatal(err)
	}
}

// AwaitQueue waits until a number of changes wait for the commit queue.
func (h *Server) AwaitQueue(n float64) {
	h.T.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(h.Store)
	for h.T.Context().Err() == nil {
		families, err := registry.Gather()
		if err != nil {
			h.T.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "stoa_store_queue_changes" && f.GetMetric()[0].GetGauge().GetValue() == n {
				return
			}
		}
		runtime.Gosched()
	}
	h.T.Fatalf("there are never %v changes that wait", n)
}

// BothWays runs a test with answers from memory and from the store, on both engines.
func BothWays(t *testing.T, f func(h *Server)) {
	t.Helper()
	for name, change := range map[string]func(*Options){
		"from memory":    func(*Options) {},
		"from the store": func(o *Options) { o.RingRecords = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			OnBothEngines(t, f, change)
		})
	}
}

const Lazily = `{"room":{"state":{"lazy_load_members":true}}}`

func Equal[T comparable](t testing.TB, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// Truth is the timeline and the state of a room as the store has them.
func (h *Server) StoredRoom(num store.RoomNum) (timeline []string, state map[string]string) {
	h.T.Helper()
	state = map[string]string{}
	h.Read(func(read *store.Read) error {
		events, err := roomdb.Timeline(read, num, roomdb.Place{}, roomdb.End, 100_000)
		if err != nil {
			return err
		}
		for _, e := range events {
			timeline = append(timeline, e.EventID)
		}
		entries, err := roomdb.CurrentState(read, num)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			pairs, err := h.Store.Pairs(read, []store.KeyNum{entry.Key})
			if err != nil {
				return err
			}
			e, err := roomdb.EventByNum(read, entry.Event)
			if err != nil {
				return err
			}
			state[pairs[0].Type+"/"+pairs[0].StateKey] = e.EventID
		}
		return nil
	})
	return timeline, state
}

func (h *Server) Read(f func(*store.Read) error) {
	h.T.Helper()
	if err := h.Store.Read(h.T.Context(), f); err != nil {
		h.T.Fatal(err)
	}
}
