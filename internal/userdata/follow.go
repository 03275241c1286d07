package userdata

import (
	"context"
	"fmt"

	"stoa/internal/store"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/pushrule"
)

// FollowUpgrade gives a user who has come into the replacement of a room what they
// had set for the old one: push rules and tags. What they have for the new room
// already stays.
//
// Spec: client-server-api#room-upgrades
func (d *Data) FollowUpgrade(ctx context.Context, user who.User, from, to id.RoomID) error {
	var copies bool
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
		own, err = loadTags(r, user, to)
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
