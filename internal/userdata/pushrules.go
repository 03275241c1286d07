package userdata

import (
	"context"
	"encoding/json"
	"errors"
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
	err := d.change(ctx, "change push rules", user, func(r *store.Read, c *store.Change) error {
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
		d.tellRulesChanged(user)
	}
	return err
}

func (d *Data) tellRulesChanged(user User) {
	d.rules.drop(user.Num)
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
	err := d.store.Read(ctx, func(r *store.Read) error {
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
	generation, kept := d.rules.find(user.Num)
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
	d.rules.keep(generation, user.Num, compiled)
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

// Changed drops what is kept of a user in memory: another instance, or another
// package, has changed the user's account data.
func (d *Data) Changed(user store.UserNum) { d.rules.drop(user) }

// compiledRules keeps compiled rules. A load that raced with a drop is not kept
// (generation), so nothing stale comes in behind a drop.
type compiledRules struct {
	mu         sync.Mutex // guards all below; nothing is taken after it
	generation uint64
	byUser     map[store.UserNum]*pushrule.Rules
}

// rulesKept bounds the users whose rules are in memory; most of them share the
// default ones.
const rulesKept = 100_000

func newCompiledRules() compiledRules {
	return compiledRules{byUser: map[store.UserNum]*pushrule.Rules{}}
}

func (k *compiledRules) find(user store.UserNum) (uint64, *pushrule.Rules) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.generation, k.byUser[user]
}

func (k *compiledRules) keep(generation uint64, user store.UserNum, rules *pushrule.Rules) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if generation != k.generation {
		return
	}
	if len(k.byUser) >= rulesKept {
		clear(k.byUser)
	}
	k.byUser[user] = rules
}

func (k *compiledRules) drop(user store.UserNum) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.generation++
	delete(k.byUser, user)
}
