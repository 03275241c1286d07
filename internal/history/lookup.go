package history

import (
	"context"
	"errors"
	"fmt"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/eventfilter"
	"stoa/matrix/id"
)

// Lookup shows one user events of many rooms, in one snapshot of the store.
type Lookup struct {
	rd      *Reader
	read    *store.Read
	user    id.UserID
	viewers map[store.RoomNum]*Viewer // nil values: rooms that the user may not look at
}

// Found is an event that the user of a Lookup may see.
type Found struct {
	RoomNum store.RoomNum
	Room    id.RoomID
	View    View
}

// Lookup returns a Lookup for a user.
func (rd *Reader) Lookup(read *store.Read, user id.UserID) *Lookup {
	return &Lookup{rd: rd, read: read, user: user, viewers: map[store.RoomNum]*Viewer{}}
}

// viewer returns the user's view of a room; nil if they may not look at it.
func (l *Lookup) viewer(num store.RoomNum) (*Viewer, error) {
	if v, ok := l.viewers[num]; ok {
		return v, nil
	}
	roomID, err := roomdb.RoomID(l.read, num)
	if err != nil {
		return nil, fmt.Errorf("room number %d: %w", num, err)
	}
	parsed, err := id.ParseRoomID(roomID)
	if err != nil {
		return nil, err
	}
	v, err := l.rd.Viewer(l.read, parsed, l.user)
	switch {
	case errors.Is(err, room.ErrUnknown):
		v = nil
	case err != nil:
		return nil, err
	case v.MayLook() != nil:
		v = nil
	}
	l.viewers[num] = v
	return v, nil
}

// Events returns those of some events that the user may see and does not ignore, and that
// the filter selects, in the same order.
func (l *Lookup) Events(nums []store.EventNum, filter *eventfilter.RoomEventFilter) (found []Found, err error) {
	rows, err := roomdb.EventsByNum(l.read, nums)
	if err != nil {
		return nil, err
	}
	byNum := make(map[store.EventNum]roomdb.Event, len(rows))
	for _, e := range rows {
		byNum[e.Num] = e
	}
	for _, num := range nums {
		e, ok := byNum[num]
		if !ok || e.Place.Slot == 0 {
			continue
		}
		v, err := l.viewer(e.Room)
		if err != nil {
			return nil, err
		}
		if v == nil {
			continue
		}
		view, sees, err := (&walk{v: v, filter: filter}).look(e)
		if err != nil {
			return nil, err
		}
		if sees {
			found = append(found, Found{RoomNum: e.Room, Room: v.roomID, View: view})
		}
	}
	return found, nil
}

// Around returns an event that Events has returned with the events around it, without
// state.
func (l *Lookup) Around(f Found, before, after int) (c Context, err error) {
	v, err := l.viewer(f.RoomNum)
	if err != nil || v == nil {
		return Context{Event: f.View}, err
	}
	c.Event = f.View
	err = v.around(&c, min(max(before, 0), pageLimit), min(max(after, 0), pageLimit), nil)
	return c, err
}

// Senders returns the member events of the senders in a context, as of its event.
func (l *Lookup) Senders(c Context, room store.RoomNum) ([]View, error) {
	v, err := l.viewer(room)
	if err != nil || v == nil {
		return nil, err
	}
	all := append(append([]View{c.Event}, c.Before...), c.After...)
	return v.sendersAt(all, c.Event.Slot)
}

// EventOfAnyRoom returns an event by its ID alone, and its room; M_NOT_FOUND if the viewer
// may not see it.
//
// Spec: client-server-api#get_matrixclientv3eventseventid
func (rd *Reader) EventOfAnyRoom(ctx context.Context, viewer id.UserID, eventID id.EventID) (roomID id.RoomID, view View, err error) {
	err = rd.store.Read(ctx, func(read *store.Read) error {
		e, err := roomdb.EventByID(read, eventID.String())
		if errors.Is(err, store.ErrNotFound) {
			return errHiddenEvent()
		}
		if err != nil {
			return err
		}
		v, err := rd.Lookup(read, viewer).viewer(e.Room)
		if err != nil {
			return err
		}
		if v == nil {
			return errHiddenEvent()
		}
		roomID = v.roomID
		if view, err = v.event(eventID); err != nil {
			return err
		}
		return bundler{v}.bundle(true, &view)
	})
	return roomID, view, err
}

// SharedRooms returns the rooms that two users have both joined, by room number, after one
// of them, and how many there are in all. The number of the last one continues.
func (rd *Reader) SharedRooms(ctx context.Context, user store.UserNum, other id.UserID, after store.RoomNum, limit int) (rooms []id.RoomID, last store.RoomNum, count int, err error) {
	err = rd.store.Read(ctx, func(read *store.Read) error {
		nums, err := roomdb.SharedRoomsOf(read, user, other.String(), sharedMost)
		if err != nil {
			return err
		}
		count = len(nums)
		for _, num := range nums {
			if num <= after {
				continue
			}
			if len(rooms) == limit {
				return nil
			}
			roomID, err := roomdb.RoomID(read, num)
			if err != nil {
				return err
			}
			parsed, err := id.ParseRoomID(roomID)
			if err != nil {
				return err
			}
			rooms, last = append(rooms, parsed), num
		}
		last = 0
		return nil
	})
	return rooms, last, count, err
}

// sharedMost bounds the rooms that two users share.
const sharedMost = 10_000
