package account_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"stoa/internal/account"
	"stoa/internal/reader"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/readerdb"
	"stoa/internal/store/storetest"
	"stoa/internal/store/userdb"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

func newAccounts(t *testing.T, st *store.Store) *account.Accounts {
	t.Helper()
	name, err := id.ParseServerName(storetest.ServerName)
	if err != nil {
		t.Fatal(err)
	}
	return account.New(account.Options{
		Store: st, ServerName: name,
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
		a := newAccounts(t, open())
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
	a := newAccounts(t, st)
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
		a := newAccounts(t, st)
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

// jobOf is the version of a user's job, 0 if there is none: how often it was
// enqueued, as long as nobody works it off.
func jobOf(t *testing.T, st *store.Store, j reader.Job) int64 {
	t.Helper()
	var row readerdb.Job
	err := st.Read(t.Context(), func(r *store.Read) (err error) {
		row, err = readerdb.JobByID(r, readerdb.JobID{Kind: j.Kind, Key: j.Key})
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	return row.Version
}

// Rooms are left by a job of the commit that ends the account, whoever waits for it.
func TestDeactivateAgainDoesWhatIsLeftToDo(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		faults := &store.Faults{}
		st := open(func(o *store.Options) { o.Faults = faults })
		a := newAccounts(t, st)
		alice := register(t, a, "alice", "pw")
		leave := room.LeaveAllJob(alice.UserID)
		faults.Arm(store.FaultBeforeCommit, func() error { return errors.New("the machine is gone") })
		if err := a.Deactivate(t.Context(), alice.UserID, false, nil); err == nil {
			t.Fatal("deactivated without a commit")
		}
		faults.Arm(store.FaultBeforeCommit, nil)
		if now, err := a.Account(t.Context(), alice.UserID); err != nil || now.Deactivated || jobOf(t, st, leave) != 0 {
			t.Fatalf("got %+v, %v, and job %d: neither is there", now, err, jobOf(t, st, leave))
		}
		gone, cancel := context.WithCancel(t.Context())
		faults.Arm(store.FaultAfterCommit, func() error { cancel(); return nil })
		if err := a.Deactivate(gone, alice.UserID, false, nil); err != nil {
			t.Fatal(err)
		}
		faults.Arm(store.FaultAfterCommit, nil)
		if now, err := a.Account(t.Context(), alice.UserID); err != nil || !now.Deactivated || jobOf(t, st, leave) != 1 {
			t.Fatalf("got %+v, %v, and job %d: both are there", now, err, jobOf(t, st, leave))
		}
		if err := a.Deactivate(t.Context(), alice.UserID, true, nil); err != nil {
			t.Fatal(err)
		}
		if now, err := a.Account(t.Context(), alice.UserID); err != nil || !now.Erased || jobOf(t, st, leave) != 2 {
			t.Fatalf("got %+v, %v, and job %d", now, err, jobOf(t, st, leave))
		}
		for name, err := range map[string]error{
			"password": a.SetPassword(t.Context(), account.PasswordChange{User: alice.Num, Password: "new"}),
			"admin":    a.SetAdmin(t.Context(), alice.Num, true),
		} {
			if !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s of a deactivated account: %v", name, err)
			}
		}
		if err := a.Deactivate(t.Context(), idOf(t, "@nobody:stoa.test"), false, nil); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("got %v", err)
		}
	})
}

// What rooms show of a profile follows by a job of the commit that changes it.
func TestProfileIsShownByAJobOfItsCommit(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		faults := &store.Faults{}
		st := open(func(o *store.Options) { o.Faults = faults })
		a := newAccounts(t, st)
		alice := register(t, a, "alice", "pw")
		show := room.ProfileJob(alice.UserID)
		set := func(field, value string) error {
			return a.SetProfileField(t.Context(), alice.UserID, alice.Num, field, json.RawMessage(value))
		}
		faults.Arm(store.FaultBeforeCommit, func() error { return errors.New("the machine is gone") })
		if err := set(account.FieldDisplayName, `"Alice"`); err == nil || jobOf(t, st, show) != 0 {
			t.Fatalf("%v, and job %d", err, jobOf(t, st, show))
		}
		faults.Arm(store.FaultBeforeCommit, nil)
		for i, step := range []struct {
			field, value string
			jobs         int64
		}{
			{account.FieldTimeZone, `"Europe/Berlin"`, 0}, {account.FieldDisplayName, `"Alice"`, 1}, {account.FieldAvatarURL, `"mxc://a/b"`, 2},
			{account.FieldAvatarURL, `""`, 3}, {account.FieldAvatarURL, `""`, 3}, {"org.example.a", `1`, 3},
		} {
			if err := set(step.field, step.value); err != nil || jobOf(t, st, show) != step.jobs {
				t.Errorf("step %d: %v, and job %d, want %d", i, err, jobOf(t, st, show), step.jobs)
			}
		}
	})
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
		a := newAccounts(t, open())
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
