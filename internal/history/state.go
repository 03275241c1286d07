package history

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/token"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// CurrentState returns the state of a room: the current one for members, that of leaving
// for former members.
//
// Errors: M_FORBIDDEN, M_NOT_FOUND.
//
// Spec: client-server-api#getting-events-for-a-room
func (rd *Reader) CurrentState(ctx context.Context, viewer id.UserID, roomID id.RoomID) (state []View, err error) {
	err = rd.look(ctx, roomID, viewer, func(v *Viewer) error {
		state, err = v.stateAt(v.StateSlot(), false)
		return err
	})
	return state, err
}

// StateEvent returns one event of the state that CurrentState returns; M_NOT_FOUND if
// there is none.
//
// Spec: client-server-api#getting-events-for-a-room
func (rd *Reader) StateEvent(ctx context.Context, viewer id.UserID, roomID id.RoomID, evType, stateKey string) (view View, err error) {
	err = rd.look(ctx, roomID, viewer, func(v *Viewer) error {
		none := mxerr.NotFound("The room has no %s with this state key", evType)
		keys, err := rd.store.KeyNums(v.read, []store.Pair{{Type: evType, StateKey: stateKey}})
		if err != nil {
			return err
		}
		if keys[0] == 0 {
			return none
		}
		num, err := roomdb.StateKeyAt(v.read, v.Room.Num, v.StateSlot(), keys[0])
		if err != nil {
			return err
		}
		if num == 0 {
			return none
		}
		views, err := v.stateViews([]store.EventNum{num})
		if err != nil {
			return err
		}
		view = views[0]
		return nil
	})
	return view, err
}

// MembersQuery asks for members of a room.
type MembersQuery struct {
	// At is the time; nil = now, or when the viewer left.
	At *token.Token
	// Membership and NotMembership each select members; both empty = all.
	Membership, NotMembership string
}

// Members returns the member events of a room.
//
// Errors: M_FORBIDDEN, M_NOT_FOUND.
//
// Spec: client-server-api#getting-events-for-a-room
func (rd *Reader) Members(ctx context.Context, viewer id.UserID, roomID id.RoomID, q MembersQuery) (members []View, err error) {
	err = rd.look(ctx, roomID, viewer, func(v *Viewer) error {
		slot := v.StateSlot()
		if q.At != nil {
			at, err := v.place(*q.At)
			if err != nil {
				return err
			}
			slot = min(slot, max(slotBefore(at), firstMember))
		}
		nums, err := v.memberNums(slot)
		if err != nil {
			return err
		}
		all, err := v.stateViews(nums)
		if err != nil {
			return err
		}
		members = slices.DeleteFunc(all, func(m View) bool {
			is := m.PDU.Membership()
			switch {
			case q.Membership == "" && q.NotMembership == "":
				return false
			case q.Membership != "" && is == q.Membership:
				return false
			}
			return q.NotMembership == "" || is == q.NotMembership
		})
		return nil
	})
	return members, err
}

// firstMember is the slot of the creator's join. Before it, a room has no members.
const firstMember store.Slot = 2

// slotBefore returns the slot of the last live event at or before a place.
func slotBefore(at roomdb.Place) store.Slot {
	if at.Off < 0 {
		return at.Slot - 1
	}
	return at.Slot
}

// memberships are all valid memberships.
var memberships = [...]roomdb.Membership{roomdb.Join, roomdb.Invite, roomdb.Leave, roomdb.Ban, roomdb.Knock}

// memberNums returns the numbers of all member events in the state after a slot.
func (v *Viewer) memberNums(slot store.Slot) ([]store.EventNum, error) {
	var nums []store.EventNum
	if slot >= v.Room.Slot {
		const page = 5000
		for _, membership := range memberships {
			for after := (roomdb.Member{}); ; {
				members, err := roomdb.Members(v.read, v.Room.Num, membership, after, page)
				if err != nil {
					return nil, err
				}
				for _, m := range members {
					nums = append(nums, m.Event)
					after = m
				}
				if len(members) < page {
					break
				}
			}
		}
		return nums, nil
	}
	state, err := roomdb.StateAt(v.read, v.Room.Num, slot)
	if err != nil {
		return nil, err
	}
	keys := make([]store.KeyNum, len(state))
	for i, e := range state {
		keys[i] = e.Key
	}
	pairs, err := v.rd.store.Pairs(v.read, keys)
	if err != nil {
		return nil, err
	}
	for i, pair := range pairs {
		if pair.Type == event.TypeMember {
			nums = append(nums, state[i].Event)
		}
	}
	return nums, nil
}

// JoinedMembers returns the members of a room with their profiles. Only members may ask.
//
// Spec: client-server-api#getting-events-for-a-room
func (rd *Reader) JoinedMembers(ctx context.Context, viewer id.UserID, roomID id.RoomID) (map[id.UserID]room.Profile, error) {
	joined := map[id.UserID]room.Profile{}
	err := rd.look(ctx, roomID, viewer, func(v *Viewer) error {
		if v.Membership() != event.MembershipJoin {
			return mxerr.Forbidden("You are not in this room")
		}
		nums, err := v.memberNums(v.Room.Slot)
		if err != nil {
			return err
		}
		views, err := v.stateViews(nums)
		if err != nil {
			return err
		}
		for _, view := range views {
			stateKey, _ := view.PDU.StateKey()
			user, err := id.ParseUserID(stateKey)
			if err != nil || view.PDU.Membership() != event.MembershipJoin {
				continue
			}
			content, err := view.PDU.Member()
			if err != nil {
				return err
			}
			joined[user] = room.Profile{DisplayName: content.DisplayName, AvatarURL: content.AvatarURL}
		}
		return nil
	})
	return joined, err
}

