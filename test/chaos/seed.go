package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
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

const (
	serverName = "chaos.test"
	deviceID   = "CHAOS"
)

// population is who and what there is when the run begins.
type population struct {
	users   []string // by client
	tokens  []string
	rooms   []string // room n has number n+1 in the history
	roomsOf [][]int  // by client: numbers
	members [][]int  // by room index: clients
}

// roomsOfEach is how many rooms a client is in.
const roomsOfEach = 3

// seed fills an empty database through the packages of the server, which is
// much faster than to register and join.
func seed(ctx context.Context, clients, rooms int, rnd *rand.Rand) (_ *population, err error) {
	s, err := store.Open(ctx, store.Options{URL: databaseURL(), ServerName: serverName})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	name, err := id.ParseServerName(serverName)
	if err != nil {
		return nil, err
	}
	signer, err := serverkey.Load(ctx, s, name, "", time.Now())
	if err != nil {
		return nil, err
	}
	writer, err := room.New(room.Options{Store: s, Signer: signer, Profiles: account.Directory{Store: s}})
	if err != nil {
		return nil, err
	}
	t := &population{rooms: make([]string, rooms), members: make([][]int, rooms)}
	if err := t.addUsers(ctx, s, clients); err != nil {
		return nil, err
	}
	t.roomsOf = make([][]int, clients)
	for c := range clients {
		for _, r := range rnd.Perm(rooms)[:min(roomsOfEach, rooms)] {
			t.roomsOf[c] = append(t.roomsOf[c], r+1)
			t.members[r] = append(t.members[r], c)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for r := range rooms {
		g.Go(func() error { return t.addRoom(ctx, writer, r) })
	}
	return t, g.Wait()
}

func (t *population) addUsers(ctx context.Context, s *store.Store, n int) error {
	var pending []*store.Pending
	for i := range n {
		t.users = append(t.users, fmt.Sprintf("@c%d:%s", i, serverName))
		t.tokens = append(t.tokens, fmt.Sprintf("stoa_at_a%032d", i))
	}
	nums, err := s.InternUsers(ctx, func(string) bool { return true }, t.users...)
	if err != nil {
		return err
	}
	now := time.Now().UnixMilli()
	for i, num := range nums {
		hash := auth.HashOf(t.tokens[i])
		c := store.NewChange()
		userdb.AddAccount(c, num, "", false, now)
		userdb.PutDevice(c, num, userdb.Device{ID: deviceID, CreatedTS: now})
		userdb.AddAccessToken(c, hash[:], num, deviceID, 0, 0)
		pending = append(pending, s.CommitAsync(c))
	}
	for _, p := range pending {
		if _, err := p.Wait(ctx); err != nil {
			return fmt.Errorf("register users: %w", err)
		}
	}
	return nil
}

func (t *population) addRoom(ctx context.Context, writer *room.Rooms, r int) error {
	if len(t.members[r]) == 0 {
		return fmt.Errorf("room %d would be empty: more clients are needed", r+1)
	}
	ids := make([]id.UserID, len(t.members[r]))
	for i, c := range t.members[r] {
		user, err := id.ParseUserID(t.users[c])
		if err != nil {
			return err
		}
		ids[i] = user
	}
	roomID, err := writer.Create(ctx, room.CreateRequest{
		Creator: ids[0], Preset: room.PresetPublicChat, Name: fmt.Sprintf("Room %d", r+1),
		PowerLevels: json.RawMessage(`{"events":{"m.room.topic":0}}`),
	})
	if err != nil {
		return fmt.Errorf("make room %d: %w", r+1, err)
	}
	t.rooms[r] = roomID.String()
	var drafts []room.Draft
	for _, user := range ids[1:] {
		key := user.String()
		drafts = append(drafts, room.Draft{RoomID: roomID, Sender: user, Type: event.TypeMember, StateKey: &key,
			Content: json.RawMessage(`{"membership":"join"}`)})
	}
	if _, err := writer.SendMany(ctx, roomID, drafts); err != nil {
		return fmt.Errorf("fill room %d: %w", r+1, err)
	}
	return nil
}
