package ephemeral_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"stoa/internal/ephemeral"
	"stoa/internal/history"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
	"stoa/internal/store/userdb"
	"stoa/internal/userdata"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
	"stoa/matrix/signing"
)

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// fixture is a room with alice and bob in it, and carol outside.
type fixture struct {
	t                 *testing.T
	store             *store.Store
	clock             *clock
	rooms             *room.Rooms
	room              id.RoomID
	num               store.RoomNum
	alice, bob, carol who.User
}

func onBothEngines(t *testing.T, f func(h *fixture)) {
	t.Helper()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) { f(newFixture(t, open())) })
}

func newFixture(t *testing.T, s *store.Store) *fixture {
	t.Helper()
	server, err := id.ParseServerName("stoa.test")
	check(t, err)
	keyID, err := id.ParseKeyID("ed25519:1")
	check(t, err)
	key, err := signing.NewKey(keyID, make([]byte, 32))
	check(t, err)
	h := &fixture{t: t, store: s, clock: &clock{now: time.Now()}}
	h.rooms, err = room.New(room.Options{Store: s, Signer: signing.NewSigner(server, key)})
	check(t, err)
	h.alice, h.bob, h.carol = h.user("alice"), h.user("bob"), h.user("carol")
	h.room, err = h.rooms.Create(t.Context(), room.CreateRequest{Creator: h.alice.UserID, Preset: "public_chat"})
	check(t, err)
	check(t, h.rooms.Join(t.Context(), room.MembershipRequest{RoomID: h.room, Sender: h.bob.UserID, Target: h.bob.UserID}))
	h.read(func(r *store.Read) (err error) { h.num, err = roomdb.RoomNum(r, h.room.String()); return err })
	return h
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (h *fixture) user(name string) who.User {
	h.t.Helper()
	user, err := id.ParseUserID("@" + name + ":stoa.test")
	check(h.t, err)
	nums, err := h.store.InternUsers(h.t.Context(), func(string) bool { return true }, user.String())
	check(h.t, err)
	return who.User{UserID: user, UserNum: nums[0]}
}

func (h *fixture) read(f func(*store.Read) error) {
	h.t.Helper()
	check(h.t, h.store.Read(h.t.Context(), f))
}

func (h *fixture) say(body string) id.EventID {
	h.t.Helper()
	eventID, err := h.rooms.Send(h.t.Context(), room.Draft{RoomID: h.room, Sender: h.alice.UserID, Type: "m.room.message", Content: []byte(fmt.Sprintf(`{"msgtype":"m.text","body":%q}`, body))})
	check(h.t, err)
	return eventID
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var m *mxerr.Error
	if !errors.As(err, &m) || m.Code != code {
		t.Fatalf("got %v, want %s", err, code)
	}
}

func TestTyping(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		ctx, stop := context.WithCancel(h.t.Context())
		notified := make(chan store.RoomNum, 100)
		typing := ephemeral.NewTyping(h.store, time.Now, nil)
		typing.OnChange(func(num store.RoomNum, _ bool) { notified <- num })
		var running sync.WaitGroup
		running.Go(func() {
			if err := typing.Run(ctx); err != nil {
				h.t.Error(err)
			}
		})
		defer running.Wait()
		defer stop()
		digest := func() uint32 { return typing.AppendHashes(nil, []store.RoomNum{h.num})[0] }

		wantCode(h.t, typing.Set(ctx, h.carol, h.room, true, 0), mxerr.CodeForbidden)
		check(h.t, typing.Set(ctx, h.bob, h.room, true, 0))
		<-notified
		one := digest()
		check(h.t, typing.Set(ctx, h.alice, h.room, true, time.Minute))
		<-notified
		if users := typing.Users(h.num); len(users) != 2 || users[0] != h.alice.UserID || digest() == one {
			h.t.Errorf("typing are %v, digest %d after %d", users, digest(), one)
		}
		check(h.t, typing.Set(ctx, h.alice, h.room, false, 0))
		<-notified
		check(h.t, typing.Set(ctx, h.bob, h.room, false, 0))
		<-notified
		if users := typing.Users(h.num); len(users) != 0 {
			h.t.Errorf("still typing: %v", users)
		}
		check(h.t, typing.Set(ctx, h.bob, h.room, true, 50*time.Millisecond)) // ends by itself
		<-notified
		<-notified
		if users := typing.Users(h.num); len(users) != 0 {
			h.t.Errorf("typing does not end: %v", users)
		}
	})
}

