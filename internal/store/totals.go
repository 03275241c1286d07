package store

// What unread events are counted from. Package room writes the table; see rooms.go.

var selectRoomTotals = Prepare(`SELECT num, slot, joined, totals FROM rooms WHERE {{in num $1}}`)

// RoomTotals is how far a room has come.
type RoomTotals struct {
	Num  RoomNum
	Slot Slot
	// Joined is the number of joined members.
	Joined int64
	Totals []byte
}

// RoomTotals returns rooms by their numbers; those that are not there are left out.
func (r *Read) RoomTotals(rooms []RoomNum) (map[RoomNum]RoomTotals, error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	list, err := Query(r, selectRoomTotals, func(row *Row) (t RoomTotals) {
		row.Scan(&t.Num, &t.Slot, &t.Joined, &t.Totals)
		return t
	}, rooms)
	if err != nil {
		return nil, err
	}
	out := make(map[RoomNum]RoomTotals, len(list))
	for _, t := range list {
		out[t.Num] = t
	}
	return out, nil
}
