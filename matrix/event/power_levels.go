package event

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/id"
)

// Default levels of a room that has an m.room.power_levels.
//
// Spec: client-server-api#mroompower_levels
const (
	DefaultBanLevel    = 50
	DefaultKickLevel   = 50
	DefaultRedactLevel = 50
	DefaultStateLevel  = 50
	DefaultRoomLevel   = 50 // notifications.room
	DefaultInviteLevel = 0
	DefaultEventsLevel = 0
	DefaultUsersLevel  = 0
)

// Level is a level that may be missing.
type Level struct {
	Value   int64
	Present bool
}

// Or returns the level, or a default if it is missing.
func (l Level) Or(missing int64) int64 {
	if l.Present {
		return l.Value
	}
	return missing
}

// PowerLevels is the content of m.room.power_levels. The zero value is a room whose content gives no level.
//
// Spec: client-server-api#mroompower_levels
type PowerLevels struct {
	Ban, Invite, Kick, Redact                 Level
	UsersDefault, EventsDefault, StateDefault Level
	// Users are the levels of users. Before room version 12 creators are among them.
	Users map[id.UserID]int64
	// Events are the levels of event types.
	Events map[string]int64
	// Notifications are the levels of kinds of notification; "room" is the one in use.
	Notifications map[string]int64
}

// User returns the level of a user, creators of room version 12 apart.
func (l *PowerLevels) User(user id.UserID) int64 {
	if level, ok := l.Users[user]; ok {
		return level
	}
	return l.UsersDefault.Or(DefaultUsersLevel)
}

// Required returns the level that an event of a type needs.
//
// Spec: server-server-api#definitions
func (l *PowerLevels) Required(evType string, isState bool) int64 {
	if level, ok := l.Events[evType]; ok {
		return level
	}
	if isState {
		return l.StateDefault.Or(DefaultStateLevel)
	}
	return l.EventsDefault.Or(DefaultEventsLevel)
}

// Notification returns the level that a kind of notification needs.
func (l *PowerLevels) Notification(kind string) int64 {
	if level, ok := l.Notifications[kind]; ok {
		return level
	}
	return DefaultRoomLevel
}

// PowerLevels reads the content of an m.room.power_levels. It errs with *ContentError if a level is none for the room version, if
// `users`, `events` or `notifications` is no object, or if a key of `users` is no user ID: the auth rules reject such events.
// Before room version 6 they don't look at `notifications`; if that is wrong there, it gives no levels.
func (p *PDU) PowerLevels() (*PowerLevels, error) { return memo(p, readPowerLevels) }

func readPowerLevels(p *PDU) (*PowerLevels, error) {
	l := &PowerLevels{}
	err := canonicaljson.Object(p.content, func(key string, value []byte) (err error) {
		var single *Level
		switch key {
		case "ban":
			single = &l.Ban
		case "invite":
			single = &l.Invite
		case "kick":
			single = &l.Kick
		case "redact":
			single = &l.Redact
		case "users_default":
			single = &l.UsersDefault
		case "events_default":
			single = &l.EventsDefault
		case "state_default":
			single = &l.StateDefault
		case "users":
			l.Users, err = readLevels(p, key, value, func(name string) (id.UserID, bool) {
				user, err := id.ParseUserID(name)
				return user, err == nil
			})
		case "events":
			l.Events, err = readLevels(p, key, value, anyName)
		case "notifications":
			// Room versions before 6 don't look at it, so whatever it is, the event is no worse for it.
			if l.Notifications, err = readLevels(p, key, value, anyName); !p.rules.NotificationLevels {
				err = nil
			}
		}
		if single != nil {
			level, ok := readLevel(p.rules.IntegerPowerLevels, value)
			if !ok {
				return p.contentError(key, "it is no level")
			}
			*single = Level{level, true}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

func anyName(name string) (string, bool) { return name, true }

func readLevels[K comparable](p *PDU, field string, value []byte, name func(string) (K, bool)) (map[K]int64, error) {
	if !canonicaljson.IsObject(value) {
		return nil, p.contentError(field, "it is no object")
	}
	levels := make(map[K]int64)
	err := canonicaljson.Object(value, func(key string, value []byte) error {
		k, ok := name(key)
		if !ok {
			return p.contentError(field, "it has a key that is no user ID")
		}
		level, ok := readLevel(p.rules.IntegerPowerLevels, value)
		if !ok {
			return p.contentError(field, "it has a value that is no level")
		}
		levels[k] = level
		return nil
	})
	if err != nil {
		return nil, err
	}
	return levels, nil
}

// readLevel reads a level: an integer, or in room versions before 10 also a string with an integer in it, or a float, which is
// cut at its point.
//
// Spec: rooms/v1#deprecated-event-content-schemas
func readLevel(integersOnly bool, value []byte) (int64, bool) {
	if level, ok := canonicaljson.Int(value); ok {
		return level, true
	}
	if integersOnly || len(value) == 0 {
		return 0, false
	}
	if s, ok := canonicaljson.String(value); ok {
		level, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
		return level, err == nil || errors.Is(err, strconv.ErrRange) // then it is the nearest that has room
	}
	if c := value[0]; c != '-' && (c < '0' || c > '9') {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(value), 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return 0, false
	}
	return truncate(f), true
}

// truncate cuts a float at its point; what has no room in 64 bits becomes the nearest that has.
func truncate(f float64) int64 {
	switch f = math.Trunc(f); {
	case f >= math.MaxInt64:
		return math.MaxInt64
	case f <= math.MinInt64:
		return math.MinInt64
	}
	return int64(f)
}
