package history

import (
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
