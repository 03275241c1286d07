package userdata

import (
	"context"
	"errors"
	"sync"

	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/pushrule"
)

// Rules knows the compiled push rules of local users, with the senders that they
// ignore, and keeps them in memory. What was read in a snapshot from before a drop
// is not kept, so nothing stale comes in behind a drop. It is made before the
// packages that ask it, and before the Data that drops what a user changes.
type Rules struct {
	store   *store.Store
	mu      sync.Mutex // guards all below; nothing is taken after it
	dropped store.Position
	byUser  map[store.UserNum]*pushrule.Rules
}

// rulesKept bounds the users whose rules are in memory; most of them share the
// default ones.
const rulesKept = 100_000

// NewRules makes a Rules.
func NewRules(s *store.Store) *Rules {
	return &Rules{store: s, byUser: map[store.UserNum]*pushrule.Rules{}}
}

// Rules gives a local user's compiled push rules; those of a user who has never
// been seen are the usual ones.
func (k *Rules) Rules(ctx context.Context, user id.UserID) (*pushrule.Rules, error) {
	rules := pushrule.UsualRules()
	err := k.store.Read(ctx, func(r *store.Read) error {
		num, err := k.store.UserNum(r, user.String())
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err == nil {
			rules, err = k.Compiled(r, who.User{UserID: user, UserNum: num})
		}
		return err
	})
	return rules, err
}

// Unusual gives the joined local members of a room who may have other than the
// usual rules.
func (k *Rules) Unusual(ctx context.Context, room store.RoomNum) ([]id.UserID, error) {
	var users []id.UserID
	err := k.store.Glimpse(ctx, func(r *store.Read) error {
		names, err := userdb.UnusualMembers(r, room)
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

// Compiled gives the compiled push rules of a user, with the senders that the user
// ignores. They are kept in memory until the user changes them.
func (k *Rules) Compiled(r *store.Read, user who.User) (*pushrule.Rules, error) {
	kept := k.find(user.UserNum)
	if kept != nil {
		return kept, nil
	}
	rules, err := loadRules(r, user)
	if err != nil {
		return nil, err
	}
	ignored, err := readIgnored(r, user.UserNum)
	if err != nil {
		return nil, err
	}
	compiled := rules.Compile(ignored)
	k.keep(r.Head(), user.UserNum, compiled)
	return compiled, nil
}

func loadRules(r *store.Read, user who.User) (*pushrule.RuleSet, error) {
	row, err := userdb.AccountDataOf(r, user.UserNum, "", TypePushRules)
	if errors.Is(err, store.ErrNotFound) {
		return pushrule.Defaults(user.UserID), nil
	}
	if err != nil {
		return nil, err
	}
	return pushrule.Load(user.UserID, []byte(row.Content))
}

func (k *Rules) find(user store.UserNum) *pushrule.Rules {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.byUser[user]
}

func (k *Rules) keep(snapshot store.Position, user store.UserNum, rules *pushrule.Rules) {
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

func (k *Rules) drop(user store.UserNum, at store.Position) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dropped = max(k.dropped, at)
	delete(k.byUser, user)
}

func (k *Rules) clear(at store.Position) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dropped = max(k.dropped, at)
	clear(k.byUser)
}
