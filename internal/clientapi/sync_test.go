package clientapi_test

import (
	"testing"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/internal/store/userdb"
)

func TestAWaitEndsWithItsSession(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		end     func(s *server, waiting, other login)
		errcode string
	}{
		"logout": {func(s *server, waiting, _ login) {
			s.do("POST", v3+"/logout", waiting.Token, object{}).want(200, "")
		}, "M_UNKNOWN_TOKEN"},
		"logout of all devices by another one": {func(s *server, _, other login) {
			s.do("POST", v3+"/logout/all", other.Token, object{}).want(200, "")
		}, "M_UNKNOWN_TOKEN"},
		"a locked account": {func(s *server, waiting, _ login) {
			var account userdb.Account
			err := s.store.Read(t.Context(), func(r *store.Read) (err error) {
				account, err = userdb.AccountByID(r, waiting.UserID)
				return err
			})
			if err == nil {
				err = s.accounts.SetLocked(t.Context(), account.User, true)
			}
			if err != nil {
				t.Error(err)
			}
		}, "M_USER_LOCKED"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
				s := newServer(t, open())
				waiting := s.signUp("alice")
				other := asLogin(s.logIn("alice", nil).want(200, ""))
				since := s.do("GET", v3+"/sync", waiting.Token, nil).want(200, "").str("next_batch")
				got := make(chan answer)
				go func() { got <- s.do("GET", v3+"/sync?timeout=30000&since="+since, waiting.Token, nil) }()
				s.whole.AwaitWaiting(t, 1)
				test.end(s, waiting, other)
				(<-got).want(401, test.errcode)
			})
		})
	}
	t.Run("another device waits on", func(t *testing.T) {
		t.Parallel()
		s := onSQLite(t)
		waiting := s.signUp("alice")
		other := asLogin(s.logIn("alice", nil).want(200, ""))
		since := s.do("GET", v3+"/sync", waiting.Token, nil).want(200, "").str("next_batch")
		got := make(chan answer)
		go func() { got <- s.do("GET", v3+"/sync?timeout=300&since="+since, waiting.Token, nil) }()
		s.whole.AwaitWaiting(t, 1)
		s.do("POST", v3+"/logout", other.Token, object{}).want(200, "")
		s.clock.Advance(time.Second)
		(<-got).want(200, "")
	})
}
