package userdata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
	"stoa/matrix/pushrule"
)

// PushRules returns the push rules of a user.
//
// Spec: client-server-api#push-rules-api
func (d *Data) PushRules(ctx context.Context, user who.User) (*pushrule.RuleSet, error) {
	var rules *pushrule.RuleSet
	err := d.store.Read(ctx, func(r *store.Read) (err error) {
		rules, err = loadRules(r, user)
		return err
	})
	return rules, err
}

// ChangePushRules applies an operation of package pushrule to the user's rules.
func (d *Data) ChangePushRules(ctx context.Context, user who.User, edit func(*pushrule.RuleSet) (*pushrule.RuleSet, error)) error {
	at, err := d.change(ctx, "change push rules", user, func(r *store.Read, c *store.Change) error {
		rules, err := loadRules(r, user)
		if err != nil {
			return err
		}
		if rules, err = edit(rules); err != nil {
			return err
		}
		stored := rules.Stored()
		if err := checkRules(r, user, len(stored)); err != nil {
			return err
		}
		userdb.PutAccountData(c, user.UserNum, "", TypePushRules, string(stored))
		return nil
	})
	if err == nil {
		d.tellRulesChanged(user, at)
	}
	return err
}

// checkRules refuses push rules that grow beyond maxRules or the user's account data.
// Rules that are larger from before can shrink.
func checkRules(r *store.Read, user who.User, size int) error {
	old, err := userdb.AccountDataOf(r, user.UserNum, "", TypePushRules)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if size > maxRules && size > len(old.Content) {
		return mxerr.TooLarge("Your push rules have more than %d bytes: delete some first", maxRules)
	}
	_, err = checkRoom(r, user, "", TypePushRules, size)
	return err
}

func (d *Data) tellRulesChanged(user who.User, at store.Position) {
	d.rules.kept.Drop(at, user.UserNum)
	if d.rooms != nil {
		d.rooms.PushRulesChanged(user.UserID)
	}
}

func shownRules(user who.User, stored string) (json.RawMessage, error) {
	rules, err := pushrule.Load(user.UserID, []byte(stored))
	if err != nil {
		return nil, err
	}
	return pushRulesContent(rules)
}

// pushRulesContent is the content of m.push_rules.
func pushRulesContent(rules *pushrule.RuleSet) (json.RawMessage, error) {
	return json.Marshal(map[string]*pushrule.RuleSet{"global": rules})
}

// Follow drops the rules that rows of the stream have changed, for the changes of other
// instances. r is a snapshot that has them.
func (d *Data) Follow(r *store.Read, rows []store.StreamRow) error {
	var since []userdb.UserSlot
	at := store.Position(0)
	for _, row := range rows {
		if row.Kind == store.KindAccountData {
			since = append(since, userdb.UserSlot{User: row.User(), Slot: row.First})
			at = row.Pos
		}
	}
	if len(since) == 0 {
		return nil
	}
	changed, err := userdb.RulesChanged(r, since)
	if err != nil {
		return fmt.Errorf("read whose push rules have changed: %w", err)
	}
	for _, user := range changed {
		userID, err := id.ParseUserID(user.UserID)
		if err != nil {
			return err
		}
		d.rules.kept.Drop(at, user.Num)
		if d.rooms != nil {
			d.rooms.FollowRules(userID)
		}
	}
	return nil
}

// Forget drops everything, because rows of the stream up to a position were missed.
func (d *Data) Forget(at store.Position) { d.rules.kept.Clear(at) }

// Ignored returns the users whose events the user does not want to see.
//
// Spec: client-server-api#ignoring-users
func (d *Data) Ignored(r *store.Read, user who.User) ([]id.UserID, error) {
	return readIgnored(r, user.UserNum)
}

func readIgnored(r *store.Read, user store.UserNum) ([]id.UserID, error) {
	row, err := userdb.AccountDataOf(r, user, "", TypeIgnoredUserList)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return ParseIgnored([]byte(row.Content)), nil
}

// ParseIgnored parses the content of m.ignored_user_list. It skips invalid user IDs;
// malformed content is an empty list.
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
