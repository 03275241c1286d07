package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"stoa/internal/account"
	"stoa/internal/auth"
	"stoa/internal/ephemeral"
	"stoa/internal/history"
	"stoa/internal/room"
	"stoa/internal/serverkey"
	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/internal/who"
	"stoa/matrix/event"
	"stoa/matrix/id"
)

// serverName is that of every server that is measured.
const serverName = "bench"

// seedWorkers is how many rooms are written at once.
const seedWorkers = 4

// dataset is the data directory of a server that does not run yet.
type dataset struct {
	dir, database string
	store         *store.Store
	rooms         *room.Rooms
	users         []id.UserID
	nums          []store.UserNum
	tokens        []string // access tokens, one a user
}

// newDataset opens a store in a new directory, or in an empty PostgreSQL
// database if a URL is given.
func newDataset(ctx context.Context, dir, database string) (*dataset, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if database == "" {
		database = filepath.Join(dir, "stoa.db")
	}
	d := &dataset{dir: dir, database: database}
	name, err := id.ParseServerName(serverName)
	if err != nil {
		return nil, err
	}
	if d.store, err = store.Open(ctx, store.Options{URL: database, ServerName: serverName}); err != nil {
		return nil, fmt.Errorf("open the data set: %w; a PostgreSQL database must be empty, so make a new one", err)
	}
	signer, err := serverkey.Load(ctx, d.store, name, "", time.Now())
	if err != nil {
		return nil, errors.Join(err, d.store.Close())
	}
	// Without PushRules: all users of a data set have the usual ones.
	d.rooms, err = room.New(room.Options{Store: d.store, Signer: signer, Profiles: account.Directory{Store: d.store}})
	if err != nil {
		return nil, errors.Join(err, d.store.Close())
	}
	return d, nil
}

// addUsers registers n users with a device and an access token each.
func (d *dataset) addUsers(ctx context.Context, n int) error {
	const group = 1000
	for from := 0; from < n; from += group {
		var names []string
		for i := from; i < min(from+group, n); i++ {
			name := fmt.Sprintf("@user%d:%s", i, serverName)
			user, err := id.ParseUserID(name)
			if err != nil {
				return err
			}
			names, d.users = append(names, name), append(d.users, user)
		}
		nums, err := d.store.InternUsers(ctx, func(string) bool { return true }, names...)
		if err != nil {
			return err
		}
		d.nums = append(d.nums, nums...)
		var pending []*store.Pending
		now := time.Now().UnixMilli()
		for i, num := range nums {
			token := fmt.Sprintf("stoa_at_a%032d", from+i)
			hash := auth.HashOf(token)
			c := store.NewChange()
			userdb.AddAccount(c, num, "", false, now)
			userdb.PutDevice(c, num, userdb.Device{ID: "BENCH", CreatedTS: now})
			userdb.AddAccessToken(c, hash[:], num, "BENCH", 0, 0)
			d.tokens = append(d.tokens, token)
			pending = append(pending, d.store.CommitAsync(c))
		}
		for _, p := range pending {
			if _, err := p.Wait(ctx); err != nil {
				return fmt.Errorf("register users: %w", err)
			}
		}
	}
	return nil
}

// addRooms makes n public rooms. members gives the users of a room, the first of
// whom makes it; each room gets so many messages of its members in turn.
func (d *dataset) addRooms(ctx context.Context, n, messages int, members func(room int) []int) ([]id.RoomID, error) {
	rooms := make([]id.RoomID, n)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(seedWorkers)
	for i := range rooms {
		g.Go(func() error {
			in := members(i)
			roomID, err := d.rooms.Create(ctx, room.CreateRequest{
				Creator: d.users[in[0]], Preset: room.PresetPublicChat, Name: fmt.Sprintf("Room %d", i),
			})
			if err != nil {
				return fmt.Errorf("make room %d: %w", i, err)
			}
			rooms[i] = roomID
			drafts := make([]room.Draft, 0, len(in)+messages)
			for _, u := range in[1:] {
				user := d.users[u].String()
				drafts = append(drafts, room.Draft{
					RoomID: roomID, Sender: d.users[u], Type: event.TypeMember, StateKey: &user,
					Content: fmt.Appendf(nil, `{"membership":"join","displayname":"User %d"}`, u),
				})
			}
			for m := range messages {
				drafts = append(drafts, room.Draft{
					RoomID: roomID, Sender: d.users[in[m%len(in)]], Type: "m.room.message",
					Content: json.RawMessage(`{"msgtype":"m.text","body":"` + strings.Repeat("0123456789", 16) + `"}`),
				})
			}
			if _, err := d.rooms.SendMany(ctx, roomID, drafts); err != nil {
				return fmt.Errorf("fill room %d: %w", i, err)
			}
			return nil
		})
	}
	return rooms, g.Wait()
}

// readAll puts a user's receipt on the newest event of each room.
func (d *dataset) readAll(ctx context.Context, user int, rooms []id.RoomID) error {
	past := history.New(d.store, d.rooms)
	receipts := ephemeral.NewReceipts(d.store, past, nil, time.Now) // marks are for m.fully_read alone
	reader := who.User{UserID: d.users[user], UserNum: d.nums[user]}
	for _, roomID := range rooms {
		page, err := past.Messages(ctx, d.users[user], roomID, history.HistoryQuery{Dir: history.Backwards, Limit: 1})
		if err != nil {
			return err
		}
		if len(page.Events) == 0 {
			return fmt.Errorf("room %s has no events to read", roomID)
		}
		newest := page.Events[0].PDU.EventID()
		if err := receipts.Send(ctx, reader, roomID, ephemeral.Receipt{Type: ephemeral.TypeRead, EventID: newest}); err != nil {
			return err
		}
	}
	return nil
}

// close lets a server have the directory.
func (d *dataset) close() error { return d.store.Close() }

// all are the numbers below n, from the one after a number.
func all(from, n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = from + i
	}
	return out
}

func names(rooms []id.RoomID) []string {
	out := make([]string, len(rooms))
	for i, r := range rooms {
		out[i] = r.String()
	}
	return out
}
