package clientsync

import (
	"fmt"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/streamcache"
	"stoa/matrix/id"
)

// moveReader finds out for a query which rooms the viewer joined and left, and who joined and left the viewer's rooms.
type moveReader struct {
	q     *Query
	read  *store.Read
	store *store.Store
	l     *streamcache.Loader
	// changed are rooms in which something happened, returned those that the viewer left and joined again; with the slot at the token.
	changed, returned []roomdb.RoomSlot
}

// add adds a room that the viewer is in or has left. moved is set if the viewer's membership there has changed.
func (m *moveReader) add(row *roomdb.SyncRoom, start store.RoomStart, moved bool) error {
	m.l.Version(row.Room, row.Version)
	since := row.RoomSlot
	if start.Timeline != 0 {
		since = start.Timeline - 1
	}
	switch {
	case row.Membership == roomdb.Join && moved:
		return m.addEntered(row.Room, since)
	case row.Membership == roomdb.Join && start.Timeline != 0:
		m.changed = append(m.changed, roomdb.RoomSlot{Room: row.Room, Slot: since})
	case row.Membership != roomdb.Join && moved:
		key, err := memberKey(m.store, m.read, m.q.UserID)
		if err != nil {
			return err
		}
		values, err := readValues(m.read, m.l, row.Room, key)
		if _, was := at(values, since); was == "join" {
			m.addLeft(row.Room, since, leaveSlot(values))
		}
		return err
	}
	return nil
}

// addEntered adds a room that the viewer has joined.
func (m *moveReader) addEntered(num store.RoomNum, since store.Slot) error {
	m.q.Entered = append(m.q.Entered, num)
	was, err := m.wasJoined(num, since)
	if err == nil && was {
		m.returned = append(m.returned, roomdb.RoomSlot{Room: num, Slot: since})
	}
	return err
}

// addLeft adds a room that the viewer was in at the token and has left at a slot.
func (m *moveReader) addLeft(num store.RoomNum, since, left store.Slot) {
	m.q.Left = append(m.q.Left, LeftRoom{Room: num, Since: since, Slot: left})
}

// wasJoined reports whether the viewer was in a room at a slot.
func (m *moveReader) wasJoined(num store.RoomNum, at store.Slot) (bool, error) {
	key, err := memberKey(m.store, m.read, m.q.UserID)
	if err != nil {
		return false, err
	}
	ev, err := roomdb.StateKeyAt(m.read, num, at, key)
	if err != nil {
		return false, fmt.Errorf("read a membership: %w", err)
	}
	m.l.Want(ev)
	if err := m.l.Load(); err != nil {
		return false, err
	}
	was := m.l.Event(ev)
	return was != nil && was.Membership == "join", nil
}

// finish reads the members who joined and left the rooms that were added.
func (m *moveReader) finish() error {
	changed, err := roomdb.MovedMembers(m.read, m.changed, deviceListLimit)
	if err != nil {
		return fmt.Errorf("read who came and went: %w", err)
	}
	returned, err := roomdb.MovedMembers(m.read, m.returned, deviceListLimit)
	if err != nil {
		return fmt.Errorf("read who went: %w", err)
	}
	for i, x := range append(changed, returned...) {
		user, err := id.ParseUserID(x.UserID)
		if err != nil || user == m.q.UserID {
			continue // a member event of an old room may have a state key that is no user
		}
		switch {
		case x.Membership != roomdb.Join:
			m.q.LeftMembers = append(m.q.LeftMembers, MemberMove{x.Room, user})
		case i < len(changed): // all members of a room that the viewer has joined are new
			m.q.JoinedMembers = append(m.q.JoinedMembers, MemberMove{x.Room, user})
		}
	}
	return nil
}
