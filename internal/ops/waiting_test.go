package ops

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"stoa/internal/account"
	"stoa/internal/auth"
	"stoa/internal/room"
	"stoa/internal/serverkey"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/internal/store/userdb"
	"stoa/matrix/event"
	"stoa/matrix/id"
)

// registerMembers registers many users without passwords, and joins them to one room.
// Their access tokens are their user IDs.
func registerMembers(t *testing.T, address string, many int) (roomID id.RoomID, people []id.UserID) {
	t.Helper()
	ctx := t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s := storetest.OpenURL(t, address)
	name, err := id.ParseServerName(storetest.ServerName)
	check(err)
	signer, err := serverkey.Load(ctx, s, name, "", time.Now())
	check(err)
	rooms, err := room.New(room.Options{Store: s, Signer: signer, Profiles: account.Directory{Store: s}})
	check(err)
	names := make([]string, many)
	for i := range names {
		names[i] = fmt.Sprintf("@person%d:%s", i, storetest.ServerName)
		user, err := id.ParseUserID(names[i])
		check(err)
		people = append(people, user)
	}
	nums, err := s.InternUsers(ctx, func(string) bool { return true }, names...)
	check(err)
	now := time.Now().UnixMilli()
	var pending []*store.Pending
	for i, num := range nums {
		c := store.NewChange()
		userdb.AddAccount(c, num, "", false, now)
		userdb.PutDevice(c, num, userdb.Device{ID: "PHONE", CreatedTS: now})
		hash := auth.HashOf(names[i])
		userdb.AddAccessToken(c, hash[:], num, "PHONE", 0, 0)
		pending = append(pending, s.CommitAsync(c))
	}
	for _, p := range pending {
		_, err := p.Wait(ctx)
		check(err)
	}
	roomID, err = rooms.Create(ctx, room.CreateRequest{Creator: people[0], Preset: room.PresetPublicChat})
	check(err)
	var joins []room.Draft
	for _, user := range people[1:] {
		key := user.String()
		joins = append(joins, room.Draft{RoomID: roomID, Sender: user, Type: event.TypeMember, StateKey: &key, Content: []byte(`{"membership":"join"}`)})
	}
	const group = 500
	for len(joins) > 0 {
		n := min(group, len(joins))
		_, err = rooms.SendMany(ctx, roomID, joins[:n])
		check(err)
		joins = joins[n:]
	}
	check(s.Close())
	return roomID, people
}

// Many waiting syncs at one instance use none of the few connections to its database: all
// can begin at once, all receive new events, and other requests are still served.
func TestManyWait_on_ten_connections_without_a_stall(t *testing.T) {
	t.Parallel()
	const many = 1000
	// stall is far longer than any step takes, even on a machine that is overloaded ten
	// times. Beginning the syncs is work that takes such a machine 10 s.
	const stall, coming = 8 * time.Second, time.Minute
	address := storetest.URL(t, "postgres")
	roomID, people := registerMembers(t, address, many)
	srv := start(t, "STOA_DATABASE="+address+"&pool_max_conns=10", "STOA_RATE_LIMITS=off")
	path := "/_matrix/client/v3/rooms/" + roomID.String()
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: many}}
	defer c.CloseIdleConnections()
	// filter excludes presence: a thousand users who come online are news for each other.
	const filter = `&filter={"presence":{"types":[]},"room":{"state":{"lazy_load_members":true}}}`
	sync1 := func(user id.UserID, query string) (string, error) {
		req, err := http.NewRequestWithContext(t.Context(), "GET", srv.url+"/_matrix/client/v3/sync?"+strings.ReplaceAll(query+filter, `"`, "%22"), nil)
		if err != nil {
			return "", err
		}
		req.Header.Set("Authorization", "Bearer "+user.String())
		res, err := c.Do(req)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err == nil && res.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", res.Status, text)
		}
		return string(text), err
	}
	next := func(answer string) string {
		_, after, _ := strings.Cut(answer, `"next_batch":"`)
		token, _, _ := strings.Cut(after, `"`)
		return token
	}
	const events = 3
	var came sync.WaitGroup
	var seen [events]sync.WaitGroup
	came.Add(many)
	for i := range events {
		seen[i].Add(many)
	}
	for _, user := range people {
		go func() {
			answer, err := sync1(user, "timeout=0")
			since := next(answer)
			came.Done()
			for i := 0; i < events; {
				if err == nil {
					answer, err = sync1(user, "timeout=30000&since="+since)
					since = next(answer)
				}
				if err != nil && t.Context().Err() == nil {
					t.Errorf("%s: %v", user, err)
				}
				for ; i < events && (err != nil || strings.Contains(answer, fmt.Sprint("event ", i))); i++ {
					seen[i].Done()
				}
			}
		}()
	}
	done := func(what string, g *sync.WaitGroup, limit time.Duration) {
		t.Helper()
		began := time.Now()
		ended := make(chan struct{})
		go func() {
			g.Wait()
			close(ended)
		}()
		select {
		case <-ended:
			t.Logf("%s: %v", what, time.Since(began))
		case <-time.After(limit):
			t.Fatalf("%s: not within %v", what, limit)
		}
	}
	done("all have come", &came, coming)
	for i := range events {
		began := time.Now()
		ask(t, "GET", srv.url+path+"/messages?dir=b&limit=5", people[0].String(), "", nil) // reads from the store
		ask(t, "PUT", fmt.Sprint(srv.url, path, "/send/m.room.message/", i), people[1].String(), fmt.Sprintf(`{"msgtype":"m.text","body":"event %d"}`, i), nil)
		if took := time.Since(began); took > stall {
			t.Errorf("somebody else was served after %v", took)
		}
		done(fmt.Sprintf("all have seen event %d", i), &seen[i], stall)
	}
}
