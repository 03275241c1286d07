package eventauth

import (
	"errors"
	"math"
	"strconv"

	"stoa/matrix/event"
	"stoa/matrix/id"
)

// Level is a power level.
type Level int64

// Infinite is the power level of creators where creators are privileged.
//
// Spec: rooms/v12#authorisation-rules
const Infinite Level = math.MaxInt64

// creatorLevel is the creator's power level in a room without m.room.power_levels, where creators are not privileged.
//
// Spec: client-server-api#mroompower_levels
const creatorLevel Level = 100

func (l Level) String() string {
	if l == Infinite {
		return "infinite"
	}
	return strconv.FormatInt(int64(l), 10)
}

// Powers are the power levels of a room in one state, creators and defaults included.
//
// Spec: client-server-api#mroompower_levels, server-server-api#definitions
type Powers struct {
	levels event.PowerLevels
	// privileged has infinite power, alone has creatorLevel: the content of the create event, or nil.
	privileged, alone *event.Create
	// malformed: the room's power levels can't be read. No room gets there by the rules. Only privileged creators have power.
	malformed bool
}

// NewPowers reads the power levels off a state's m.room.create and m.room.power_levels; either may be nil, if the state has
// none.
func NewPowers(create, powerLevels *event.PDU) *Powers {
	p := &Powers{}
	if create != nil {
		content, err := create.Create()
		switch {
		case err != nil: // no rule lets such an event create a room
		case create.Rules().CreatorsPrivileged:
			p.privileged = content
		case powerLevels == nil:
			p.alone = content
		}
	}
	if powerLevels != nil {
		levels, err := powerLevels.PowerLevels()
		if err != nil {
			p.malformed = true
		} else {
			p.levels = *levels
		}
	}
	return p
}

// PowersOf reads the power levels off a state. The error is a fault of the state.
func PowersOf(state State) (*Powers, error) {
	create, errCreate := state.Event(event.TypeCreate, "")
	powerLevels, errLevels := state.Event(event.TypePowerLevels, "")
	if err := errors.Join(errCreate, errLevels); err != nil {
		return nil, err
	}
	return NewPowers(create, powerLevels), nil
}

// User returns a user's level.
func (p *Powers) User(user id.UserID) Level {
	switch {
	case p.privileged != nil && p.privileged.IsCreator(user):
		return Infinite
	case p.alone != nil && p.alone.IsCreator(user):
		return creatorLevel
	}
	return Level(p.levels.User(user))
}

// Creators are the users with infinite power; none where creators are not privileged.
func (p *Powers) Creators() []id.UserID {
	if p.privileged == nil {
		return nil
	}
	return append([]id.UserID{p.privileged.Creator}, p.privileged.AdditionalCreators...)
}

// user is User for what may be no user ID: the state key of a membership.
func (p *Powers) user(name string) Level {
	user, err := id.ParseUserID(name)
	if err != nil {
		return Level(p.levels.UsersDefault.Or(event.DefaultUsersLevel))
	}
	return p.User(user)
}

// Event returns the required power level of an event type.
func (p *Powers) Event(eventType string, isState bool) Level {
	return p.required(p.levels.Required(eventType, isState))
}

// Invite returns the invite level.
func (p *Powers) Invite() Level { return p.required(p.levels.Invite.Or(event.DefaultInviteLevel)) }

// Kick returns the kick level.
func (p *Powers) Kick() Level { return p.required(p.levels.Kick.Or(event.DefaultKickLevel)) }

// Ban returns the ban level.
func (p *Powers) Ban() Level { return p.required(p.levels.Ban.Or(event.DefaultBanLevel)) }

// Redact returns the redact level.
func (p *Powers) Redact() Level { return p.required(p.levels.Redact.Or(event.DefaultRedactLevel)) }

// Notification returns the level that a kind of notification needs, "room" say.
func (p *Powers) Notification(kind string) Level {
	return p.required(p.levels.Notification(kind))
}

func (p *Powers) required(level int64) Level {
	if p.malformed {
		return Infinite
	}
	return Level(level)
}

// UserLevel returns a user's level by a create and a power levels event, either of which may be nil.
func UserLevel(create, powerLevels *event.PDU, user id.UserID) Level {
	return NewPowers(create, powerLevels).User(user)
}

// MayRedact says whether a redaction is applied to its target: the sender has the redact level, or both events come from
// the same server. That it is authorised is another question (Check), and the only one in the room versions that have an
// auth rule for redactions.
//
// Spec: rooms/v3#handling-redactions
func MayRedact(powers *Powers, redaction, target *event.PDU) bool {
	return redaction.Rules().RedactionAuthRule ||
		powers.User(redaction.Sender()) >= powers.Redact() ||
		redaction.Sender().ServerName() == target.Sender().ServerName()
}
