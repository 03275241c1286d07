package room_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"stoa/internal/history"
	"stoa/internal/reader"
	"stoa/internal/room"
	"stoa/internal/room/eachroom"
	"stoa/internal/store"
	"stoa/internal/store/readerdb"
	"stoa/internal/store/storetest"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// joinMany has alice join more rooms of bob's than one page of a job.
func (h *fixture) joinMany(alice, bob id.UserID) (list []id.RoomID) {
	h.t.Helper()
	for range 70 {
		roomID := h.create(bob)
		h.join(roomID, alice)
		list = append(list, roomID)
	}
	return list
}

// memberEvents are the contents of a user's member events in a room, newest first.
func (h *fixture) memberEvents(viewer, who id.UserID, roomID id.RoomID) (list []string) {
	h.t.Helper()
	page, err := h.Messages(h.t.Context(), viewer, roomID, history.HistoryQuery{Dir: history.Backwards, Limit: 100})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, v := range page.Events {
		if key, ok := v.PDU.StateKey(); ok && v.PDU.Type() == event.TypeMember && key == who.String() {
			var content struct {
				Membership string `json:"membership"`
				Name       string `json:"displayname"`
			}
			if err := json.Unmarshal(v.PDU.Content(), &content); err != nil {
				h.t.Fatal(err)
			}
			list = append(list, strings.TrimSpace(content.Membership+" "+content.Name))
		}
	}
	return list
}

func (h *fixture) call(who id.UserID, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.names[who] = room.Profile{DisplayName: name}
}

// Wherever the process dies, each room has exactly one event in the end, and saved
// progress is not repeated.
func TestJobs_in_all_rooms_go_on_after_a_crash(t *testing.T) {
	t.Parallel()
	jobs := map[string]struct {
		job  func(id.UserID) reader.Job
		want string
	}{
		"profile":   {room.ProfileJob, "join Alicia"},
		"leave_all": {room.LeaveAllJob, "leave"},
	}
	for name, c := range jobs {
		for when, crashes := range map[string]func(n int, progress string) bool{
			"in the first rooms": func(n int, _ string) bool { return n > 3 },
			"after it has saved": func(_ int, progress string) bool { return progress != "" },
		} {
			t.Run(name+" "+when, func(t *testing.T) {
				t.Parallel()
				storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
					faults := &store.Faults{}
					s := open(func(o *store.Options) { o.Faults = faults })
					checked.Store(s, true) // check the next store
					h := newFixture(t, s)
					alice, bob := user(t, "alice"), user(t, "bob")
					rooms := h.joinMany(alice, bob)
					h.call(alice, "Alicia")
					job := c.job(alice)
					h.enqueue(job)
					crash := make(chan struct{})
					dead, n := false, 0
					faults.Arm(store.FaultBeforeCommit, func() error {
						if n++; !dead && crashes(n, h.progress(job)) {
							dead = true
							close(crash)
						}
						if dead { // later commits fail
							return store.ErrUnreachable
						}
						return nil
					})
					stop := h.work(h.Jobs())
					<-crash
					stop()
					saved := h.progress(job)
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					h2 := newFixture(t, open())
					h2.clock.Store(h.clock.Load() + 1000)
					h2.call(alice, "Alicia")
					h2.work(h2.Jobs())
					if err := reader.Wait(t.Context(), h2.store, job.Kind, job.Key); err != nil {
						t.Fatal(err)
					}
					for i, roomID := range rooms {
						if got := h2.memberEvents(bob, alice, roomID); len(got) != 2 || got[0] != c.want || got[1] != "join" {
							t.Errorf("room %d (saved %s): %v", i, saved, got)
						}
					}
				})
			})
		}
	}
}

func (h *fixture) enqueue(j reader.Job) {
	h.t.Helper()
	c := store.NewChange()
	if err := reader.Enqueue(c, j); err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.store.Commit(h.t.Context(), c); err != nil {
		h.t.Fatal(err)
	}
}

// progress is the saved progress of a job.
func (h *fixture) progress(j reader.Job) string {
	var row readerdb.Job
	err := h.store.Read(context.Background(), func(r *store.Read) (err error) {
		row, err = readerdb.JobByID(r, readerdb.JobID{Kind: j.Kind, Key: j.Key})
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		h.t.Error(err)
	}
	return string(row.Progress)
}

// Of several names that were set one after the other only the newest is written, once.
func TestProfileJob_shows_the_newest_name(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		h := newFixture(t, open())
		alice, bob := user(t, "alice"), user(t, "bob")
		roomID := h.create(bob)
		h.join(roomID, alice)
		for i := range 5 {
			h.call(alice, fmt.Sprint("Alice ", i))
			h.enqueue(room.ProfileJob(alice))
		}
		h.work(h.Jobs())
		if err := reader.Wait(t.Context(), h.store, room.ProfileJob(alice).Kind, alice.String()); err != nil {
			t.Fatal(err)
		}
		if got := h.memberEvents(bob, alice, roomID); len(got) != 2 || got[0] != "join Alice 4" {
			t.Errorf("%v", got)
		}
	})
}

// A failing room does not hold up the others, and only that room is tried again. A room
// that refuses is skipped.
func TestJobs_in_all_rooms_try_failed_rooms_again(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		h := newFixture(t, open())
		alice, bob := user(t, "alice"), user(t, "bob")
		rooms := h.joinMany(alice, bob)
		var mu sync.Mutex // guards calls
		calls := map[id.RoomID]int{}
		kind := reader.Kind{Name: "test", Tries: 3, Backoff: reader.Backoff{First: time.Millisecond, Most: time.Millisecond}}
		kind.Handle = func(ctx context.Context, w *reader.Work) error {
			return eachroom.Do(ctx, h.store, w, func(context.Context, id.UserID) (func(context.Context, eachroom.Room) error, error) {
				return func(_ context.Context, r eachroom.Room) error {
					mu.Lock()
					defer mu.Unlock()
					calls[r.ID]++
					switch {
					case r.ID == rooms[7]:
						return mxerr.Forbidden("no")
					case r.ID == rooms[9], r.ID == rooms[68] && calls[r.ID] < 3:
						return errors.New("the room is burning")
					}
					return nil
				}, nil
			})
		}
		h.work([]reader.Kind{kind})
		h.enqueue(reader.Job{Kind: "test", Key: alice.String(), Unique: true})
		if err := reader.Wait(t.Context(), h.store, "test", alice.String()); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		for i, roomID := range rooms {
			want := 1
			switch i {
			case 9:
				want = 1 + 2 + 3 // in its page, before another was done, and three more
			case 68:
				want = 3
			}
			if calls[roomID] != want {
				t.Errorf("room %d was tried %d times, want %d", i, calls[roomID], want)
			}
		}
		aside, err := reader.ListAside(t.Context(), h.store)
		if err != nil || len(aside) != 1 || !strings.Contains(aside[0].Error, rooms[9].String()) {
			t.Errorf("set aside: %+v, %v", aside, err)
		}
	})
}