// One account that types everywhere must not use up what all have.
func TestTypingOfOneUserIsBounded(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		typing := ephemeral.NewTyping(h.store, h.clock.Now, nil)
		ctx := h.t.Context()
		rooms := make([]id.RoomID, ephemeral.MaxUserRooms+1)
		for i := range rooms {
			var err error
			rooms[i], err = h.rooms.Create(ctx, room.CreateRequest{Creator: h.carol.UserID})
			check(h.t, err)
		}
		last := rooms[len(rooms)-1]
		for _, roomID := range rooms[:len(rooms)-1] {
			check(h.t, typing.Set(ctx, h.carol, roomID, true, time.Minute))
		}
		wantCode(h.t, typing.Set(ctx, h.carol, last, true, time.Minute), mxerr.CodeLimitExceeded)
		check(h.t, typing.Set(ctx, h.carol, rooms[0], true, time.Minute)) // again
		check(h.t, typing.Set(ctx, h.bob, h.room, true, time.Minute))     // others
		check(h.t, typing.Set(ctx, h.carol, rooms[0], false, 0))
		check(h.t, typing.Set(ctx, h.carol, last, true, time.Minute))
		wantCode(h.t, typing.Set(ctx, h.carol, rooms[0], true, time.Minute), mxerr.CodeLimitExceeded)
		h.clock.pass(time.Minute)
		check(h.t, typing.Set(ctx, h.carol, rooms[0], true, time.Minute))
	})
}

// marks keeps fully read markers as account data.
type marks struct{ data *userdata.Data }

func (m marks) SetFullyRead(ctx context.Context, user who.User, roomID id.RoomID, eventID id.EventID) error {
	return m.data.SetFullyRead(ctx, who.User{UserID: user.UserID, UserNum: user.UserNum}, roomID, eventID)
}

func TestReceiptsOnlyMoveForward(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		data := userdata.New(userdata.Options{Store: h.store})
		receipts := ephemeral.NewReceipts(h.store, history.New(h.store, h.rooms), marks{data}, h.clock.Now)
		first, second := h.say("one"), h.say("two")
		at := func(kind roomdb.ReceiptKind) (eventID string) {
			h.read(func(r *store.Read) error {
				all, err := roomdb.ReceiptsOf(r, h.bob.UserNum, []store.RoomNum{h.num})
				for _, x := range all {
					if x.Kind == kind && x.Thread == "" {
						eventID = x.EventID
					}
				}
				return err
			})
			return eventID
		}
		send := func(user who.User, receipt ephemeral.Receipt) error {
			return receipts.Send(ctx, user, h.room, receipt)
		}

		check(h.t, send(h.bob, ephemeral.Receipt{Type: "m.read", EventID: second}))
		check(h.t, send(h.bob, ephemeral.Receipt{Type: "m.read", EventID: first}))
		if got := at(roomdb.ReceiptRead); got != second.String() {
			h.t.Errorf("the receipt went back to %s", got)
		}
		check(h.t, send(h.bob, ephemeral.Receipt{Type: "m.read.private", EventID: first}))
		if got := at(roomdb.ReceiptPrivate); got != first.String() {
			h.t.Errorf("the private receipt is at %s", got)
		}
		h.read(func(r *store.Read) error {
			seen, err := roomdb.ReceiptsSince(r, h.num, h.alice.UserNum, 0, 1<<40, 100)
			for _, x := range seen {
				if x.Kind == roomdb.ReceiptPrivate {
					h.t.Errorf("alice sees bob's private receipt: %+v", x)
				}
			}
			return err
		})
		check(h.t, send(h.bob, ephemeral.Receipt{Type: "m.fully_read", EventID: first}))
		content, err := data.AccountData(ctx, who.User{UserID: h.bob.UserID, UserNum: h.bob.UserNum}, h.room, "m.fully_read")
		if err != nil || string(content) != `{"event_id":"`+first.String()+`"}` {
			h.t.Errorf("the fully read marker is %s, %v", content, err)
		}

		missing, err := id.ParseEventID("$nothing")
		check(h.t, err)
		wantCode(h.t, send(h.carol, ephemeral.Receipt{Type: "m.read", EventID: first}), mxerr.CodeForbidden)
		wantCode(h.t, send(h.bob, ephemeral.Receipt{Type: "m.read", EventID: missing}), mxerr.CodeNotFound)
		wantCode(h.t, send(h.bob, ephemeral.Receipt{Type: "m.odd", EventID: first}), mxerr.CodeInvalidParam)
		wantCode(h.t, send(h.bob, ephemeral.Receipt{Type: "m.fully_read", EventID: first, Thread: "main"}), mxerr.CodeInvalidParam)
		wantCode(h.t, send(h.bob, ephemeral.Receipt{Type: "m.read", EventID: first, Thread: second.String()}), mxerr.CodeInvalidParam)
	})
}

