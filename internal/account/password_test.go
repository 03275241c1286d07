package account

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"stoa/matrix/mxerr"
)

var cheap = Cost{MemoryKiB: 64, Passes: 1, Threads: 1}

func TestHasher(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	h := NewHasher(cheap, 2)
	stored, err := h.Hash(ctx, "übers3kr1t")
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewHasher(Cost{MemoryKiB: 32, Passes: 1, Threads: 1}, 1).Hash(ctx, "übers3kr1t")
	if err != nil {
		t.Fatal(err)
	}
	imported, err := bcrypt.GenerateFromPassword([]byte("übers3kr1t"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, stored, password string
		ok, outdated           bool
	}{
		{"accepts_the_right_password", stored, "übers3kr1t", true, false},
		{"refuses_a_wrong_password", stored, "übers3kr1T", false, false},
		{"refuses_an_empty_password", stored, "", false, false},
		{"refuses_when_there_is_no_password", "", "übers3kr1t", false, false},
		{"refuses_the_dummy_of_unknown_users", "", "", false, false},
		{"asks_for_a_new_hash_after_a_change_of_cost", other, "übers3kr1t", true, true},
		{"accepts_bcrypt_and_asks_for_a_new_hash", string(imported), "übers3kr1t", true, true},
		{"refuses_a_wrong_password_against_bcrypt", string(imported), "x", false, false},
		{"refuses_an_overlong_password", stored, strings.Repeat("a", MaxPasswordBytes+1), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ok, outdated, err := h.Check(ctx, c.stored, c.password)
			if err != nil || ok != c.ok || outdated != c.outdated {
				t.Fatalf("got %v, %v, %v", ok, outdated, err)
			}
		})
	}
}

func TestHasherRefusesForeignHashes(t *testing.T) {
	t.Parallel()
	h := NewHasher(cheap, 1)
	for _, stored := range []string{
		"plain", "$argon2i$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=16$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=4294967295,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=64,t=0,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=64,t=1,p=1$AA$A", "$2a$zz$",
	} {
		if ok, _, err := h.Check(context.Background(), stored, "x"); ok || !errors.Is(err, errNoHash) {
			t.Errorf("%q: got %v, %v", stored, ok, err)
		}
	}
}

func TestHasherTellsCallersToComeBackWhenTheQueueIsFull(t *testing.T) {
	t.Parallel()
	h := NewHasher(cheap, 1)
	release, err := h.acquire(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var waiters sync.WaitGroup
	refused := make(chan error, 4*hashesWaiting)
	for range 4 * hashesWaiting {
		waiters.Go(func() {
			if _, err := h.Hash(ctx, "x"); err != nil && ctx.Err() == nil {
				refused <- err
			}
		})
	}
	for range 3 * hashesWaiting { // those beyond the queue answer at once
		var limited *mxerr.Error
		if err := <-refused; !errors.As(err, &limited) || limited.Code != mxerr.CodeLimitExceeded || limited.RetryAfter <= 0 {
			t.Fatalf("got %v", err)
		}
	}
	cancel()
	waiters.Wait()
	release()
	if n := h.waiting.Load(); n != 0 {
		t.Fatalf("%d still counted as waiting", n)
	}
}

func FuzzDecodePHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		c, salt, key, err := decodePHC(s)
		if err != nil {
			return
		}
		if c2, salt2, key2, err := decodePHC(encodePHC(c, salt, key)); err != nil || c2 != c || string(salt2) != string(salt) || string(key2) != string(key) {
			t.Fatalf("%q does not survive a round", s)
		}
	})
}
