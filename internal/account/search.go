package account

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/internal/textsearch"
	"stoa/matrix/id"
)

// searchWords are the words by which the user directory finds a user.
func searchWords(user id.UserID, displayName string) []string {
	return textsearch.Suffixes(user.Localpart(), displayName)
}

const (
	// indexPage bounds the accounts that IndexPeople has in memory.
	indexPage = 500
	// indexAtOnce is how many it indexes at a time, so that they share transactions.
	indexAtOnce = 32
)

// IndexPeople brings the words by which the user directory finds people up to date for all accounts: those from before
// there was an index, and those renamed by an instance of a release that does not write it.
func IndexPeople(ctx context.Context, a *Accounts) error {
	for after := store.UserNum(0); ; {
		var page []userdb.Person
		err := a.store.Read(ctx, func(r *store.Read) (err error) { page, err = userdb.People(r, after, indexPage); return err })
		if err != nil {
			return fmt.Errorf("index people: %w", err)
		}
		if len(page) == 0 {
			return nil
		}
		after = page[len(page)-1].User
		all, ctx := errgroup.WithContext(ctx)
		all.SetLimit(indexAtOnce)
		for _, p := range page {
			all.Go(func() error { return indexPerson(ctx, a, p.User) })
		}
		if err := all.Wait(); err != nil {
			return fmt.Errorf("index people: %w", err)
		}
	}
}

// indexPerson writes the words of a user, unless they are right. The user's head fences it, so that a name that is changed
// meanwhile is not indexed under its old words.
func indexPerson(ctx context.Context, a *Accounts, num store.UserNum) error {
	return a.Change(ctx, num, func(r *store.Read, c *store.Change) error {
		people, err := userdb.PeopleByNum(r, []store.UserNum{num})
		if err != nil || len(people) == 0 { // deactivated meanwhile
			return err
		}
		user, err := id.ParseUserID(people[0].UserID)
		if err != nil {
			return err
		}
		profile := Profile{FieldDisplayName: json.RawMessage(people[0].DisplayName)}
		want := searchWords(user, profile.text(FieldDisplayName))
		have, err := userdb.WordsOf(r, num)
		if err != nil || slices.Equal(have, want) {
			return err
		}
		c.LowPriority = true
		c.ActiveUser(num)
		userdb.SetWords(c, num, want)
		return nil
	})
}
