package history

import (
	"context"
	"errors"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// HideUnknown replaces the error for an unknown room by the refusal for users who are not
// in a room, so that a caller can't tell the two apart. It passes other errors on.
func HideUnknown(err error) error {
	if errors.Is(err, room.ErrUnknown) {
		return mxerr.Forbidden("You are not in this room").Because(err)
	}
	return err
}

// HideFrom replaces a refusal by the one for users who are not in a room, if the user may
// not know of the room: its existence and its state stay hidden. It passes other errors
// on.
func (rd *Reader) HideFrom(ctx context.Context, user id.UserID, roomID id.RoomID, refusal error) error {
	err := HideUnknown(refusal)
	if !mxerr.Is(err, mxerr.CodeForbidden) && !mxerr.Is(err, mxerr.CodeNotFound) && !mxerr.Is(err, mxerr.CodeBadState) {
		return err
	}
	knows := false
	look := rd.store.Read(ctx, func(read *store.Read) error {
		v, err := rd.Viewer(read, roomID, user)
		if err == nil && v.Membership() != event.MembershipBan && !v.EverJoined() {
			knows, err = v.MayFind()
		} else if err == nil {
			knows = true
		}
		return err
	})
	switch {
	case errors.Is(look, room.ErrUnknown):
	case look != nil:
		return look
	case knows:
		return err
	}
	return mxerr.Forbidden("You are not in this room").Because(refusal)
}

// MayLook refuses users who may not look at a room, with the error that all reads give.
//
// Errors: M_FORBIDDEN, M_NOT_FOUND.
func (rd *Reader) MayLook(ctx context.Context, viewer id.UserID, roomID id.RoomID) error {
	return rd.look(ctx, roomID, viewer, func(*Viewer) error { return nil })
}

// IsWorldReadable reports whether anybody may read the room now.
func (v *Viewer) IsWorldReadable() bool {
	return after(v.visibilities, v.Room.Slot) == visibilityWorldReadable
}

// Powers returns the power levels of the room now.
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

// MaySend reports whether the viewer is in the room and has the power to send events of a
// type.
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

// State returns the existing entries of the current state with the given types and an
// empty state key.
func (v *Viewer) State(types ...string) (map[string]*event.PDU, error) {
	state := make(map[string]*event.PDU, len(types))
	for _, evType := range types {
		pdu, err := v.currentPDU(evType, "")
		if err != nil {
			return nil, err
		}
		if pdu != nil {
			state[evType] = pdu
		}
	}
	return state, nil
}

// MayFind reports whether a user outside the room may know of it: they are invited, could
// join or knock, or anybody may read it. Members may know of it anyway.
//
// Spec: client-server-api#get_matrixclientv1room_summaryroomidoralias
func (v *Viewer) MayFind() (bool, error) {
	switch v.Membership() {
	case event.MembershipJoin, event.MembershipInvite, event.MembershipKnock:
		return true, nil
	case event.MembershipBan:
		return v.IsWorldReadable(), nil
	}
	if v.IsWorldReadable() {
		return true, nil
	}
	pdu, err := v.currentPDU(event.TypeJoinRules, "")
	if err != nil || pdu == nil {
		return false, err
	}
	rule, err := pdu.JoinRules()
	if err != nil {
		return false, nil // unreadable rules admit nobody
	}
	switch rule.JoinRule {
	case event.JoinRulePublic, event.JoinRuleKnock, event.JoinRuleKnockRestricted:
		return true, nil
	case event.JoinRuleRestricted:
		if v.User.IsZero() {
			return false, nil
		}
		return roomdb.IsMemberOfAny(v.rd.store, v.read, v.User.String(), rule.AllowedRooms())
	}
	return false, nil
}

// StateOfType returns all entries of the current state of a type other than
// m.room.member.
func (v *Viewer) StateOfType(evType string) ([]*event.PDU, error) {
	views, err := v.stateAt(v.Room.Slot, true)
	if err != nil {
		return nil, err
	}
	var found []*event.PDU
	for i := range views {
		if views[i].PDU.Type() == evType {
			found = append(found, views[i].Shown())
		}
	}
	return found, nil
}

// Predecessor returns the room that a room claims to replace; zero if it claims none, or
// if the user was never in that one.
//
// Spec: client-server-api#room-upgrades
func (rd *Reader) Predecessor(ctx context.Context, user id.UserID, roomID id.RoomID) (predecessor id.RoomID, err error) {
	err = rd.store.Read(ctx, func(read *store.Read) error {
		v, err := rd.Viewer(read, roomID, user)
		if err != nil {
			return err
		}
		create, err := v.currentPDU(event.TypeCreate, "")
		if err != nil || create == nil {
			return err
		}
		named, _ := canonicaljson.String(canonicaljson.Get(canonicaljson.Get(create.Content(), "predecessor"), "room_id"))
		old, err := id.ParseRoomID(named)
		if err != nil {
			return nil // it claims none
		}
		before, err := rd.Viewer(read, old, user)
		if errors.Is(err, room.ErrUnknown) {
			return nil
		}
		if err == nil && before.EverJoined() {
			predecessor = old
		}
		return err
	})
	return predecessor, err
}
