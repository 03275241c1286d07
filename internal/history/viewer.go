package history

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
	"stoa/matrix/roomversion"
)

// Viewer is one user's view of one room, in one snapshot of the store. For events on the
// main line of the room it decides without reading the state before them.
type Viewer struct {
	rd    *Reader
	read  *store.Read
	Room  store.Room
	Rules *roomversion.Rules
	User  id.UserID
	// Num is the number of a local user, 0 for none.
	Num store.UserNum
	// Row is the membership of a local user, the zero value for none.
	Row roomdb.RoomMembership

	roomID                id.RoomID
	memberKey, visibleKey store.KeyNum
	// members and visibilities are the values of the viewer's member event and of the
	// history visibility over time, ascending by slot.
	members, visibilities []valueFrom
	ignored               map[string]bool    // nil = not read yet
	erased                map[id.UserID]bool // senders that were looked up so far
}

// valueFrom is a value of a state entry, and the slot from which it is valid.
type valueFrom struct {
	slot  store.Slot
	value string
}

// keyLogLimit bounds how many changes of a user's membership are read. Before those the
// user counts as absent.
const keyLogLimit = 2000

// Viewer prepares a user's view of a room; M_NOT_FOUND if the room is unknown. It does
// not check MayLook.
//
// Spec: client-server-api#room-history-visibility
func (rd *Reader) Viewer(read *store.Read, roomID id.RoomID, user id.UserID) (*Viewer, error) {
	row, err := roomdb.RoomByID(read, roomID.String())
	if errors.Is(err, store.ErrNotFound) {
		return nil, room.ErrUnknown
	}
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", roomID, err)
	}
	rules, ok := roomversion.Of(row.Version)
	if !ok {
		return nil, fmt.Errorf("load %s: unknown room version %q", roomID, row.Version)
	}
	v := &Viewer{rd: rd, read: read, Room: row, Rules: rules, User: user, roomID: roomID}
	keys, err := rd.store.KeyNums(read, []store.Pair{
		{Type: event.TypeMember, StateKey: user.String()}, {Type: event.TypeHistoryVisibility},
	})
	if err != nil {
		return nil, err
	}
	v.memberKey, v.visibleKey = keys[0], keys[1]
	if v.members, err = v.values(v.memberKey); err != nil {
		return nil, err
	}
	if v.visibilities, err = v.values(v.visibleKey); err != nil {
		return nil, err
	}
	if !rd.isLocal(user) {
		return v, nil
	}
	num, err := rd.store.UserNum(read, user.String())
	if errors.Is(err, store.ErrNotFound) {
		return v, nil
	}
	if err != nil {
		return nil, err
	}
	v.Num = num
	if v.Row, err = roomdb.MembershipOf(read, num, row.Num); errors.Is(err, store.ErrNotFound) {
		return v, nil
	}
	return v, err
}

// values reads the values of one state key over time.
func (v *Viewer) values(key store.KeyNum) ([]valueFrom, error) {
	if key == 0 {
		return nil, nil
	}
	log, err := roomdb.KeyLog(v.read, v.Room.Num, key, keyLogLimit)
	if err != nil {
		return nil, err
	}
	values := make([]valueFrom, len(log))
	for i, change := range log {
		value, err := v.value(change.Event)
		if err != nil {
			return nil, err
		}
		values[len(log)-1-i] = valueFrom{change.Slot, value}
	}
	return values, nil
}

// value returns the membership or the visibility in an event.
func (v *Viewer) value(num store.EventNum) (string, error) {
	if num == 0 {
		return "", nil
	}
	pdu, err := v.rd.events.Load(v.read, v.Rules, num)
	if err != nil {
		return "", err
	}
	return valueOf(pdu), nil
}

func valueOf(pdu *event.PDU) string {
	if pdu.Type() == event.TypeHistoryVisibility {
		return historyVisibility(pdu)
	}
	return pdu.Membership()
}

// after returns the value after a slot.
func after(values []valueFrom, slot store.Slot) string {
	i, found := slices.BinarySearchFunc(values, slot, func(v valueFrom, s store.Slot) int { return cmp.Compare(v.slot, s) })
	if found {
		return values[i].value
	}
	if i == 0 {
		return ""
	}
	return values[i-1].value
}

// Membership is the viewer's membership now; "" for none.
func (v *Viewer) Membership() string { return after(v.members, v.Room.Slot) }

// EverJoined reports whether the viewer was ever in the room.
func (v *Viewer) EverJoined() bool {
	return slices.ContainsFunc(v.members, func(m valueFrom) bool { return m.value == event.MembershipJoin })
}

