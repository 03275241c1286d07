package userdata_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/internal/userdata"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
	"stoa/matrix/pushrule"
)

type fixture struct {
	t     *testing.T
	store *store.Store
	data  *userdata.Data
	rules *userdata.Rules
	alice who.User
	room  id.RoomID
}

func onBothEngines(t *testing.T, f func(x *fixture)) {
	t.Helper()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		alice, err := id.ParseUserID("@alice:stoa.test")
		if err != nil {
			t.Fatal(err)
		}
		room, err := id.ParseRoomID("!room:stoa.test")
		if err != nil {
			t.Fatal(err)
		}
		nums, err := s.InternUsers(t.Context(), func(string) bool { return true }, alice.String())
		if err != nil {
			t.Fatal(err)
		}
		rules := userdata.NewRules(s)
		f(&fixture{t: t, store: s, data: userdata.New(userdata.Options{Store: s, Rules: rules}), rules: rules, alice: who.User{UserID: alice, UserNum: nums[0]}, room: room})
	})
}

func (x *fixture) all() map[string]string {
	x.t.Helper()
	found := map[string]string{}
	err := x.store.Read(x.t.Context(), func(r *store.Read) error {
		entries, err := x.data.All(r, x.alice)
		for _, e := range entries {
			found[e.RoomID+" "+e.Type] = string(e.Content)
		}
		return err
	})
	if err != nil {
		x.t.Fatal(err)
	}
	return found
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var m *mxerr.Error
	if !errors.As(err, &m) || m.Code != code {
		t.Fatalf("got %v, want %s", err, code)
	}
}

func TestAccountData(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(x *fixture) {
		ctx := x.t.Context()
		set := func(room id.RoomID, dataType, content string) error {
			return x.data.SetAccountData(ctx, x.alice, room, dataType, json.RawMessage(content))
		}
		if err := errors.Join(set(id.RoomID{}, "m.direct", `{"a":1}`), set(x.room, "m.direct", `{"b":2}`), set(id.RoomID{}, "m.direct", `{"a":3}`)); err != nil {
			x.t.Fatal(err)
		}
		if got := x.all(); got[" m.direct"] != `{"a":3}` || got["!room:stoa.test m.direct"] != `{"b":2}` || !strings.Contains(got[" m.push_rules"], ".m.rule.master") {
			x.t.Errorf("kept: %v", got)
		}
		wantCode(x.t, set(id.RoomID{}, "m.push_rules", `{}`), mxerr.CodeBadJSON)
		wantCode(x.t, set(x.room, "m.fully_read", `{}`), mxerr.CodeBadJSON)
		wantCode(x.t, set(id.RoomID{}, "big", `{"a":"`+strings.Repeat("x", 300<<10)+`"}`), mxerr.CodeTooLarge)
		_, err := x.data.AccountData(ctx, x.alice, id.RoomID{}, "m.none")
		wantCode(x.t, err, mxerr.CodeNotFound)
	})
}

func TestTagsOfTwoClientsAreBothKept(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(x *fixture) {
		var wg sync.WaitGroup
		errs := make([]error, 6)
		for i := range errs {
			wg.Go(func() {
				errs[i] = x.data.SetTag(x.t.Context(), x.alice, x.room, fmt.Sprintf("u.tag%d", i), json.RawMessage(`{"order":0.5}`))
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			x.t.Fatal(err)
		}
		if err := x.data.DeleteTag(x.t.Context(), x.alice, x.room, "u.tag0"); err != nil {
			x.t.Fatal(err)
		}
		tags, err := x.data.Tags(x.t.Context(), x.alice, x.room)
		if err != nil || len(tags) != len(errs)-1 || string(tags["u.tag3"]) != `{"order":0.5}` {
			x.t.Errorf("tags are %s, %v", tags, err)
		}
		wantCode(x.t, x.data.SetTag(x.t.Context(), x.alice, x.room, "u.x", json.RawMessage(`{"order":2}`)), mxerr.CodeInvalidParam)
	})
}

func TestPushRulesAreKeptAndCompiledAnew(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(x *fixture) {
		compiled := func() (rules *pushrule.Rules) {
			err := x.store.Read(x.t.Context(), func(r *store.Read) (err error) {
				rules, err = x.rules.Compiled(r, x.alice)
				return err
			})
			if err != nil {
				x.t.Fatal(err)
			}
			return rules
		}
		if !compiled().IsUsual() {
			x.t.Error("a new user's rules are not the usual ones")
		}
		err := x.data.ChangePushRules(x.t.Context(), x.alice, func(s *pushrule.RuleSet) (*pushrule.RuleSet, error) {
			return s.Put(pushrule.Content, "word", []byte(`{"pattern":"stoa","actions":["notify"]}`), pushrule.Place{})
		})
		if err != nil {
			x.t.Fatal(err)
		}
		if compiled().IsUsual() {
			x.t.Error("the compiled rules are still the old ones")
		}
		if got := x.all()[" m.push_rules"]; !strings.Contains(got, `"rule_id":"word"`) {
			x.t.Errorf("m.push_rules is %s", got)
		}
		err = x.data.SetAccountData(x.t.Context(), x.alice, id.RoomID{}, "m.ignored_user_list", json.RawMessage(`{"ignored_users":{"@eve:stoa.test":{},"nonsense":{}}}`))
		if err != nil {
			x.t.Fatal(err)
		}
		err = x.store.Read(x.t.Context(), func(r *store.Read) error {
			ignored, err := x.data.Ignored(r, x.alice)
			if len(ignored) != 1 || ignored[0].String() != "@eve:stoa.test" {
				x.t.Errorf("ignored are %v", ignored)
			}
			return err
		})
		if err != nil {
			x.t.Fatal(err)
		}
	})
}

func TestFilters(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(x *fixture) {
		add := func(filter string) string {
			name, err := x.data.AddFilter(x.t.Context(), x.alice, json.RawMessage(filter))
			if err != nil {
				x.t.Fatal(err)
			}
			return name
		}
		first := add(`{"room":{"timeline":{"limit":5}}}`)
		if again := add(`{ "room": {"timeline": {"limit": 5}} }`); again != first {
			x.t.Errorf("the same filter is %q, then %q", first, again)
		}
		if other := add(`{}`); other == first {
			x.t.Error("another filter has the same ID")
		}
		got, err := x.data.Filter(x.t.Context(), x.alice, first)
		if err != nil || string(got) != `{"room":{"timeline":{"limit":5}}}` {
			x.t.Errorf("%s %v", got, err)
		}
		_, err = x.data.Filter(x.t.Context(), x.alice, "99")
		wantCode(x.t, err, mxerr.CodeNotFound)
		_, err = x.data.AddFilter(x.t.Context(), x.alice, json.RawMessage(`{"room":[]}`))
		wantCode(x.t, err, mxerr.CodeBadJSON)
	})
}
