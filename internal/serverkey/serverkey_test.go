package serverkey_test

import (
	"errors"
	"testing"
	"time"

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
		for _, wrong := range []string{"", other} {
			if _, err := serverkey.Load(t.Context(), s, server, wrong, now); !errors.Is(err, serverkey.ErrSealed) {
				t.Errorf("secret %q: %v", wrong, err)
			}
		}
	})
}
