package room

import (
	"errors"

	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/mxerr"
)

// HideUnknown makes of "there is no such room" the refusal that somebody who is not
// in a room gets, so that the two can't be told apart. Other errors stay.
func HideUnknown(err error) error {
	if errors.Is(err, errUnknownRoom) {
		return mxerr.Forbidden("You are not in this room").Because(err)
	}
	return err
}

// IsWorldReadable says whether anybody may read the room now.
func (v *Viewer) IsWorldReadable() bool {
	return after(v.visibilities, v.Room.Slot) == visibilityWorldReadable
}

// Powers are the powers in the room now.
func (v *Viewer) Powers() (*eventauth.Powers, error) {
	create, err := v.currentPDU(event.TypeCreate, "")
	if err != nil {
		return nil, err
	}
	levels, err := v.currentPDU(event.TypePowerLevels, "")
	if err != nil {
		return nil, err
	}
	return eventauth.NewPowers(create, levels), nil
}

// MaySend says whether the viewer is in the room with the power to send events of
// a type.
func (v *Viewer) MaySend(evType string, isState bool) (bool, error) {
	if v.Membership() != event.MembershipJoin {
		return false, nil
	}
	powers, err := v.Powers()
	if err != nil {
		return false, err
	}
	return powers.User(v.User) >= powers.Event(evType, isState), nil
}
