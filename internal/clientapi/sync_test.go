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

// A room that was left and forgotten is told to each device that has it as joined,
// once. A ban and its end don't bring it back, and an invitation does.
func TestSync_of_a_forgotten_room(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		other := asLogin(s.logIn("bob", nil))
		room := s.create(alice, object{"preset": "public_chat"})
		s.join(room, bob)
		since := map[string]string{bob.Token: s.sync(bob, "").str("next_batch"), other.Token: s.sync(other, "").str("next_batch")}
		tells := func(l login, section string, want bool) {
			t.Helper()
			a := s.sync(l, since[l.Token])
			since[l.Token] = a.str("next_batch")
			if got := dig(a.Body, "rooms", section, room) != nil; got != want {
				t.Errorf("in %q: %t, want %t: %s", section, got, want, a.raw)
			}
		}
		s.do("POST", roomPath(room, "leave"), bob.Token, nil).want(200, "")
		tells(bob, "leave", true)
		s.do("POST", roomPath(room, "forget"), bob.Token, nil).want(200, "")
		tells(bob, "leave", false)
		tells(other, "leave", true)
		tells(other, "leave", false)
		for _, act := range []string{"ban", "unban"} {
			s.do("POST", roomPath(room, act), alice.Token, object{"user_id": bob.UserID}).want(200, "")
			tells(bob, "leave", false)
			if a := s.do("GET", roomPath(room, "messages")+"?dir=b", bob.Token, nil); a.Status != 403 {
				t.Errorf("after the %s the history is there: %d %s", act, a.Status, a.raw)
			}
		}
		if a := s.sync(bob, ""); dig(a.Body, "rooms", "leave", room) != nil {
			t.Errorf("initial: %s", a.raw)
		}
		s.do("POST", roomPath(room, "invite"), alice.Token, object{"user_id": bob.UserID}).want(200, "")
		tells(bob, "invite", true)
		tells(other, "invite", true)
	})
}
