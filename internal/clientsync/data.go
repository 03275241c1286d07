package clientsync

import (
	"fmt"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/streamcache"
	"stoa/matrix/eventfilter"
	"stoa/matrix/id"
)

// takeData reads the viewer's account data that changed, and gives those of rooms to their entries.
//
// Spec: client-server-api#client-config
func (k *responseBuilder) takeData() error {
	if k.r.opt.AccountData == nil || !k.initial && !k.delta.Own[store.KindAccountData] && len(k.query.Entered) == 0 {
		return nil
	}
	r, err := k.open(k.ctx)
	if err != nil {
		return err
	}
	after := store.Slot(0)
	if !k.initial && len(k.query.Entered) == 0 {
		own, err := r.OwnChanges(k.req.UserNum, k.c.Since)
		if err != nil {
			return fmt.Errorf("read own changes: %w", err)
		}
		for _, o := range own {
			if o.Kind == store.KindAccountData {
				after = o.First - 1
			}
		}
		if after == 0 && !k.delta.Own[store.KindAccountData] {
			return nil
		}
	}
	data, err := k.r.opt.AccountData.Changed(r, k.req.User, after)
	if err != nil {
		return fmt.Errorf("read account data of %s: %w", k.req.UserID, err)
	}
	return k.sortData(data, after)
}

// sortData assigns account data to rooms. If all of it was read because a room was entered, only that room gets it.
func (k *responseBuilder) sortData(data []streamcache.Datum, after store.Slot) error {
	onlyEntered := !k.initial && !k.delta.Own[store.KindAccountData]
	byID := make(map[string]*entry, len(k.entries))
	for _, e := range k.entries {
		byID[e.id.String()] = e
	}
	for _, d := range data {
		if d.RoomID == "" {
			if !onlyEntered {
				k.global = append(k.global, d)
			}
			continue
		}
		e := byID[d.RoomID]
		if e == nil && !k.initial {
			if e = k.entryForData(d.RoomID); e != nil {
				byID[d.RoomID] = e
			}
		}
		if e != nil && (!onlyEntered || e.entered) {
			e.data = append(e.data, d)
		}
	}
	return nil
}

// entryForData makes an entry for a joined room in which nothing else happened; nil if the viewer is not in it.
func (k *responseBuilder) entryForData(roomID string) *entry {
	j, joined := k.kept.JoinedRoom(k.req.UserNum, roomID)
	if !joined {
		return nil
	}
	parsed, err := id.ParseRoomID(roomID)
	if err != nil || !k.req.Filter.Room.AllowsRoom(parsed) {
		return nil
	}
	e := &entry{joinedRoom: true, membership: roomdb.Join}
	e.timelineRange = timelineRange{num: j.Num, id: parsed, joined: j.Joined, since: j.Last, upto: j.Last}
	e.timeline = selection{complete: true, start: e.upto + 1}
	e.timeline.prev.Slot = int64(e.upto)
	k.entries = append(k.entries, e)
	return e
}

// appendGlobalData appends `account_data`.
func (k writer) appendGlobalData() {
	mark := len(k.out)
	k.out = append(streamcache.Separate(k.out), `"account_data":{"events":[`...)
	first := len(k.out)
	for i := range k.global {
		d := &k.global[i]
		if k.req.Filter.AccountData.Allows(eventfilter.Event{Type: d.Type, Content: d.Content}) {
			k.appendDatum(d)
		}
	}
	if len(k.out) == first {
		k.out = k.out[:mark]
		return
	}
	k.out = append(k.out, "]}"...)
	k.hasNews = true
}
