package store_test

import (
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"

	"stoa/internal/store"
	"stoa/internal/store/storetest"
)

// Who interns the same strings at the same time, in whatever order, gets the same numbers, and is never told to come again.
func TestInternTogether(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		for round := range 5 {
			var pairs []store.Pair
			var users []string
			for i := range 200 {
				pairs = append(pairs, store.Pair{Type: "m.room.member", StateKey: fmt.Sprintf("@%d.%d:example.org", round, i)})
				users = append(users, pairs[i].StateKey)
			}
			var keys [2][]store.KeyNum
			var nums [2][]store.UserNum
			g, ctx := errgroup.WithContext(t.Context())
			for n := range keys {
				p, u := slices.Clone(pairs), slices.Clone(users)
				if n == 1 {
					slices.Reverse(p)
					slices.Reverse(u)
				}
				g.Go(func() (err error) {
					keys[n], err = s.Intern(ctx, p)
					return err
				})
				g.Go(func() (err error) {
					nums[n], err = s.InternUsers(ctx, func(string) bool { return true }, u...)
					return err
				})
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			slices.Reverse(keys[1])
			slices.Reverse(nums[1])
			if !slices.Equal(keys[0], keys[1]) || !slices.Equal(nums[0], nums[1]) {
				t.Fatal("the same strings have different numbers")
			}
		}
	})
}
