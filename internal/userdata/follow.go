package userdata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/pushrule"
)

// FollowUpgrade copies a user's settings of a room to its replacement, which the user has
// joined: push rules, tags, and whether it is a direct chat. Existing settings of the new
// room stay.
//
// Spec: client-server-api#room-upgrades
func (d *Data) FollowUpgrade(ctx context.Context, user who.User, from, to id.RoomID) error {
	var copies, isDirect bool
	var old, own tagContent
	err := d.store.Read(ctx, func(r *store.Read) error {
		rules, err := loadRules(r, user)
		if err != nil {
			return err
		}
		copies = rules.CopyRoom(from, to) != rules
		if old, err = loadTags(r, user, from); err != nil {
			return err
		}
		if own, err = loadTags(r, user, to); err != nil {
			return err
		}
		direct, err := withDirect(r, user, from, to)
		isDirect = direct != nil
		return err
	})
	if err != nil {
		return fmt.Errorf("settings of %s for %s: %w", user.UserID, from, err)
	}
	if copies {
		err := d.ChangePushRules(ctx, user, func(rules *pushrule.RuleSet) (*pushrule.RuleSet, error) {
			return rules.CopyRoom(from, to), nil
		})
		if err != nil {
			return err
		}
	}
	if isDirect {
		_, err := d.change(ctx, "add to m.direct", user, func(r *store.Read, c *store.Change) error {
			direct, err := withDirect(r, user, from, to)
			if err == nil && direct != nil {
				userdb.PutAccountData(c, user.UserNum, "", typeDirect, string(direct))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if len(own.Tags) > 0 {
		return nil
	}
	for tag, info := range old.Tags {
		if err := d.SetTag(ctx, user, to, tag, info); err != nil {
			return err
		}
	}
	return nil
}

// typeDirect lists the direct chats by user.
//
// Spec: client-server-api#mdirect
const typeDirect = "m.direct"

// withDirect returns the user's m.direct with a room added beside another one; nil if
// there is nothing to add. It leaves content of another form unchanged.
func withDirect(r *store.Read, user who.User, from, to id.RoomID) (json.RawMessage, error) {
	row, err := userdb.AccountDataOf(r, user.UserNum, "", typeDirect)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var direct map[string]json.RawMessage
	if json.Unmarshal([]byte(row.Content), &direct) != nil {
		return nil, nil
	}
	changed := false
	for person, raw := range direct {
		var rooms []string
		if json.Unmarshal(raw, &rooms) != nil || !slices.Contains(rooms, from.String()) || slices.Contains(rooms, to.String()) {
			continue
		}
		if direct[person], err = json.Marshal(append(rooms, to.String())); err != nil {
			return nil, err
		}
		changed = true
	}
	if !changed {
		return nil, nil
	}
	return json.Marshal(direct)
}
