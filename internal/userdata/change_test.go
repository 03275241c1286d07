package userdata

import (
	"errors"
	"testing"

	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/matrix/id"
)

// What could not be committed is not answered as done.
func TestAChangeThatLosesEveryRaceIsAnError(t *testing.T) {
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
		data, user := New(Options{Store: s}), User{ID: alice, Num: nums[0]}
		tries := 0
		_, err = data.change(t.Context(), "lose a race", user, func(r *store.Read, c *store.Change) error {
			tries++
			head, err := r.UserHead(user.Num)
			if err != nil {
				return err
			}
			faster := store.NewChange()
			faster.User(user.Num, head)
			faster.PutAccountData(user.Num, "", "org.example.faster", "{}")
			if _, err := s.Commit(t.Context(), faster); err != nil {
				return err
			}
			c.PutAccountData(user.Num, "", "org.example.slower", "{}")
			return nil
		})
		if !errors.Is(err, store.ErrConflict) || tries != maxTries {
			t.Fatalf("after %d tries: %v, want ErrConflict after %d", tries, err, maxTries)
		}
	})
}
