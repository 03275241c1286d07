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

// HideUnknown makes of "there is no such room" the refusal that somebody who is not
// in a room gets, so that the two can't be told apart. Other errors stay.
func HideUnknown(err error) error {
	if errors.Is(err, room.ErrUnknown) {
		return mxerr.Forbidden("You are not in this room").Because(err)
	}
	return err
}

// HideFrom makes of a refusal the one that somebody who is not in a room gets, if the user may not know of the room: whether
// it is there, and what is the case in it, can't be told. Other errors stay.
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

// MayLook refuses those who may not look at a room, as all reads do.
//
// Errors: M_FORBIDDEN, M_NOT_FOUND.
func (rd *Reader) MayLook(ctx context.Context, viewer id.UserID, roomID id.RoomID) error {
	return rd.look(ctx, roomID, viewer, func(*Viewer) error { return nil })
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

// State gives the entries of the current state with an empty state key that are
// there.
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

// MayFind says whether the viewer may know of the room without being in it: they
// are in it or invited, could join or knock, or anybody may read it.
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
		return false, nil // rules that can not be read let nobody in
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

// StateOfType gives the entries of the current state of a type, which is not that
// of members.
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

// Predecessor is the room that a room replaces, by its own word; zero if it names
// none or the user was never in that one.
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
			return nil // it names none
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