func TestPresence(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		presence := ephemeral.NewPresence(h.store, h.clock.Now, slog.New(slog.DiscardHandler), nil)
		of := func(user who.User) userdb.Presence {
			p, err := presence.Of(ctx, h.alice, user.UserID)
			check(h.t, err)
			return p
		}
		if got := of(h.bob).Presence; got != "offline" {
			h.t.Errorf("bob is %s before he was ever there", got)
		}
		_, err := presence.Of(ctx, h.alice, h.carol.UserID)
		wantCode(h.t, err, mxerr.CodeForbidden)
		wantCode(h.t, presence.Set(ctx, h.bob, "dancing", nil), mxerr.CodeInvalidParam)

		presence.Seen(ctx, h.bob, "")
		if got := of(h.bob).Presence; got != "online" {
			h.t.Errorf("bob syncs and is %s", got)
		}
		status := "out for lunch"
		check(h.t, presence.Set(ctx, h.bob, "unavailable", &status))
		if got := of(h.bob); got.Presence != "unavailable" || got.StatusMsg == nil || *got.StatusMsg != status {
			h.t.Errorf("bob is %+v", got)
		}
		h.clock.pass(80 * time.Second)
		presence.Seen(ctx, h.bob, "unavailable")
		h.clock.pass(80 * time.Second)
		check(h.t, presence.Sweep(ctx))
		if got := of(h.bob).Presence; got != "unavailable" {
			h.t.Errorf("bob, who still syncs, is %s", got)
		}
		h.clock.pass(80 * time.Second)
		check(h.t, presence.Sweep(ctx))
		if got := of(h.bob); got.Presence != "offline" || got.StatusMsg == nil {
			h.t.Errorf("bob, who has gone, is %+v", got)
		}
	})
}

func TestPresenceTransitionsAreBounded(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		presence := ephemeral.NewPresence(h.store, h.clock.Now, slog.New(slog.DiscardHandler), nil)
		before := h.store.Head()
		for i := range 50 {
			presence.Seen(ctx, h.bob, []string{"online", "unavailable"}[i%2])
		}
		h.read(func(r *store.Read) error {
			rows, err := r.UserStream(h.bob.UserNum, before, r.Head(), 100)
			if len(rows) > 5 {
				h.t.Errorf("50 changes at once made %d transitions", len(rows))
			}
			return err
		})
		h.clock.pass(11 * time.Second)
		check(h.t, presence.Sweep(ctx))
		p, err := presence.Of(ctx, h.alice, h.bob.UserID)
		if err != nil || p.Presence != "unavailable" {
			h.t.Errorf("what had to wait was not written: %+v %v", p, err)
		}
	})
}

func TestPresenceOfAnEarlierRunEnds(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		check(h.t, ephemeral.NewPresence(h.store, h.clock.Now, slog.New(slog.DiscardHandler), nil).Set(ctx, h.bob, "online", nil))
		next := ephemeral.NewPresence(h.store, h.clock.Now, slog.New(slog.DiscardHandler), nil)
		check(h.t, next.Sweep(ctx))
		p, err := next.Of(ctx, h.alice, h.bob.UserID)
		if err != nil || p.Presence != "online" {
			h.t.Errorf("bob had no time to come back: %+v %v", p, err)
		}
		h.clock.pass(2 * time.Minute)
		check(h.t, next.Sweep(ctx))
		if p, err = next.Of(ctx, h.alice, h.bob.UserID); err != nil || p.Presence != "offline" {
			h.t.Errorf("bob did not come back: %+v %v", p, err)
		}
	})
}
