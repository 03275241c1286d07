package account_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"stoa/internal/account"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/internal/store/userdb"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

func newAccounts(t *testing.T, st *store.Store, rooms account.Rooms) *account.Accounts {
	t.Helper()
	name, err := id.ParseServerName(storetest.ServerName)
	if err != nil {
		t.Fatal(err)
	}
	return account.New(account.Options{
		Store: st, ServerName: name, Rooms: rooms,
		Hasher: account.NewHasher(account.Cost{MemoryKiB: 64, Passes: 1, Threads: 1}, 1),
	})
}

func register(t *testing.T, a *account.Accounts, name, password string) account.Account {
	t.Helper()
	user, err := a.Register(t.Context(), account.Registration{Username: name, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	out, err := a.Account(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRegisterForACommand(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		a := newAccounts(t, open(), nil)
		if any, err := a.Any(t.Context()); err != nil || any {
			t.Fatalf("someone is there at first: %v, %v", any, err)
		}
		register(t, a, "alice", "pw")
		register(t, a, "bob", "")
		if any, err := a.Any(t.Context()); err != nil || !any {
			t.Fatalf("got %v, %v", any, err)
		}
		if _, err := a.Register(t.Context(), account.Registration{Username: "Alice"}); !mxerr.Is(err, mxerr.CodeUserInUse) {
			t.Fatalf("got %v", err)
		}
		first, err := a.List(t.Context(), 0, 1)
		if err != nil || len(first) != 1 || first[0].UserID.Localpart() != "alice" || !first[0].HasPassword {
			t.Fatalf("got %+v, %v", first, err)
		}
		rest, err := a.List(t.Context(), first[0].Num, 10)
		if err != nil || len(rest) != 1 || rest[0].UserID.Localpart() != "bob" || rest[0].HasPassword {
			t.Fatalf("got %+v, %v", rest, err)
		}
		if _, err := a.CheckPassword(t.Context(), "bob", ""); !mxerr.Is(err, mxerr.CodeForbidden) {
			t.Fatalf("who has no password was let in without: %v", err)
		}
	})
}

func TestAUserKnownFromRoomsCanRegisterLater(t *testing.T) {
	t.Parallel()
	st := storetest.SQLite(t)
	a := newAccounts(t, st, nil)
	if _, err := st.InternUsers(t.Context(), func(string) bool { return true }, "@ghost:stoa.test"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Named(t.Context(), "ghost"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("a number is no account: %v", err)
	}
	register(t, a, "ghost", "pw")
}

func TestImportedPasswordsAreHashedAnewAtLogin(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		st := open()
		a := newAccounts(t, st, nil)
		alice := register(t, a, "alice", "")
		imported, err := bcrypt.GenerateFromPassword([]byte("pw"), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		c := store.NewChange()
		userdb.SetPassword(c, alice.Num, string(imported))
		if _, err := st.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := a.CheckPassword(t.Context(), "alice", "pw"); err != nil {
				t.Fatal(err)
			}
		}
		err = st.Read(t.Context(), func(r *store.Read) error {
			row, err := userdb.AccountByID(r, "@alice:stoa.test")
			if !strings.HasPrefix(row.PasswordHash, "$argon2id$") {
				t.Errorf("kept %.10s…", row.PasswordHash)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.CheckPassword(t.Context(), "alice", "no"); !mxerr.Is(err, mxerr.CodeForbidden) {
			t.Fatalf("got %v", err)
		}
	})
}

// stubborn are rooms that can't be left at first.
type stubborn struct {
	fails int
	calls int
}

func (s *stubborn) SetProfile(context.Context, id.UserID) error { return nil }

func (s *stubborn) LeaveAll(ctx context.Context, _ id.UserID) error {
	s.calls++
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if s.calls <= s.fails {
		return errors.New("the room is burning")
	}
	return nil
}

func TestDeactivateAgainDoesWhatIsLeftToDo(t *testing.T) {
	t.Parallel()
	rooms := &stubborn{fails: 1}
	a := newAccounts(t, storetest.SQLite(t), rooms)
	alice := register(t, a, "alice", "pw")
	gone, cancel := context.WithCancel(t.Context())
	if err := a.Deactivate(gone, alice.UserID, false); err == nil {
		t.Fatal("rooms that were not left are not mentioned")
	}
	cancel()
	if now, err := a.Account(t.Context(), alice.UserID); err != nil || !now.Deactivated {
		t.Fatalf("got %+v, %v: nobody may act as a user who is being deactivated", now, err)
	}
	if err := a.Deactivate(t.Context(), alice.UserID, true); err != nil {
		t.Fatal(err)
	}
	if now, err := a.Account(t.Context(), alice.UserID); err != nil || !now.Erased || rooms.calls != 2 {
		t.Fatalf("got %+v, %v, %d calls", now, err, rooms.calls)
	}
	for name, err := range map[string]error{
		"password": a.SetPassword(t.Context(), alice.Num, "new", false, ""),
		"admin":    a.SetAdmin(t.Context(), alice.Num, true),
	} {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s of a deactivated account: %v", name, err)
		}
	}
	if err := a.Deactivate(t.Context(), idOf(t, "@nobody:stoa.test"), false); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("got %v", err)
	}
}

func idOf(t *testing.T, s string) id.UserID {
	t.Helper()
	user, err := id.ParseUserID(s)
	if err != nil {
		t.Fatal(err)
	}
	return user
}

func TestRegistrationTokens(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		a := newAccounts(t, open(), nil)
		create := func(tok account.RegistrationToken, text string) (string, error) {
			return a.CreateRegistrationToken(t.Context(), tok, text)
		}
		expires := time.Now().Add(time.Hour).Truncate(time.Millisecond)
		if _, err := create(account.RegistrationToken{Name: "b", UsesAllowed: 3, Expires: expires}, "abc.DEF-1_2~3"); err != nil {
			t.Fatal(err)
		}
		if made, err := create(account.RegistrationToken{Name: "a"}, ""); err != nil || len(made) != 16 {
			t.Fatalf("got %q, %v", made, err)
		}
		for name, bad := range map[string][2]string{
			"the same name":    {"a", "other"},
			"the same token":   {"c", "abc.DEF-1_2~3"},
			"no name":          {"", "x"},
			"odd characters":   {"d", "a b"},
			"too many of them": {"e", strings.Repeat("x", 65)},
		} {
			if _, err := create(account.RegistrationToken{Name: bad[0]}, bad[1]); !mxerr.Is(err, mxerr.CodeInvalidParam) {
				t.Errorf("%s: %v", name, err)
			}
		}
		list, err := a.RegistrationTokens(t.Context())
		if err != nil || len(list) != 2 || list[0].Name != "a" || list[1].UsesAllowed != 3 || !list[1].Expires.Equal(expires) {
			t.Fatalf("got %+v, %v", list, err)
		}
		if err := a.RevokeRegistrationToken(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		if valid, err := a.RegistrationTokenValid(t.Context(), "abc.DEF-1_2~3"); err != nil || valid {
			t.Fatalf("got %v, %v", valid, err)
		}
		if err := a.RevokeRegistrationToken(t.Context(), "b"); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestNoncesExpire(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := account.NewSharedSecret("secret", func() time.Time { return now })
	text := func(s string) *string { return &s }
	check := func(s *account.SharedSecret, nonce string) error {
		return s.Check(account.SecretRegistration{Nonce: &nonce, Username: text("a"), Password: text("b"), MAC: text("00")})
	}
	nonce := s.Nonce()
	if err := check(s, nonce); !mxerr.Is(err, mxerr.CodeForbidden) { // the MAC is wrong, the nonce is not
		t.Fatalf("got %v", err)
	}
	for name, nonce := range map[string]string{
		"of another secret": account.NewSharedSecret("other", nil).Nonce(),
		"changed":           "ff" + nonce[2:],
		"cut":               nonce[:20],
		"empty":             "",
	} {
		if err := check(s, nonce); !mxerr.Is(err, mxerr.CodeInvalidParam) {
			t.Errorf("a nonce %s: %v", name, err)
		}
	}
	now = now.Add(time.Minute + time.Second)
	if err := check(s, nonce); !mxerr.Is(err, mxerr.CodeInvalidParam) {
		t.Fatalf("an old nonce: %v", err)
	}
}