// MayLook returns M_FORBIDDEN unless the viewer may look at the room at all: as a member,
// as a former member who has not forgotten the room, or because the room is world
// readable.
func (v *Viewer) MayLook() error {
	switch {
	case v.Membership() == event.MembershipJoin:
		return nil
	case v.EverJoined() && !v.Row.Forgotten:
		return nil
	case after(v.visibilities, v.Room.Slot) == visibilityWorldReadable:
		return nil
	}
	return mxerr.Forbidden("You are not in this room")
}

// StateSlot is the slot of the state that the viewer may see: the current one for members
// and in world-readable rooms, that of leaving for former members.
func (v *Viewer) StateSlot() store.Slot {
	if v.Membership() == event.MembershipJoin || !v.EverJoined() || v.Row.Forgotten {
		return v.Room.Slot
	}
	slot := v.Room.Slot
	for _, m := range slices.Backward(v.members) {
		if m.value == event.MembershipJoin {
			return slot
		}
		slot = m.slot
	}
	return slot
}

// joinsAfter reports whether the viewer joined later than a slot.
func (v *Viewer) joinsAfter(slot store.Slot) bool {
	for _, m := range slices.Backward(v.members) {
		if m.slot <= slot {
			return false
		}
		if m.value == event.MembershipJoin {
			return true
		}
	}
	return false
}

// Sees decides whether the viewer may see an event in the timeline. It also returns the
// viewer's membership at the event, including the event's own effect ("leave" for none).
//
// Spec: client-server-api#room-history-visibility
func (v *Viewer) Sees(at roomdb.Place, before roomdb.StateRef, pdu *event.PDU) (sees bool, membership string, err error) {
	var s EventVisibility
	slot, isSlot := before.Slot()
	if before == 0 {
		slot, isSlot = at.Slot-1, true
	}
	if isSlot {
		s.Membership, s.Visibility = after(v.members, slot), after(v.visibilities, slot)
	} else if s.Membership, s.Visibility, err = v.atVersion(before); err != nil {
		return false, "", err
	}
	s.MembershipAfter, s.VisibilityAfter = s.Membership, s.Visibility
	switch {
	case pdu.Is(event.TypeMember, v.User.String()):
		s.MembershipAfter = pdu.Membership()
	case pdu.Is(event.TypeHistoryVisibility, ""):
		s.VisibilityAfter = historyVisibility(pdu)
	}
	joined := at.Slot
	if at.Off < 0 {
		joined-- // backfilled events come before the event of their slot
	}
	s.JoinsLater = v.joinsAfter(joined)
	if membership = s.MembershipAfter; membership == "" {
		membership = event.MembershipLeave
	}
	return Visible(s), membership, nil
}

// atVersion returns membership and visibility in a stored version of the state.
func (v *Viewer) atVersion(ref roomdb.StateRef) (membership, visibility string, err error) {
	for key, value := range map[store.KeyNum]*string{v.memberKey: &membership, v.visibleKey: &visibility} {
		if key == 0 {
			continue
		}
		num, err := roomdb.StateKeyOf(v.read, v.Room.Num, ref, key)
		if err != nil {
			return "", "", err
		}
		if *value, err = v.value(num); err != nil {
			return "", "", err
		}
	}
	return membership, visibility, nil
}

// slotRange returns bounds of the slots that the viewer may see, so that a walk through
// history can stop there. Events within the bounds may still be hidden.
func (v *Viewer) slotRange() (first, last store.Slot) {
	breaks := make([]store.Slot, 0, len(v.members)+len(v.visibilities)+1)
	breaks = append(breaks, 0)
	for _, m := range v.members {
		breaks = append(breaks, m.slot)
	}
	for _, h := range v.visibilities {
		breaks = append(breaks, h.slot)
	}
	slices.Sort(breaks)
	breaks = slices.Compact(breaks)
	first, last = -1, 0
	for i, from := range breaks {
		if !visibleAt(after(v.visibilities, from), after(v.members, from), v.joinsAfter(from)) {
			continue
		}
		if first < 0 {
			first = from
		}
		if last = v.Room.Slot; i+1 < len(breaks) {
			last = breaks[i+1] // the event that ends the range is visible if the state before it is
		}
	}
	return max(first, 0), last
}

// historyVisibility reads the content of an m.room.history_visibility.
func historyVisibility(pdu *event.PDU) string { return stringOf(pdu, "history_visibility") }
