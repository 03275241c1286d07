package account_test

import (
	"encoding/json"
	"slices"
	"testing"

	"stoa/internal/account"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/internal/store/userdb"
	"stoa/internal/textsearch"
)

// TestIndexOfPeople_follows_their_names: the words by which somebody is found are those of the local part and the newest
// display name, from the registration to the end of the account.
func TestIndexOfPeople_follows_their_names(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		st := open()
		a := newAccounts(t, st)
		anna := register(t, a, "anna", "a password of hers")
		words := func() (words []string) {
			t.Helper()
			err := st.Read(t.Context(), func(r *store.Read) (err error) { words, err = userdb.WordsOf(r, anna.Num); return err })
			if err != nil {
				t.Fatal(err)
			}
			return words
		}
		want := func(when string, names ...string) {
			t.Helper()
			if got := words(); !slices.Equal(got, textsearch.Suffixes(names...)) {
				t.Errorf("%s she is found by %q", when, got)
			}
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		want("registered,", "anna")
		for _, name := range []string{"Étoile", "Frau Müller"} {
			text, err := json.Marshal(name)
			must(err)
			must(a.SetProfileField(t.Context(), anna.UserID, anna.Num, account.FieldDisplayName, text))
			want("renamed,", "anna", name)
		}
		must(a.SetProfileField(t.Context(), anna.UserID, anna.Num, account.FieldAvatarURL, json.RawMessage(`"mxc://a/b"`)))
		want("with a picture,", "anna", "Frau Müller")

		// As after an upgrade, and after an instance of an earlier release has renamed her.
		for _, old := range [][]string{nil, {"other"}} {
			c := store.NewChange()
			userdb.SetWords(c, anna.Num, old)
			_, err := st.Commit(t.Context(), c)
			must(err)
			must(account.IndexPeople(t.Context(), a))
			want("indexed anew,", "anna", "Frau Müller")
		}

		must(a.DeleteProfileField(t.Context(), anna.UserID, anna.Num, account.FieldDisplayName))
		want("without a name,", "anna")
		must(a.Deactivate(t.Context(), anna.UserID, false, nil))
		must(account.IndexPeople(t.Context(), a))
		want("deactivated,")
	})
}
