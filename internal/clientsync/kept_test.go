package clientsync_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"stoa/internal/clientsync"
	"stoa/internal/clientsync/synctest"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/internal/store/userdb"
	"stoa/internal/streamcache"
	"stoa/internal/who"
	"stoa/matrix/id"
)

// cabinet holds stored filters, all of one text.
type filterStore struct{ reads atomic.Int64 }

func (c *filterStore) Filter(context.Context, who.User, string) ([]byte, error) {
	c.reads.Add(1)
	return []byte(`{"room":{"timeline":{"limit":20}}}`), nil
}

// The stored filters of many users are read once each, and those with one text are one.
func TestFilters_are_kept(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		var c filterStore
		h := synctest.NewServer(t, open(), func(o *synctest.Options) { o.Filters = &c })
		const people = 5000
		shared, err := h.Renderer.Filter(h.T.Context(), who.Device{User: who.User{UserNum: 1}}, "0")
		if err != nil {
			h.T.Fatal(err)
		}
		for range 2 {
			for num := range people {
				f, err := h.Renderer.Filter(h.T.Context(), who.Device{User: who.User{UserNum: store.UserNum(num + 1)}}, "0")
				if err != nil {
					h.T.Fatal(err)
				}
				if f != shared {
					h.T.Fatalf("user %d has a filter of their own", num+1)
				}
			}
		}
		if n := c.reads.Load(); n != people {
			h.T.Errorf("%d filters were read %d times", people, n)
		}
	})
}

// countingUnread counts the reads of unread counters. Nothing is ever unread.
type countingUnread struct{ reads atomic.Int64 }

func (a *countingUnread) Counters(_ *store.Read, _ who.User, places []clientsync.Place) ([]streamcache.UnreadCounter, error) {
	a.reads.Add(1)
	out := make([]streamcache.UnreadCounter, len(places))
	for i, p := range places {
		if p.Slot == 0 || p.RoomID.IsZero() || p.Members == 0 {
			return nil, fmt.Errorf("a place that is not whole: %+v", p)
		}
		out[i] = &zeroCounter{p.Slot}
	}
	return out, nil
}

type zeroCounter struct{ slot store.Slot }

func (b *zeroCounter) Slot() store.Slot { return b.slot }

func (b *zeroCounter) Apply(_, last store.Slot, _ []room.Counted) bool {
	b.slot = max(b.slot, last)
	return true
}

func (b *zeroCounter) Read(store.Slot, string, *room.Totals) bool { return true }

func (b *zeroCounter) Counts(bool) streamcache.Counts { return streamcache.Counts{} }

// The counters of a user's rooms are read together, at the first news of any of them.
func TestUnreadCounters_are_read_together(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		var a countingUnread
		h := synctest.NewServer(t, open(), func(o *synctest.Options) { o.Unread = &a })
		alice, bob := h.Client("alice"), h.Client("bob")
		var rooms []id.RoomID
		for range 8 {
			r := alice.Create()
			bob.Join(r)
			rooms = append(rooms, r)
		}
		alice.Sync("")
		h.Cache.Forget() // it knows rooms and users no more than another instance does
		alice.Sync("")
		a.reads.Store(0)
		for _, r := range rooms {
			bob.Say(r, "x")
			alice.Sync("")
		}
		if n := a.reads.Load(); n > 1 {
			h.T.Errorf("the counters of %d rooms were read %d times", len(rooms), n)
		}
	})
}

// ear notes when it is asked.
type recordingSection struct {
	kind  store.Kind
	asked atomic.Int64
}

func (e *recordingSection) Key() string { return fmt.Sprintf("ear%d", e.kind) }

func (e *recordingSection) Watch() clientsync.Watch {
	return clientsync.Watch{Shared: []store.Kind{e.kind}}
}

func (e *recordingSection) Append(_ context.Context, dst []byte, _ *clientsync.Query) ([]byte, error) {
	e.asked.Add(1)
	return append(dst, '1'), nil
}

// What others share is looked for in the sections that tell of it, and in no other.
func TestSections_are_asked_for_their_own_kinds(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		presence, devices := &recordingSection{kind: store.KindPresence}, &recordingSection{kind: store.KindDeviceList}
		h := synctest.NewServer(t, open(), func(o *synctest.Options) { o.Sections = []clientsync.Section{presence, devices} })
		alice, bob := h.Client("alice"), h.Client("bob")
		bob.Join(alice.Create())
		alice.Sync("")
		alice.Sync("") // memory knows of everything that comes after this
		presence.asked.Store(0)
		devices.asked.Store(0)
		bob.Commit(func(c *store.Change) {
			userdb.SetPresence(c, userdb.Presence{User: bob.UserNum, UserID: bob.UserID.String(), Presence: "online", ActiveTS: 1})
		})
		alice.Sync("")
		if presence.asked.Load() != 1 || devices.asked.Load() != 0 {
			t.Errorf("after a change of presence, that was asked %d times, device lists %d times", presence.asked.Load(), devices.asked.Load())
		}
	})
}