// stateAt returns the state after a slot, if requested without members.
func (v *Viewer) stateAt(slot store.Slot, withoutMembers bool) ([]View, error) {
	var nums []store.EventNum
	switch {
	case slot >= v.Room.Slot:
		entries, err := roomdb.SyncState(v.read, []store.RoomNum{v.Room.Num}, !withoutMembers)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			nums = append(nums, e.Event)
		}
		return v.stateViews(nums)
	default:
		entries, err := roomdb.StateAt(v.read, v.Room.Num, slot)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			nums = append(nums, e.Event)
		}
	}
	views, err := v.stateViews(nums)
	if err != nil || !withoutMembers {
		return views, err
	}
	return slices.DeleteFunc(views, func(s View) bool { return s.PDU.Type() == event.TypeMember }), nil
}

// stateViews loads events of the state, in the order of nums. It checks no visibility:
// whoever may see the state sees all of it.
func (v *Viewer) stateViews(nums []store.EventNum) ([]View, error) {
	// Of the largest possible state events, a batch has 16 MiB.
	const batch = 250
	at := make(map[store.EventNum]int, len(nums))
	views := make([]View, len(nums))
	for i, num := range nums {
		at[num] = i
	}
	for from := 0; from < len(nums); from += batch {
		part := nums[from:min(from+batch, len(nums))]
		events, err := roomdb.SyncEvents(v.read, part, nil)
		if err != nil {
			return nil, err
		}
		for _, e := range events {
			view, err := v.stateView(e)
			if err != nil {
				return nil, err
			}
			views[at[e.Num]] = view
		}
	}
	for i := range views {
		if views[i].PDU == nil {
			return nil, fmt.Errorf("state of %s: event number %d: %w", v.roomID, nums[i], store.ErrNotFound)
		}
	}
	return views, nil
}

func (v *Viewer) stateView(e roomdb.SyncEvent) (View, error) {
	pdu, err := v.rd.events.Parse(v.Rules, roomdb.Event{Num: e.Num, EventID: e.EventID, Key: e.Key, Bytes: e.Bytes})
	if err != nil {
		return View{}, err
	}
	view := View{
		Num: e.Num, Slot: e.Place.Slot, Off: e.Place.Off, PDU: pdu, TxnDevice: e.TxnDevice, TxnID: e.TxnID,
	}
	if e.RedactedBy != 0 {
		if view.RedactedBy, err = v.rd.events.Load(v.read, v.Rules, e.RedactedBy); err != nil {
			return View{}, err
		}
	}
	return view, nil
}

// Summary is the part of a room that everybody who may know of the room may see.
type Summary struct {
	Room   store.Room
	Create *event.PDU
	// State has the requested entries with an empty state key, if they exist.
	State map[string]*event.PDU
}

// Summary reads entries with an empty state key of a room's current state, without a
// check of the caller. M_NOT_FOUND for an unknown room.
func (rd *Reader) Summary(ctx context.Context, roomID id.RoomID, types ...string) (s Summary, err error) {
	s.State = map[string]*event.PDU{}
	err = rd.store.Read(ctx, func(read *store.Read) error {
		v, err := rd.Viewer(read, roomID, id.UserID{})
		if err != nil {
			return err
		}
		s.Room = v.Room
		for _, evType := range append([]string{event.TypeCreate}, types...) {
			pdu, err := v.currentPDU(evType, "")
			if err != nil {
				return err
			}
			if pdu != nil {
				s.State[evType] = pdu
			}
		}
		s.Create = s.State[event.TypeCreate]
		return nil
	})
	return s, err
}

// currentPDU returns an entry of the current state; nil for none.
func (v *Viewer) currentPDU(evType, stateKey string) (*event.PDU, error) {
	keys, err := v.rd.store.KeyNums(v.read, []store.Pair{{Type: evType, StateKey: stateKey}})
	if err != nil || keys[0] == 0 {
		return nil, err
	}
	num, err := roomdb.CurrentKey(v.read, v.Room.Num, keys[0])
	if err != nil || num == 0 {
		return nil, err
	}
	e, err := roomdb.EventByNum(v.read, num)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("state of %s: event number %d: %w", v.roomID, num, err)
	}
	if err != nil {
		return nil, err
	}
	pdu, err := v.rd.events.Parse(v.Rules, e)
	if err == nil && e.RedactedBy != 0 {
		pdu = pdu.Redacted()
	}
	return pdu, err
}

// JoinedRooms returns the rooms that a local user has joined.
//
// Spec: client-server-api#room-membership
func (rd *Reader) JoinedRooms(ctx context.Context, user id.UserID) (rooms []id.RoomID, err error) {
	err = rd.store.Read(ctx, func(read *store.Read) error {
		num, err := rd.store.UserNum(read, user.String())
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		joined, err := roomdb.JoinedRooms(read, num)
		if err != nil {
			return err
		}
		rooms = slices.Grow(rooms, len(joined))
		for _, j := range joined {
			roomID, err := id.ParseRoomID(j.RoomID)
			if err != nil {
				return err
			}
			rooms = append(rooms, roomID)
		}
		return nil
	})
	return rooms, err
}
