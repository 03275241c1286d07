package userdata

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
	"stoa/internal/who"
	"stoa/matrix/id"
)

// onEach runs a test on both engines with the data of a user.
func onEach(t *testing.T, f func(*testing.T, *Data, who.User)) {
	t.Helper()
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		alice, err := id.ParseUserID("@alice:stoa.test")
		if err != nil {
			t.Fatal(err)
		}
		nums, err := s.InternUsers(t.Context(), func(string) bool { return true }, alice.String())
		if err != nil {
			t.Fatal(err)
		}
		f(t, New(Options{Store: s}), who.User{UserID: alice, UserNum: nums[0]})
	})
}

// What could not be committed is not answered as done.
func TestAChangeThatCanNotBeCommittedIsAnError(t *testing.T) {
	onEach(t, func(t *testing.T, data *Data, alice who.User) {
		_, err := data.change(t.Context(), "drop what is not there", alice, func(_ *store.Read, c *store.Change) error {
			roomdb.DropAlias(c, "#none:stoa.test", 1)
			return nil
		})
		if !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("got %v, want the error of the commit", err)
		}
	})
}

// A client that starts may set many things at once; none of it is lost or refused.
func TestManyChangesAtOnceAreAllMade(t *testing.T) {
	onEach(t, func(t *testing.T, data *Data, alice who.User) {
		room, err := id.ParseRoomID("!room:stoa.test")
		if err != nil {
			t.Fatal(err)
		}
		const writers = 40
		var done sync.WaitGroup
		for i := range writers {
			done.Go(func() {
				if err := data.SetTag(t.Context(), alice, room, fmt.Sprintf("u.%d", i), []byte(`{}`)); err != nil {
					t.Errorf("tag %d: %v", i, err)
				}
			})
		}
		done.Wait()
		tags, err := data.Tags(t.Context(), alice, room)
		if err != nil || len(tags) != writers {
			t.Fatalf("of %d tags there are %d: %v", writers, len(tags), err)
		}
	})
}
