package room

import (
	"errors"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/event"
	"stoa/matrix/id"
)

// storedMembership is the number of a membership; 0 for an unknown one.
func storedMembership(membership string) roomdb.Membership {
	switch membership {
	case event.MembershipJoin:
		return roomdb.Join
	case event.MembershipInvite:
		return roomdb.Invite
	case event.MembershipLeave:
		return roomdb.Leave
	case event.MembershipBan:
		return roomdb.Ban
	case event.MembershipKnock:
		return roomdb.Knock
	}
	return 0
}

// moveMember writes the effects of a change of membership: the counts of the room, and
// the row of a local user, which wakes the user's streams.
func (t *turn) moveMember(stateKey string, before, after *entry, change *StateChange) error {
	was, is := membershipOf(before), membershipOf(after)
	user, err := id.ParseUserID(stateKey)
	if err != nil {
		return nil // the rules forbid such an event, but old rooms may have one
	}
	local := t.rs.isLocal(user)
	if was != is {
		t.countMember(user, was, -1, local)
		t.countMember(user, is, 1, local)
	}
	if !local {
		return nil
	}
	num, err := t.userNum(user)
	if err != nil {
		return err
	}
	change.User = num
	if was == event.MembershipJoin && is == event.MembershipJoin {
		return nil // only the name or avatar changed
	}
	row := roomdb.RoomMembership{
		User: num, Room: t.row.Num, Membership: storedMembership(is), Slot: change.Slot, Event: after.num,
		Forgotten: t.rs.opt.ForgetUponLeave && (is == event.MembershipLeave || is == event.MembershipBan),
	}
	if after.pdu == nil { // state resolution removed the membership
		row.Membership = roomdb.Leave
	}
	if is == event.MembershipInvite || is == event.MembershipKnock {
		if row.Stripped, err = t.strippedState(after.pdu); err != nil {
			return err
		}
	}
	roomdb.SetMembership(t.change, row)
	return nil
}

// userNum returns the number of a local user.
func (t *turn) userNum(user id.UserID) (store.UserNum, error) {
	if t.read != nil {
		num, err := t.rs.store.UserNum(t.read, user.String())
		if !errors.Is(err, store.ErrNotFound) {
			return num, err
		}
	}
	return t.rs.userNum(t.ctx, user)
}

func (t *turn) countMember(user id.UserID, membership string, by int64, local bool) {
	switch membership {
	case event.MembershipJoin:
		t.row.Joined += by
		if local {
			t.row.LocalJoined += by
		}
		roomdb.CountServer(t.change, t.row.Num, user.ServerName().String(), int(by))
	case event.MembershipInvite:
		t.row.Invited += by
	}
}

func membershipOf(e *entry) string {
	if e.pdu == nil {
		return ""
	}
	return e.pdu.Membership()
}

// strippedTypes are the state events that describe a room to a user outside it.
//
// Spec: client-server-api#stripped-state
var strippedTypes = [...]string{
	event.TypeCreate, event.TypeName, event.TypeAvatar, event.TypeTopic, event.TypeJoinRules, event.TypeCanonicalAlias, event.TypeEncryption,
}

// strippedState returns the state that an invited or knocking user sees: a JSON list that
// ends with the member event of the sender and the member event itself.
func (t *turn) strippedState(member *event.PDU) (string, error) {
	list := []byte{'['}
	add := func(pdu *event.PDU) {
		if pdu != nil {
			if len(list) > 1 {
				list = append(list, ',')
			}
			list = append(list, event.StrippedState(pdu)...)
		}
	}
	for _, evType := range strippedTypes {
		pdu, err := t.Event(evType, "")
		if err != nil {
			return "", err
		}
		add(pdu)
	}
	if sender := member.Sender().String(); !member.Is(event.TypeMember, sender) {
		pdu, err := t.Event(event.TypeMember, sender)
		if err != nil {
			return "", err
		}
		add(pdu)
	}
	add(member)
	return string(append(list, ']')), nil
}
