package userdata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"stoa/internal/store"
	"stoa/matrix/id"
	"stoa/matrix/pushrule"
)

// PushRules gives the push rules of a user.
//
// Spec: client-server-api#push-rules-api
func (d *Data) PushRules(ctx context.Context, user User) (*pushrule.RuleSet, error) {
	var rules *pushrule.RuleSet
	err := d.store.Read(ctx, func(r *store.Read) (err error) {
		rules, err = loadRules(r, user)
		return err
	})
	return rules, err
}

func loadRules(r *store.Read, user User) (*pushrule.RuleSet, error) {
	row, err := r.AccountData(user.Num, "", TypePushRules)
	if errors.Is(err, store.ErrNotFound) {
		return pushrule.Defaults(user.ID), nil
	}
	if err != nil {
		return nil, err
	}
	return pushrule.Load(user.ID, []byte(row.Content))
}

// ChangePushRules applies an operation of package pushrule to the user's rules.
func (d *Data) ChangePushRules(ctx context.Context, user User, edit func(*pushrule.RuleSet) (*pushrule.RuleSet, error)) error {
	at, err := d.change(ctx, "change push rules", user, func(r *store.Read, c *store.Change) error {
		rules, err := loadRules(r, user)
		if err != nil {
			return err
		}
		if rules, err = edit(rules); err != nil {
			return err
		}
		c.PutAccountData(user.Num, "", TypePushRules, string(rules.Stored()))
		return nil
	})
	if err == nil {
		d.tellRulesChanged(user, at)
	}
	return err
}

func (d *Data) tellRulesChanged(user User, at store.Position) {
	d.rules.drop(user.Num, at)
	if d.rulesChanged != nil {
		d.rulesChanged(user.ID)
	}
}

func shownRules(user User, stored string) (json.RawMessage, error) {
	rules, err := pushrule.Load(user.ID, []byte(stored))
	if err != nil {
		return nil, err
	}
	return pushRulesContent(rules)
}

// pushRulesContent is the content of m.push_rules.
func pushRulesContent(rules *pushrule.RuleSet) (json.RawMessage, error) {
	return json.Marshal(map[string]*pushrule.RuleSet{"global": rules})
}

// ForRooms is the view of the data that package room asks for.
type ForRooms struct{ *Data }

// Rules gives a local user's compiled push rules; those of a user who has never
// been seen are the usual ones.
func (d ForRooms) Rules(ctx context.Context, user id.UserID) (*pushrule.Rules, error) {
	rules := pushrule.UsualRules()
	err := d.store.Read(ctx, func(r *store.Read) error {
		num, err := d.store.UserNum(r, user.String())
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err == nil {
			rules, err = d.Data.Rules(r, User{ID: user, Num: num})
		}
		return err
	})
	return rules, err
}

// Unusual gives the joined local members of a room who may have other than the
// usual rules.
func (d ForRooms) Unusual(ctx context.Context, room store.RoomNum) ([]id.UserID, error) {
	var users []id.UserID
	err := d.store.Glimpse(ctx, func(r *store.Read) error {
		names, err := r.UnusualMembers(room)
		for _, name := range names {
			user, bad := id.ParseUserID(name)
			if bad != nil {
				return bad
			}
			users = append(users, user)
		}
		return err
	})
	return users, err
}

// Rules gives the compiled push rules of a user, with the senders that the user
// ignores. They are kept in memory until the user changes them.
func (d *Data) Rules(r *store.Read, user User) (*pushrule.Rules, error) {
	kept := d.rules.find(user.Num)
	if kept != nil {
		return kept, nil
	}
	rules, err := loadRules(r, user)
	if err != nil {
		return nil, err
	}
	ignored, err := d.Ignored(r, user.Num)
	if err != nil {
		return nil, err
	}
	compiled := rules.Compile(ignored)
	d.rules.keep(r.Head(), user.Num, compiled)
	return compiled, nil
}

// Ignored gives the users whose events the user does not want to see.
//
// Spec: client-server-api#ignoring-users
func (d *Data) Ignored(r *store.Read, user store.UserNum) ([]id.UserID, error) {
	row, err := r.AccountData(user, "", TypeIgnoredUserList)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return ParseIgnored([]byte(row.Content)), nil
}

// ParseIgnored reads the content of m.ignored_user_list. What is no user ID, or
// no such list at all, ignores nobody.
func ParseIgnored(content []byte) []id.UserID {
	var list struct {
		IgnoredUsers map[string]json.RawMessage `json:"ignored_users"`
	}
	if json.Unmarshal(content, &list) != nil {
		return nil
	}
	var ignored []id.UserID
	for name := range list.IgnoredUsers {
		if user, err := id.ParseUserID(name); err == nil {
			ignored = append(ignored, user)
		}
	}
	return ignored
}

// Follow drops what rows of the stream have changed: those of other instances
// come to it with the stream. r is a snapshot that holds them.
func (d *Data) Follow(r *store.Read, rows []store.StreamRow) error {
	var since []store.UserSlot
	at := store.Position(0)
	for _, row := range rows {
		if row.Kind == store.KindAccountData {
			since = append(since, store.UserSlot{User: row.User(), Slot: row.First})
			at = row.Pos
		}
	}
	if len(since) == 0 {
		return nil
	}
	changed, err := r.RulesChanged(since)
	if err != nil {
		return fmt.Errorf("read whose push rules have changed: %w", err)
	}
	for _, user := range changed {
		userID, err := id.ParseUserID(user.UserID)
		if err != nil {
			return err
		}
		d.rules.drop(user.Num, at)
		if d.rulesFollowed != nil {
			d.rulesFollowed(userID)
		}
	}
	return nil
}

// Forget drops everything: rows of the stream were missed, up to a position.
func (d *Data) Forget(at store.Position) { d.rules.clear(at) }

// compiledRules keeps compiled rules. What was read in a snapshot from before a
// drop is not kept, so nothing stale comes in behind a drop.
type compiledRules struct {
	mu      sync.Mutex // guards all below; nothing is taken after it
	dropped store.Position
	byUser  map[store.UserNum]*pushrule.Rules
}

// rulesKept bounds the users whose rules are in memory; most of them share the
// default ones.
const rulesKept = 100_000

func newCompiledRules() compiledRules {
	return compiledRules{byUser: map[store.UserNum]*pushrule.Rules{}}
}

func (k *compiledRules) find(user store.UserNum) *pushrule.Rules {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.byUser[user]
}

func (k *compiledRules) keep(snapshot store.Position, user store.UserNum, rules *pushrule.Rules) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if snapshot < k.dropped {
		return
	}
	if len(k.byUser) >= rulesKept {
		clear(k.byUser)
	}
	k.byUser[user] = rules
}

func (k *compiledRules) drop(user store.UserNum, at store.Position) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dropped = max(k.dropped, at)
	delete(k.byUser, user)
}

func (k *compiledRules) clear(at store.Position) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dropped = max(k.dropped, at)
	clear(k.byUser)
}
