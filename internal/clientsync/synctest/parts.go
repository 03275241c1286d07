package synctest

import (
	"context"
	"encoding/json"
	"fmt"
	"stoa/internal/clientsync"
	"stoa/internal/store"
	"stoa/internal/store/keydb"
	"stoa/internal/store/userdb"
	"stoa/internal/streamcache"
	"stoa/internal/who"
	"stoa/matrix/id"
	"sync"
)

// mail is ToDevice over the store, as package e2ee does it.
type toDeviceQueue struct{ store *store.Store }

func (m toDeviceQueue) Append(dst []byte, r *store.Read, v who.Device, after store.Slot, limit int) ([]byte, store.Slot, bool, error) {
	rows, err := keydb.ToDeviceAfter(r, v.UserNum, string(v.DeviceID), after, limit+1)
	for i, row := range rows[:min(len(rows), limit)] {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst, after = append(dst, row.Message...), row.Slot
	}
	return dst, after, len(rows) > limit, err
}

func (m toDeviceQueue) Acknowledge(ctx context.Context, v who.Device, upTo store.Slot) error {
	c := store.NewChange()
	keydb.DeleteToDevice(c, v.UserNum, string(v.DeviceID), upTo)
	_, err := m.store.Commit(ctx, c)
	return err
}

// notes is AccountData over the store, as package userdata does it.
type accountData struct{}

func (accountData) Changed(r *store.Read, v who.User, after store.Slot) ([]streamcache.Datum, error) {
	rows, err := userdb.AccountDataAfter(r, v.UserNum, after, 1000)
	var out []streamcache.Datum
	for _, d := range rows {
		out = append(out, streamcache.Datum{RoomID: d.RoomID, Type: d.Type, Content: []byte(d.Content)})
	}
	return out, err
}

func (accountData) Ignored(r *store.Read, v who.User) ([]id.UserID, error) {
	d, err := userdb.AccountDataOf(r, v.UserNum, "", "m.ignored_user_list")
	if err == store.ErrNotFound {
		return nil, nil
	}
	var list struct {
		Users map[string]any `json:"ignored_users"`
	}
	if err == nil {
		err = json.Unmarshal([]byte(d.Content), &list)
	}
	var out []id.UserID
	for name := range list.Users {
		userID, err := id.ParseUserID(name)
		if err != nil {
			return nil, err
		}
		out = append(out, userID)
	}
	return out, err
}

// TypingUsers holds who is typing.
type TypingUsers struct {
	mu    sync.Mutex
	users map[store.RoomNum][]id.UserID
}

func (k *TypingUsers) AppendHashes(dst []uint32, rooms []store.RoomNum) []uint32 {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, num := range rooms {
		hash := uint32(0)
		if users, typed := k.users[num]; typed {
			hash = 2 * (uint32(len(users)) + 1)
			if len(users) > 0 {
				hash++
			}
		}
		dst = append(dst, hash)
	}
	return dst
}

func (k *TypingUsers) Users(num store.RoomNum) []id.UserID {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.users[num]
}

func (k *TypingUsers) Set(num store.RoomNum, users ...id.UserID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.users[num] = users
}

func WithAll(o *Options) {
	o.ToDevice, o.AccountData, o.Typing = toDeviceQueue{o.Store}, accountData{}, &TypingUsers{users: map[store.RoomNum][]id.UserID{}}
	o.Sections = []clientsync.Section{keyCount{}, clientsync.DeviceLists{}}
}

// keyCount is a section that belongs in every answer.
type keyCount struct{}

func (keyCount) Key() string { return "device_one_time_keys_count" }

func (keyCount) Watch() clientsync.Watch {
	return clientsync.Watch{Own: []store.Kind{store.KindKeys}, Always: true}
}

func (keyCount) Append(ctx context.Context, dst []byte, q *clientsync.Query) ([]byte, error) {
	r, err := q.Read(ctx)
	if err != nil {
		return dst, err
	}
	return fmt.Appendf(dst, `{"position":%d}`, r.Head()), nil
}
