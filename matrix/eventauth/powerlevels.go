package eventauth

import (
	"errors"

	"stoa/matrix/event"
	"stoa/matrix/id"
)

// checkPowerLevels is the rule on m.room.power_levels.
//
// Spec: rooms/v1#authorisation-rules, rooms/v6#authorisation-rules, rooms/v10#authorisation-rules,
// rooms/v12#authorisation-rules
func (c *check) checkPowerLevels() Verdict {
	levels, err := c.ev.PowerLevels()
	if err != nil {
		return c.rejectf(c.malformedLevels(err), "%v", err)
	}
	for _, user := range c.powers().Creators() {
		if _, named := levels.Users[user]; named {
			return c.rejectf(rulePowerLevelsCreators, "the levels name %s, who is a creator", user)
		}
	}
	previous := c.entry(event.TypePowerLevels, "")
	if previous == nil {
		return c.allow(rulePowerLevelsFirst)
	}
	old, err := previous.PowerLevels()
	if err != nil {
		old = &event.PowerLevels{} // only creators get here, and may mend it
	}
	if verdict, ok := c.checkDefaults(old, levels); !ok {
		return verdict
	}
	if verdict, ok := c.checkMaps(old, levels); !ok {
		return verdict
	}
	if verdict, ok := c.checkUsers(old, levels); !ok {
		return verdict
	}
	return c.allow(rulePowerLevelsAllow)
}

// malformedLevels returns the rule that content which can't be read breaks. Room versions that have no rule for a property
// reject it by the one on users.
func (c *check) malformedLevels(err error) rule {
	r := rulePowerLevelsUsers
	var content *event.ContentError
	if errors.As(err, &content) {
		switch content.Field {
		case "users":
		case "events", "notifications":
			r = rulePowerLevelsMaps
		default:
			r = rulePowerLevelsProperties
		}
	}
	if c.numbers[r] == "" {
		return rulePowerLevelsUsers
	}
	return r
}

func (c *check) checkDefaults(old, levels *event.PowerLevels) (Verdict, bool) {
	have := c.level(c.ev.Sender())
	for _, d := range []struct {
		name    string
		current event.Level
		new     event.Level
	}{
		{"users_default", old.UsersDefault, levels.UsersDefault},
		{"events_default", old.EventsDefault, levels.EventsDefault},
		{"state_default", old.StateDefault, levels.StateDefault},
		{"ban", old.Ban, levels.Ban},
		{"redact", old.Redact, levels.Redact},
		{"kick", old.Kick, levels.Kick},
		{"invite", old.Invite, levels.Invite},
	} {
		if d.current == d.new {
			continue
		}
		if d.current.Present && Level(d.current.Value) > have {
			return c.rejectf(rulePowerLevelsDefaultsCurrent,
				"the sender has power level %v and cannot change %s, which is %d", have, d.name, d.current.Value), false
		}
		if d.new.Present && Level(d.new.Value) > have {
			return c.rejectf(rulePowerLevelsDefaultsNew,
				"the sender has power level %v and cannot set %s to %d", have, d.name, d.new.Value), false
		}
	}
	return Verdict{}, true
}

func (c *check) checkMaps(old, levels *event.PowerLevels) (Verdict, bool) {
	type property struct {
		name         string
		current, new map[string]int64
	}
	properties := []property{{"events", old.Events, levels.Events}}
	if c.ev.Rules().NotificationLevels {
		properties = append(properties, property{"notifications", old.Notifications, levels.Notifications})
	}
	have := c.level(c.ev.Sender())
	itself := func(key string) string { return key }
	higher := func(_ string, level Level) bool { return level > have }
	for _, m := range properties {
		if key, level, found := firstChange(m.current, m.new, itself, higher); found {
			return c.rejectf(rulePowerLevelsMapsCurrentHigher,
				"the sender has power level %v and cannot change %s of %s, which is %d", have, m.name, key, level), false
		}
	}
	for _, m := range properties {
		if key, level, found := firstChange(m.new, m.current, itself, higher); found {
			return c.rejectf(rulePowerLevelsMapsNewHigher,
				"the sender has power level %v and cannot set %s of %s to %d", have, m.name, key, level), false
		}
	}
	return Verdict{}, true
}

func (c *check) checkUsers(old, levels *event.PowerLevels) (Verdict, bool) {
	sender := c.ev.Sender()
	have := c.level(sender)
	asHigh := func(user id.UserID, level Level) bool { return user != sender && level >= have }
	if user, level, found := firstChange(old.Users, levels.Users, id.UserID.String, asHigh); found {
		return c.rejectf(rulePowerLevelsUsersCurrentHigher,
			"the sender has power level %v and cannot change that of %s, which is %d", have, user, level), false
	}
	higher := func(_ id.UserID, level Level) bool { return level > have }
	if user, level, found := firstChange(levels.Users, old.Users, id.UserID.String, higher); found {
		return c.rejectf(rulePowerLevelsUsersNewHigher,
			"the sender has power level %v and cannot give %s %d", have, user, level), false
	}
	return Verdict{}, true
}

// firstChange finds a forbidden entry of one map that the other lacks or has otherwise; of several, the first by name, so
// that verdicts do not depend on chance.
func firstChange[K comparable](
	levels, other map[K]int64, name func(K) string, forbidden func(K, Level) bool,
) (first string, level int64, found bool) {
	for key, value := range levels {
		if same, ok := other[key]; ok && same == value || !forbidden(key, Level(value)) {
			continue
		}
		if n := name(key); !found || n < first {
			first, level, found = n, value, true
		}
	}
	return first, level, found
}
