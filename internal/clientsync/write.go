package clientsync

import (
	"fmt"
	"strconv"

	"stoa/internal/store/roomdb"
	"stoa/internal/streamcache"
	"stoa/internal/timeline"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/eventfilter"
)

// writer appends the parts of an answer that were collected.
type writer struct{ *responseBuilder }

// appendRooms appends `rooms`.
//
// Spec: client-server-api#get_matrixclientv3sync
func (k writer) appendRooms(stored *storedRooms) {
	mark := len(k.out)
	k.out = append(streamcache.Separate(k.out), `"rooms":{`...)
	any := k.group("join", func() {
		for _, e := range k.entries {
			if e.joinedRoom {
				k.appendJoined(e)
			}
		}
	})
	if stored != nil {
		any = k.group("invite", func() { k.appendStripped(stored.invited, "invite_state") }) || any
		any = k.group("knock", func() { k.appendStripped(stored.knocked, "knock_state") }) || any
	}
	any = k.group("leave", func() {
		for _, e := range k.entries {
			if !e.joinedRoom {
				k.appendLeft(e)
			}
		}
	}) || any
	if !any {
		k.out = k.out[:mark]
		return
	}
	k.out = append(k.out, '}')
	k.hasNews = true
}

// group appends a member with the object that f appends to; nothing if f appends nothing.
func (k writer) group(key string, f func()) bool {
	mark := len(k.out)
	k.out = append(streamcache.AppendKey(k.out, key), '{')
	first := len(k.out)
	f()
	if len(k.out) == first {
		k.out = k.out[:mark]
		return false
	}
	k.out = append(k.out, '}')
	return true
}

// appendJoined appends one joined room, if it has news.
func (k writer) appendJoined(e *entry) {
	mark := len(k.out)
	k.out = append(streamcache.AppendKey(k.out, e.id.String()), '{')
	worth := k.initial || e.entered || k.req.FullState || e.timeline.limited || len(e.timeline.events) > 0 || e.ownReceipt
	k.appendTimeline(e)
	worth = k.appendState(e) || worth
	worth = k.appendEphemeral(e) || worth
	worth = k.appendRoomData(e) || worth
	if e.summary.changed {
		k.appendSummary(&e.summary)
		worth = true
	}
	if !worth {
		k.out = k.out[:mark]
		return
	}
	k.appendCounts(e)
	k.out = append(k.out, '}')
}

// appendLeft appends one room that the viewer has left or was banned from.
func (k writer) appendLeft(e *entry) {
	k.out = append(streamcache.AppendKey(k.out, e.id.String()), '{')
	k.appendTimeline(e)
	k.appendState(e)
	k.appendRoomData(e)
	k.out = append(k.out, '}')
}

func (k writer) appendTimeline(e *entry) {
	if e.timeline.limited && len(e.timeline.events) > 0 {
		e.bundles = timeline.BundleWithin(e.events, &k.reader)
	}
	k.out = append(streamcache.Separate(k.out), `"timeline":{"events":[`...)
	for _, ev := range e.timeline.events {
		k.appendEvent(e, ev)
	}
	k.out = append(k.out, `],"limited":`...)
	k.out = strconv.AppendBool(k.out, e.timeline.limited)
	if e.upto > 0 {
		k.out = append(k.out, `,"prev_batch":"`...)
		k.out = append(k.out, e.timeline.prev.String()...)
		k.out = append(k.out, '"')
	}
	k.out = append(k.out, '}')
}

// appendEvent appends one event, with the fields that the filter wants.
func (k writer) appendEvent(e *entry, ev *timeline.Event) {
	k.out = streamcache.Separate(k.out)
	if k.req.Filter.EventFields == nil {
		k.out = ev.Append(k.out, &k.reader, k.show(e, ev))
		return
	}
	whole := ev.Append(nil, &k.reader, k.show(e, ev))
	out, err := k.req.Filter.EventFields.Select(k.out, whole)
	if err != nil {
		out = append(k.out, whole...) // it is no object: more than was asked for does no harm
	}
	k.out = out
}

// appendState appends `state` or `state_after`; false if it is empty.
func (k writer) appendState(e *entry) bool {
	key := `"state":{"events":[`
	if k.req.StateAfter {
		key = `"state_after":{"events":[`
	}
	k.out = append(streamcache.Separate(k.out), key...)
	first := len(k.out)
	f := &k.req.Filter.Room.State
	for _, ev := range e.state {
		if passes(f, e.id, ev) {
			k.appendEvent(e, ev)
		}
	}
	any := len(k.out) > first
	k.out = append(k.out, "]}"...)
	return any
}

// appendRoomData appends `account_data` of a room.
func (k writer) appendRoomData(e *entry) bool {
	f := &k.req.Filter.Room.AccountData
	mark := len(k.out)
	k.out = append(streamcache.Separate(k.out), `"account_data":{"events":[`...)
	first := len(k.out)
	for _, d := range e.data {
		if f.Allows(eventfilter.Event{Type: d.Type, RoomID: d.RoomID, Content: d.Content}) {
			k.appendDatum(&d)
		}
	}
	if len(k.out) == first {
		k.out = k.out[:mark]
		return false
	}
	k.out = append(k.out, "]}"...)
	return true
}

