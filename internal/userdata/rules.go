package userdata

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"stoa/internal/cache"
	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/pushrule"
)

// Rules caches the compiled push rules of local users, with the senders that they ignore.
// Rules from a snapshot before a drop are not cached, so none become stale. It is built
// before the packages that use it, and before the Data that drops changed rules.
type Rules struct {
	store *store.Store
	kept  *cache.Cache[store.UserNum, keptRules]
}

// keptRules are rules and their approximate size in bytes.
type keptRules struct {
	rules *pushrule.Rules
	bytes int
}

// rulesBytes bounds the cache; most users share the default rules.
const rulesBytes = 32 << 20

// NewRules returns a Rules.
func NewRules(s *store.Store) *Rules {
	return &Rules{store: s, kept: cache.New(cache.Options[store.UserNum, keptRules]{
		Name: "push_rules", MaxBytes: rulesBytes, Size: func(_ store.UserNum, k keptRules) int { return k.bytes },
	})}
}

// Describe implements prometheus.Collector.
func (k *Rules) Describe(ch chan<- *prometheus.Desc) { k.kept.Describe(ch) }

// Collect implements prometheus.Collector.
func (k *Rules) Collect(ch chan<- prometheus.Metric) { k.kept.Collect(ch) }

// Rules returns a local user's compiled push rules, which are the default for an unknown
// user.
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

// Unusual returns the joined local members of a room whose rules may differ from the
// default.
func (k *Rules) Unusual(ctx context.Context, room store.RoomNum) ([]id.UserID, error) {
	var users []id.UserID
	err := k.store.ReadCommitted(ctx, func(r *store.Read) error {
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

// Compiled returns the compiled push rules of a user, with the senders that the user
// ignores. They are cached until the user changes them.
func (k *Rules) Compiled(r *store.Read, user who.User) (*pushrule.Rules, error) {
	if kept, ok := k.kept.Get(user.UserNum); ok {
		return kept.rules, nil
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
	bytes := 0 // all users share the default rules
	if !compiled.IsUsual() {
		bytes = 2048 + 2*len(rules.Stored()) + 128*len(ignored)
	}
	k.kept.AddAt(r.Head(), user.UserNum, keptRules{compiled, bytes})
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
