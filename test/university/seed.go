package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"stoa/internal/account"
	"stoa/internal/auth"
	"stoa/internal/room"
	"stoa/internal/serverkey"
	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/matrix/event"
	"stoa/matrix/id"
)

// seedWorkers is how many rooms are written at once.
const seedWorkers = 4

// seeder fills an empty database through the packages of the server, in large
// groups.
type seeder struct {
	plan  *plan
	store *store.Store
	rooms *room.Rooms
	users []id.UserID
	ids   []string // of the rooms, by their place in the plan
	done  atomic.Int64
}

// seed writes everything and gives the IDs of the rooms.
func seed(ctx context.Context, database string, p *plan) (ids []string, err error) {
	s := &seeder{plan: p, ids: make([]string, len(p.rooms))}
	if s.store, err = store.Open(ctx, store.Options{URL: database, ServerName: serverName}); err != nil {
		return nil, fmt.Errorf("open the data set: %w", err)
	}
	defer func() { err = errors.Join(err, s.store.Close()) }()
	name, err := id.ParseServerName(serverName)
	if err != nil {
		return nil, err
	}
	signer, err := serverkey.Load(ctx, s.store, name, "", time.Now())
	if err != nil {
		return nil, err
	}
	// Without PushRules: all have the usual ones.
	if s.rooms, err = room.New(room.Options{Store: s.store, Signer: signer, Profiles: account.Directory{Store: s.store}}); err != nil {
		return nil, err
	}
	if err := s.addPeople(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	notified := make(chan struct{})
	go func() {
		defer close(notified)
		s.tell(ctx, time.Now())
	}()
	err = s.addRooms(ctx)
	cancel()
	<-notified
	return s.ids, err
}

// tell says now and then what is left.
func (s *seeder) tell(ctx context.Context, begin time.Time) {
	t := time.NewTicker(5 * time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			done, all := s.done.Load(), int64(s.plan.events())
			perSecond := float64(done) / time.Since(begin).Seconds()
			progress("seed: %d of %d events written, %.0f/s, %.0f s left", done, all, perSecond, float64(all-done)/max(perSecond, 1))
		}
	}
}

// addPeople registers everybody without a password. Who may be connected has
// three devices with an access token each.
func (s *seeder) addPeople(ctx context.Context) error {
	const group = 1000
	for from := 0; from < s.plan.people; from += group {
		var names []string
		for i := from; i < min(from+group, s.plan.people); i++ {
			user, err := id.ParseUserID(userName(i))
			if err != nil {
				return err
			}
			names, s.users = append(names, user.String()), append(s.users, user)
		}
		nums, err := s.store.InternUsers(ctx, func(string) bool { return true }, names...)
		if err != nil {
			return err
		}
		now := time.Now().UnixMilli()
		var pending []*store.Pending
		for i, num := range nums {
			c := store.NewChange()
			userdb.AddAccount(c, num, "", false, now)
			for device := range s.plan.devices {
				if from+i < s.plan.online {
					hash := auth.HashOf(accessToken(from+i, device))
					userdb.PutDevice(c, num, userdb.Device{ID: deviceName(device), CreatedTS: now})
					userdb.AddAccessToken(c, hash[:], num, deviceName(device), 0, 0)
				}
			}
			pending = append(pending, s.store.CommitAsync(c))
		}
		for _, p := range pending {
			if _, err := p.Wait(ctx); err != nil {
				return fmt.Errorf("register people: %w", err)
			}
		}
	}
	progress("seed: %d people registered", len(s.users))
	return nil
}

func (s *seeder) addRooms(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(seedWorkers)
	for n := range s.plan.rooms {
		i := len(s.plan.rooms) - 1 - n // the largest first: none of them is left to one worker at the end
		g.Go(func() error { return s.addRoom(ctx, i) })
	}
	return g.Wait()
}

func (s *seeder) addRoom(ctx context.Context, n int) error {
	r := &s.plan.rooms[n]
	roomID, err := s.rooms.Create(ctx, room.CreateRequest{
		Creator: s.users[r.members[0]], Preset: room.PresetPublicChat, Name: fmt.Sprintf("Room %d (%s)", n, r.kind),
	})
	if err != nil {
		return fmt.Errorf("make room %d: %w", n, err)
	}
	s.ids[n] = roomID.String()
	const group = 500 // as SendMany commits
	var drafts []room.Draft
	flush := func() error {
		if _, err := s.rooms.SendMany(ctx, roomID, drafts); err != nil {
			return fmt.Errorf("fill room %d: %w", n, err)
		}
		s.done.Add(int64(len(drafts)))
		drafts = drafts[:0]
		return nil
	}
	for _, m := range r.members[1:] {
		user := s.users[m].String()
		drafts = append(drafts, room.Draft{
			RoomID: roomID, Sender: s.users[m], Type: event.TypeMember, StateKey: &user,
			Content: fmt.Appendf(nil, `{"membership":"join","displayname":"Person %d"}`, m),
		})
		if len(drafts) == group {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	for m := range s.plan.history {
		drafts = append(drafts, room.Draft{
			RoomID: roomID, Sender: s.users[r.members[m%len(r.members)]], Type: "m.room.message",
			Content: json.RawMessage(`{"msgtype":"m.text","body":"` + strings.Repeat("0123456789", 12) + `"}`),
		})
	}
	return flush()
}