func (k writer) appendDatum(d *streamcache.Datum) {
	k.out = append(streamcache.Separate(k.out), `{"content":`...)
	k.out = append(k.out, d.Content...)
	k.out = append(k.out, `,"type":`...)
	k.out = append(canonicaljson.AppendString(k.out, d.Type), '}')
}

// appendStripped appends rooms that the viewer is invited to or knocks on. Invites by ignored users are left out.
//
// Spec: client-server-api#stripped-state, client-server-api#ignoring-users
func (k writer) appendStripped(rows []roomdb.SyncRoom, key string) {
	for i := range rows {
		row := &rows[i]
		if row.Membership == roomdb.Invite && streamcache.IgnoresInviter(&k.reader, row.Stripped) {
			continue
		}
		k.out = append(streamcache.AppendKey(k.out, row.RoomID), '{')
		k.out = append(streamcache.AppendKey(k.out, key), `{"events":`...)
		if row.Stripped == "" {
			k.out = append(k.out, "[]"...)
		} else {
			k.out = append(k.out, row.Stripped...)
		}
		k.out = append(k.out, "}}"...)
	}
}

// appendCounts appends the counts of unread events.
//
// Spec: client-server-api#receiving-notifications
func (k writer) appendCounts(e *entry) {
	k.out = append(streamcache.Separate(k.out), `"unread_notifications":{"highlight_count":`...)
	k.out = appendPair(k.out, e.counts.Highlights, e.counts.Notifications)
	if len(e.counts.Threads) == 0 {
		return
	}
	k.out = append(k.out, `,"unread_thread_notifications":{`...)
	for _, t := range e.counts.Threads {
		k.out = append(streamcache.AppendKey(k.out, t.Root), `{"highlight_count":`...)
		k.out = appendPair(k.out, t.Highlights, t.Notifications)
	}
	k.out = append(k.out, '}')
}

func appendPair(b []byte, highlights, notifications int64) []byte {
	b = strconv.AppendInt(b, highlights, 10)
	b = append(b, `,"notification_count":`...)
	return append(strconv.AppendInt(b, notifications, 10), '}')
}

// appendSections appends the parts that are not about rooms.
func (k writer) appendSections() error {
	k.appendGlobalData()
	if err := k.appendToDevice(); err != nil {
		return err
	}
	for _, s := range k.r.opt.Sections {
		if err := k.appendSection(s); err != nil {
			return fmt.Errorf("section %s of an answer: %w", s.Key(), err)
		}
	}
	return nil
}

func (k writer) appendSection(s Section) error {
	w := s.Watch()
	if w.Always {
		mark := len(k.out)
		k.out = streamcache.AppendKey(k.out, s.Key())
		first := len(k.out)
		out, err := k.r.appendCached(k.ctx, k.out, s, w, &k.query)
		if k.out = out; len(k.out) == first {
			k.out = k.out[:mark]
		}
		if k.changed(w) {
			k.hasNews = true
		}
		return err
	}
	if !k.initial && !k.changed(w) {
		return nil
	}
	mark := len(k.out)
	k.out = streamcache.AppendKey(k.out, s.Key())
	first := len(k.out)
	out, err := s.Append(k.ctx, k.out, &k.query)
	if err != nil {
		return err
	}
	k.out = out
	if len(k.out) == first {
		k.out = k.out[:mark]
		return nil
	}
	k.hasNews = true
	return nil
}

// changed reports whether something happened that a section watches.
func (k writer) changed(w Watch) bool {
	for _, kind := range w.Own {
		if k.delta.Own[kind] {
			return true
		}
	}
	for _, kind := range w.Shared {
		if k.delta.Shared[streamcache.SharedIndex(kind)] {
			return true
		}
	}
	return w.Members && k.delta.Members
}

// toDevicePage is how many messages to a device one answer carries.
//
// Spec: client-server-api#send-to-device-messaging
const toDevicePage = 100

// appendToDevice appends `to_device`.
func (k writer) appendToDevice() error {
	if k.r.opt.ToDevice == nil || !k.initial && !k.delta.ToDevice {
		return nil
	}
	r, err := k.open(k.ctx)
	if err != nil {
		return err
	}
	mark := len(k.out)
	k.out = append(streamcache.Separate(k.out), `"to_device":{"events":[`...)
	first := len(k.out)
	k.out, k.c.ToDevice, k.c.MoreToDevice, err = k.r.opt.ToDevice.Append(k.out, r, k.req.Device, k.c.ToDevice, toDevicePage)
	if err != nil {
		return fmt.Errorf("read messages to %s %s: %w", k.req.UserID, k.req.DeviceID, err)
	}
	if len(k.out) == first {
		k.out = k.out[:mark]
		return nil
	}
	k.out = append(k.out, "]}"...)
	k.hasNews = true
	return nil
}
