package push

import (
	"errors"
	"fmt"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/pushrule"
	"stoa/matrix/roomversion"
)

// roomView is a room in one snapshot, as far as notifications show it and push rules look at it.
type roomView struct {
	store *store.Store
	read  *store.Read
	row   store.Room
	id    id.RoomID
	rules *roomversion.Rules
	kept  map[store.Pair]*event.PDU // state that was looked up
}

// errSkip says that an event, or its room, is of no use: it is gone, or of a release that this one does not know.
var errSkip = errors.New("push: nothing to notify of")

// openRoom reads a room.
func openRoom(s *store.Store, r *store.Read, num store.RoomNum) (*roomView, error) {
	row, err := roomdb.RoomByNum(r, num)
	if errors.Is(err, store.ErrNotFound) {
		return nil, errSkip
	}
	if err != nil {
		return nil, fmt.Errorf("read room number %d: %w", num, err)
	}
	rules, ok := roomversion.Of(row.Version)
	if !ok {
		return nil, errSkip
	}
	roomID, err := id.ParseRoomID(row.RoomID)
	if err != nil {
		return nil, fmt.Errorf("room number %d: %w", num, err)
	}
	return &roomView{store: s, read: r, row: row, id: roomID, rules: rules, kept: map[store.Pair]*event.PDU{}}, nil
}

// Event implements eventauth.State with the current state.
func (v *roomView) Event(evType, stateKey string) (*event.PDU, error) {
	pair := store.Pair{Type: evType, StateKey: stateKey}
	if pdu, known := v.kept[pair]; known {
		return pdu, nil
	}
	keys, err := v.store.KeyNums(v.read, []store.Pair{pair})
	if err != nil {
		return nil, err
	}
	v.kept[pair] = nil
	if keys[0] == 0 {
		return nil, nil
	}
	num, err := roomdb.CurrentKey(v.read, v.row.Num, keys[0])
	if err != nil || num == 0 {
		return nil, err
	}
	stored, err := roomdb.EventByNum(v.read, num)
	if err != nil {
		return nil, fmt.Errorf("read event number %d: %w", num, err)
	}
	v.kept[pair], err = v.parse(stored.EventID, stored.Bytes)
	return v.kept[pair], err
}

func (v *roomView) parse(eventID string, bytes []byte) (*event.PDU, error) {
	parsed, err := id.ParseEventID(eventID)
	if err != nil {
		return nil, fmt.Errorf("stored event %q: %w", eventID, err)
	}
	return event.Load(v.rules, parsed, bytes)
}

// text is a text in the content of a state event; "" for none.
func (v *roomView) text(evType, stateKey, key string) (string, error) {
	pdu, err := v.Event(evType, stateKey)
	if err != nil || pdu == nil {
		return "", err
	}
	text, _ := canonicaljson.String(canonicaljson.Get(pdu.Content(), key))
	return text, nil
}

// displayName is the name of a member; "" for none.
func (v *roomView) displayName(user id.UserID) (string, error) {
	return v.text(event.TypeMember, user.String(), "displayname")
}

// facts are what push rules see of the room. fault receives errors of reads.
func (v *roomView) facts(sender id.UserID, fault *error) pushrule.Facts {
	return pushrule.Facts{MemberCount: int(v.row.Joined), MayNotify: func(key string) bool {
		powers, err := eventauth.PowersOf(v)
		if err != nil {
			*fault = errors.Join(*fault, err)
			return false
		}
		return powers.User(sender) >= powers.Notification(key)
	}}
}

// notice is an event that notifies somebody: what is the same for everybody.
type notice struct {
	pos    store.Position
	room   store.RoomNum
	slot   store.Slot
	event  store.EventNum
	pdu    *event.PDU
	roomID id.RoomID

	senderName, roomName, roomAlias string
}

// describe looks up the names that a notification shows.
func (v *roomView) describe(n *notice) (err error) {
	n.roomID = v.id
	if n.senderName, err = v.displayName(n.pdu.Sender()); err != nil {
		return err
	}
	if n.roomName, err = v.text(event.TypeName, "", "name"); err != nil {
		return err
	}
	n.roomAlias, err = v.text(event.TypeCanonicalAlias, "", "alias")
	return err
}

// invitee is the user whom an event invites; false for other events.
func invitee(pdu *event.PDU) (string, bool) {
	stateKey, ok := pdu.StateKey()
	return stateKey, ok && pdu.Type() == event.TypeMember && pdu.Membership() == event.MembershipInvite
}
