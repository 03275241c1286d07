package room

import (
	"fmt"

	"stoa/internal/cache"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
)

// Events reads and parses the stored events of all rooms. It caches those that belong to
// states, since the bytes of an event never change.
type Events struct {
	store *store.Store
	pdus  *cache.Cache[store.EventNum, *event.PDU]
}

// Events returns the reader of stored events.
func (rs *Rooms) Events() *Events { return rs.events }

// Parse parses a stored event.
func (es *Events) Parse(rules *roomversion.Rules, e roomdb.Event) (*event.PDU, error) {
	if pdu, ok := es.pdus.Get(e.Num); ok {
		return pdu, nil
	}
	eventID, err := id.ParseEventID(e.EventID)
	if err != nil {
		return nil, fmt.Errorf("stored event number %d: %w", e.Num, err)
	}
	pdu, err := event.Load(rules, eventID, e.Bytes)
	if err != nil {
		return nil, fmt.Errorf("stored event %s: %w", e.EventID, err)
	}
	if e.Key != 0 {
		es.pdus.Add(e.Num, pdu)
	}
	return pdu, nil
}

// Load returns an event by its number, from the cache if possible.
func (es *Events) Load(read *store.Read, rules *roomversion.Rules, num store.EventNum) (*event.PDU, error) {
	if pdu, ok := es.pdus.Get(num); ok {
		return pdu, nil
	}
	e, err := roomdb.EventByNum(read, num)
	if err != nil {
		return nil, fmt.Errorf("event number %d: %w", num, err)
	}
	return es.Parse(rules, e)
}

// entries reads entries of a room's current state from the store. It needs no turn.
func (es *Events) entries(read *store.Read, room store.RoomNum, rules *roomversion.Rules, keys []eventauth.Key) ([]*entry, error) {
	pairs := make([]store.Pair, len(keys))
	for i, key := range keys {
		pairs[i] = store.Pair{Type: key.Type, StateKey: key.StateKey}
	}
	nums, err := es.store.KeyNums(read, pairs)
	if err != nil {
		return nil, err
	}
	out := make([]*entry, len(keys))
	var ask []roomdb.RoomKey
	for i, key := range nums {
		out[i] = &entry{key: key}
		if key != 0 {
			ask = append(ask, roomdb.RoomKey{Room: room, Key: key})
		}
	}
	if len(ask) == 0 {
		return out, nil
	}
	inMemory := map[store.EventNum]*event.PDU{}
	rows, err := roomdb.CurrentEntries(read, ask, func(num, _ store.EventNum) bool {
		pdu, ok := es.pdus.Get(num)
		if ok {
			inMemory[num] = pdu
		}
		return ok
	})
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		pdu := inMemory[row.Event.Num]
		if pdu == nil {
			stored := roomdb.Event{Num: row.Event.Num, EventID: row.Event.EventID, Key: row.Event.Key, Bytes: row.Event.Bytes}
			if pdu, err = es.Parse(rules, stored); err != nil {
				return nil, err
			}
		}
		for _, e := range out {
			if e.key == row.Key {
				e.num, e.pdu, e.redacted = row.Event.Num, pdu, row.Event.RedactedBy != 0
				if at := row.Event.Place; row.Event.RedactedBy == 0 && at.Off == 0 && at.Slot == row.Slot {
					e.shown = row.Slot
				}
			}
		}
	}
	return out, nil
}
