package serverkey_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"stoa/internal/serverkey"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/matrix/id"
)

func TestLoad(t *testing.T) {
	t.Parallel()
	server, err := id.ParseServerName(storetest.ServerName)
	if err != nil {
		t.Fatal(err)
	}
	const secret, other = "correct horse battery", "another secret of length"
	now := time.Unix(1700000000, 0)
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		first, err := serverkey.Load(t.Context(), s, server, "", now)
		if err != nil {
			t.Fatal(err)
		}
		same := func(secret string) {
			t.Helper()
			again, err := serverkey.Load(t.Context(), s, server, secret, now)
			if err != nil {
				t.Fatal(err)
			}
			if again.KeyID() != first.KeyID() || !again.Key().Public().Equal(first.Key().Public()) {
				t.Fatal("the server has another identity")
			}
		}
		same("")
		same(secret) // seals it
		same(secret)
		for wrong, says := range map[string]string{"": "secret_key is not set", other: "another secret_key"} {
			_, err := serverkey.Load(t.Context(), s, server, wrong, now)
			if !errors.Is(err, serverkey.ErrSealed) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "STOA_SECRET_KEY") {
				t.Errorf("secret %q: %v", wrong, err)
			}
		}
	})
}

// Instances that start at the same moment on an empty database are one server.
func TestLoadTogether(t *testing.T) {
	t.Parallel()
	server, err := id.ParseServerName(storetest.ServerName)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		url := storetest.EmptyURL(t, "postgres")
		var g errgroup.Group
		var keys [3]string
		for i := range keys {
			g.Go(func() error {
				s, err := store.Open(t.Context(), store.Options{URL: url, ServerName: storetest.ServerName})
				if err != nil {
					return err
				}
				signer, err := serverkey.Load(t.Context(), s, server, "correct horse battery", time.Now())
				if err == nil {
					keys[i] = string(signer.Key().Public())
				}
				return errors.Join(err, s.Close())
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		if keys[0] != keys[1] || keys[0] != keys[2] {
			t.Fatalf("three identities: %q", keys)
		}
	}
}
