package account

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"stoa/internal/reader"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/mediadb"
	"stoa/internal/store/userdb"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// The profile fields of the specification.
//
// Spec: client-server-api#profiles
const (
	FieldDisplayName = "displayname"
	FieldAvatarURL   = "avatar_url"
	FieldTimeZone    = "m.tz"
)

const (
	// MaxProfileBytes bounds a whole profile, as a JSON object.
	MaxProfileBytes = 64 << 10
	// MaxProfileKey bounds the name of a field.
	MaxProfileKey = 255
)

// Profile is a user's profile: JSON values by field name.
type Profile map[string]json.RawMessage

// Directory reads the profiles of local users. It is separate from Accounts because
// Accounts needs the rooms, which need profiles.
type Directory struct{ Store *store.Store }

// Profile returns the part of a profile that member events contain. Users without an
// account have an empty profile.
func (d Directory) Profile(ctx context.Context, user id.UserID) (room.Profile, error) {
	p, err := d.fields(ctx, user)
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	if err != nil {
		return room.Profile{}, fmt.Errorf("profile of %s: %w", user, err)
	}
	return room.Profile{DisplayName: p.text(FieldDisplayName), AvatarURL: p.text(FieldAvatarURL)}, nil
}

func (d Directory) fields(ctx context.Context, user id.UserID) (Profile, error) {
	out := Profile{}
	err := d.Store.Read(ctx, func(r *store.Read) error {
		account, err := userdb.AccountByID(r, user.String())
		if err != nil {
			return err
		}
		fields, err := userdb.Profile(r, account.User)
		for _, f := range fields {
			out[f.Name] = json.RawMessage(f.Value)
		}
		return err
	})
	return out, err
}

// Profile returns the whole profile of a local user; M_NOT_FOUND if there is no
// such user.
func (a *Accounts) Profile(ctx context.Context, user id.UserID) (Profile, error) {
	out, err := Directory{a.store}.fields(ctx, user)
	if errors.Is(err, store.ErrNotFound) {
		return nil, mxerr.NotFound("Profile not found")
	}
	return out, err
}

// ProfileField returns one field of a local user's profile; M_NOT_FOUND if it
// is not set or there is no such user.
func (a *Accounts) ProfileField(ctx context.Context, user id.UserID, field string) (json.RawMessage, error) {
	if err := checkField(field); err != nil {
		return nil, err
	}
	var value string
	err := a.store.Read(ctx, func(r *store.Read) error {
		account, err := userdb.AccountByID(r, user.String())
		if err == nil {
			value, err = userdb.ProfileFieldOf(r, account.User, field)
		}
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, mxerr.NotFound("Profile field not found")
	}
	return json.RawMessage(value), err
}

// text returns a field that is a string, else "".
func (p Profile) text(field string) string {
	var s string
	if raw, ok := p[field]; !ok || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// checkField checks the name of a field.
//
// Spec: appendices#common-namespaced-identifier-grammar
func checkField(field string) error {
	if len(field) > MaxProfileKey {
		return mxerr.KeyTooLarge("A profile key must not be longer than %d bytes", MaxProfileKey)
	}
	if field == FieldDisplayName || field == FieldAvatarURL || id.IsNamespaced(field) && strings.Contains(field, ".") {
		return nil
	}
	return mxerr.InvalidParam("Invalid profile key")
}

// checkValue checks a field whose type the specification defines. An avatar need not be
// an MXC URI, since clients set others; those are just not shown.
func checkValue(field string, value json.RawMessage) error {
	switch field {
	case FieldDisplayName, FieldAvatarURL, FieldTimeZone:
		var s *string
		if json.Unmarshal(value, &s) != nil || s == nil {
			return mxerr.BadJSON("%s must be a string", field)
		}
		if len(*s) > maxMemberField {
			return mxerr.InvalidParam("%s must not be longer than %d bytes", field, maxMemberField)
		}
	}
	return nil
}

// maxMemberField bounds the fields that every member event contains.
const maxMemberField = 1000

// SetProfileField sets one field to a JSON value, and enqueues an update of the rooms if
// member events contain it. Setting the display name or the avatar to "" deletes it:
// clients did that before fields could be deleted.
//
// Errors: M_INVALID_PARAM, M_KEY_TOO_LARGE, M_BAD_JSON, M_PROFILE_TOO_LARGE.
//
// Spec: client-server-api#profiles
func (a *Accounts) SetProfileField(ctx context.Context, user id.UserID, num store.UserNum, field string, value json.RawMessage) error {
	if err := checkField(field); err != nil {
		return err
	}
	if err := checkValue(field, value); err != nil {
		return err
	}
	if (field == FieldDisplayName || field == FieldAvatarURL) && string(value) == `""` {
		return a.DeleteProfileField(ctx, user, num, field)
	}
	return a.changeProfile(ctx, user, num, field, func(p Profile, c *store.Change) error {
		p[field] = value
		if p.size() >= MaxProfileBytes {
			return mxerr.ProfileTooLarge("A profile must be smaller than %d bytes", MaxProfileBytes)
		}
		userdb.SetProfileField(c, num, field, string(value))
		return nil
	})
}

// size is the length of the profile as a JSON object.
func (p Profile) size() int {
	n := 2
	for field, value := range p {
		n += len(field) + len(value) + 4
	}
	return n
}

// DeleteProfileField deletes one field, if it exists.
//
// Spec: client-server-api#profiles
func (a *Accounts) DeleteProfileField(ctx context.Context, user id.UserID, num store.UserNum, field string) error {
	if err := checkField(field); err != nil {
		return err
	}
	return a.changeProfile(ctx, user, num, field, func(p Profile, c *store.Change) error {
		if _, ok := p[field]; ok {
			delete(p, field)
			userdb.DeleteProfileField(c, num, field)
		}
		return nil
	})
}

// changeProfile commits the change that fill makes of the current profile. The user's
// head fences it, so that two concurrent changes can't exceed the limit. A job of the
// same commit updates the rooms.
func (a *Accounts) changeProfile(ctx context.Context, user id.UserID, num store.UserNum, field string, fill func(Profile, *store.Change) error) error {
	shown := field == FieldDisplayName || field == FieldAvatarURL
	show := room.ProfileJob(user)
	err := a.Change(ctx, num, func(r *store.Read, c *store.Change) error {
		fields, err := userdb.Profile(r, num)
		if err != nil {
			return err
		}
		now := make(Profile, len(fields)+1)
		for _, f := range fields {
			now[f.Name] = json.RawMessage(f.Value)
		}
		before := maps.Clone(now)
		if err := fill(now, c); err != nil || c.Empty() {
			return err
		}
		mediadb.ReplaceNames(c, a.server.String(), mediadb.ProfileSource(num, field), before[field], now[field])
		c.ActiveUser(num) // an erased profile must not return
		if field == FieldDisplayName {
			userdb.SetWords(c, num, searchWords(user, now.text(FieldDisplayName)))
		}
		if !shown {
			return nil
		}
		return reader.Enqueue(c, show)
	})
	if err != nil {
		return fmt.Errorf("change profile of %s: %w", user, err)
	}
	if shown {
		a.awaitRooms(ctx, show)
	}
	return nil
}
