package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
)

// told is what the server says of a room to a user, kept until the next act.
type shown struct {
	version int
	refused bool
	state   map[stateKey]map[string]any
	// visible are the events that the user can see, newest first.
	visible []map[string]any
}

type shownKey struct {
	user *user
	room string
}

// tell reads a room's state and timeline as a user sees them, by the user's first device.
func (w *model) tell(u *user, room string) (*shown, error) {
	key := shownKey{u, room}
	if t := w.shown[key]; t != nil && t.version == w.version {
		return t, nil
	}
	t := &shown{version: w.version, state: map[stateKey]map[string]any{}}
	d := u.devices[0]
	res, err := d.ask("GET", path("/v3/rooms/%s/state", room), nil, nil)
	if err != nil {
		return nil, err
	}
	t.refused = !res.ok()
	for _, e := range objects(res.list) {
		t.state[stateKey{text(e, "type"), text(e, "state_key")}] = e
	}
	if t.visible, err = d.walk(room, "", 100); err != nil {
		return nil, err
	}
	w.shown[key] = t
	return t, w.compareMembers(d, room, t)
}

// walk reads a room's timeline back to its beginning.
func (d *device) walk(room, from string, limit int) ([]map[string]any, error) {
	var out []map[string]any
	for {
		query := url.Values{"dir": {"b"}, "limit": {fmt.Sprint(limit)}}
		if from != "" {
			query.Set("from", from)
		}
		res, err := d.ask("GET", path("/v3/rooms/%s/messages", room), query, nil)
		if err != nil || !res.ok() {
			return out, err
		}
		list, _ := res.body["chunk"].([]any)
		out = append(out, objects(list)...)
		if from = text(res.body, "end"); from == "" {
			return out, nil
		}
	}
}

// compareMembers compares /joined_members with /state.
func (w *model) compareMembers(d *device, room string, t *shown) error {
	if t.refused || !w.isJoined(d.user, room) {
		return nil
	}
	res, err := d.ask("GET", path("/v3/rooms/%s/joined_members", room), nil, nil)
	if err != nil {
		return err
	}
	want := map[string]any{}
	for k, e := range t.state {
		if content := object(e, "content"); k.evType == "m.room.member" && text(content, "membership") == "join" {
			want[k.key] = text(content, "displayname")
		}
	}
	got := map[string]any{}
	for id := range object(res.body, "joined") {
		got[id] = text(object(res.body, "joined", id), "display_name")
	}
	if !reflect.DeepEqual(want, got) {
		w.report("", d.name, "joined_members of %s: %v, and /state says %v", room, got, want)
	}
	return nil
}

func (w *model) isJoined(u *user, id string) bool {
	r := w.roomByID(id)
	return r != nil && r.membership[u] == "join"
}

func (w *model) roomByID(id string) *room {
	for _, r := range w.rooms {
		if r.id == id {
			return r
		}
	}
	return nil
}

// compare compares what a device knows after an answer with what the server says.
func (d *device) compare(a *answer) error {
	if err := d.compareRooms(a); err != nil {
		return err
	}
	d.compareInvites(a)
	d.compareLists(a)
	for _, id := range d.sortedRooms() {
		r := d.view.rooms[id]
		left := a.entry("leave", id)
		if r.membership != "join" && left == nil || r.skipped {
			continue
		}
		if known := d.w.roomByID(id); left != nil && known.forgotten[d.user] {
			d.compareForgotten(a, known)
			continue
		} else if left != nil && known.joinedAt[d.user] == 0 {
			continue // its state is not for the user to read
		}
		t, err := d.w.tell(d.user, id)
		if err != nil {
			return err
		}
		if t.refused {
			d.w.report("", d.name, "%s: is told by /sync, and /state refuses", id)
			continue
		}
		d.compareTimeline(a, id, r, t)
		d.compareState(a, id, r, t)
		if r.membership == "join" {
			d.compareSenders(a, id, r, t)
			d.compareSummary(id, r, t)
		}
	}
	return nil
}

// compareForgotten looks at a room that the user has left and forgotten, and that is told. Each device may be told of it once.
func (d *device) compareForgotten(a *answer, known *room) {
	if old := a.older.rooms[known.id]; a.s.initial || old != nil && old.membership == "leave" && known.leftAt[d.user] <= a.older.at {
		d.w.report("", d.name, "%s: is told though the user has left and forgotten it", known.id)
	}
}

// compareLists looks for the users of whom device_lists has to tell. It may tell of them in one answer or the next.
func (d *device) compareLists(a *answer) {
	if a.s.initial {
		clear(d.lists)
		return
	}
	lists := object(a.body, "device_lists")
	shown := map[bool][]string{true: texts(lists["changed"]), false: texts(lists["left"])}
	for _, u := range d.w.users {
		x, is := d.lists[u.id]
		if !is {
			continue
		}
		x.answers++
		switch {
		case slices.Contains(shown[x.isMember], u.id):
			delete(d.lists, u.id)
		case x.answers == 2:
			delete(d.lists, u.id)
			d.w.report("", d.name, "two answers, and device_lists has not told of %s, who shares a room: %v", u.id, x.isMember)
		default:
			d.lists[u.id] = x
		}
	}
}

func (d *device) sortedRooms() []string {
	var out []string
	for _, r := range d.w.rooms { // in the order in which they were made
		if d.view.rooms[r.id] != nil {
			out = append(out, r.id)
		}
	}
	return out
}

// entry is a room of an answer; nil if it is not in it.
func (a *answer) entry(group, id string) map[string]any { return object(a.body, "rooms", group, id) }

// compareRooms compares the rooms that the device has joined.
func (d *device) compareRooms(a *answer) error {
	joined := d.w.joined[d.user]
	if joined == nil || d.w.joinedAt[d.user] != d.w.version {
		res, err := d.w.call(http.DefaultClient, d.token, "GET", "/v3/joined_rooms", nil, nil, nil)
		if err != nil {
			return err
		}
		d.w.note(d.name, "GET", "/v3/joined_rooms", nil, res)
		joined = texts(res.body["joined_rooms"])
		d.w.joined[d.user], d.w.joinedAt[d.user] = joined, d.w.version
	}
	for _, known := range d.w.rooms {
		r, is := d.view.rooms[known.id], slices.Contains(joined, known.id)
		if is != (known.membership[d.user] == "join") {
			d.w.report("", d.name, "%s: joined_rooms says %v, and the acts made it %q", known.id, is, known.membership[d.user])
		}
		if r != nil && r.skipped {
			continue
		}
		if thinks := r != nil && r.membership == "join"; thinks != is {
			d.w.report("", d.name, "%s: the device thinks that it is joined: %v, and joined_rooms says %v", known.id, thinks, is)
			if thinks {
				delete(d.view.rooms, known.id)
			}
		}
	}
	return nil
}

func (d *device) compareInvites(a *answer) {
	for _, known := range d.w.rooms {
		r := d.view.rooms[known.id]
		if r != nil && r.skipped {
			continue
		}
		thinks, is := r != nil && r.membership == "invite", known.membership[d.user] == "invite"
		if thinks != is {
			d.w.report("", d.name, "%s: the device thinks that it is invited: %v, and it is %q", known.id, thinks, known.membership[d.user])
			if thinks {
				delete(d.view.rooms, known.id)
			}
		}
	}
}

// compareState compares the state that the device has computed with the server's.
func (d *device) compareState(a *answer, id string, r *roomView, t *shown) {
	for _, k := range sortedKeys(t.state) {
		want, got := t.state[k], r.state[k]
		switch {
		case matches(slices.Collect(maps.Keys(d.view.blind)), k.evType):
		case r.membership == "leave" && k == (stateKey{"m.room.member", d.user.id}):
			// /state is that of leaving; /sync tells of a ban after it, or of the end of one.
			if is, now := text(object(got, "content"), "membership"), d.w.roomByID(id).membership[d.user]; got != nil && is != now {
				d.w.report("", d.name, "%s: the device thinks that its membership is %q, and it is %q", id, is, now)
			}
		case got == nil && k.evType == "m.room.member" && !r.whole:
		case got == nil:
			d.w.report("", d.name, "%s: the device has no %v, and the server has %s", id, k, text(want, "event_id"))
			r.state[k] = want
		case text(got, "event_id") != text(want, "event_id"):
			d.w.report("", d.name, "%s: the device has %s as %v, and the server has %s", id, text(got, "event_id"), k, text(want, "event_id"))
			r.state[k] = want
		case object(want, "unsigned")["redacted_because"] == nil && !sameEvent(got, want):
			d.w.report("", d.name, "%s: %v: /sync says %s, and /state %s", id, k, encoded(got), encoded(want))
		}
	}
	for _, k := range sortedKeys(r.state) {
		if t.state[k] == nil {
			d.w.report("", d.name, "%s: the device has %v, and the server has not", id, k)
			delete(r.state, k)
		}
	}
}

func sortedKeys(m map[stateKey]map[string]any) []stateKey {
	return slices.SortedFunc(maps.Keys(m), func(a, b stateKey) int {
		return slices.Compare([]string{a.evType, a.key}, []string{b.evType, b.key})
	})
}

// sameEvent compares what does not depend on the reader.
func sameEvent(a, b map[string]any) bool {
	for _, k := range []string{"type", "state_key", "sender", "event_id", "content", "origin_server_ts"} {
		if !reflect.DeepEqual(a[k], b[k]) {
			return false
		}
	}
	return true
}

func encoded(v any) string {
	text, _ := json.Marshal(v) // it was made from JSON
	return string(text)
}

// compareTimeline compares a timeline with /messages: it has the newest of the visible events that pass the filter, at most as
// many as it may have, and says that it is limited if there are more that are new.
func (d *device) compareTimeline(a *answer, id string, r *roomView, t *shown) {
	group := r.membership
	entry := a.entry(group, id)
	visible := t.visible
	if group == "leave" { // of a world-readable room more can be read than the user was there for
		visible = visible[max(0, slices.IndexFunc(visible, d.isOwn)):]
	}
	fresh := len(visible) // how many of the visible are new to the device
	// A room that was left is told anew with the full state.
	known := r.counted && !a.s.initial && !d.entered(a, id) && !(group == "leave" && a.s.fullState)
	if known {
		at := slices.IndexFunc(visible, func(e map[string]any) bool { return text(e, "event_id") == r.newest })
		switch {
		case at >= 0:
			fresh = at
		case r.newest != "":
			known = false // it can't be seen any more
		}
	}
	r.counted, r.newest = true, ""
	if len(visible) > 0 {
		r.newest = text(visible[0], "event_id")
	}
	var want []map[string]any
	for _, e := range visible[:fresh] {
		if a.s.shows(e) {
			want = append(want, e)
		}
	}
	if entry == nil {
		if known && len(want) > 0 && group == "join" {
			d.w.report("", d.name, "%s: %d new events and not in the answer", id, len(want))
		}
		return
	}
	got := events(entry, "timeline")
	slices.Reverse(got)
	// The user's own membership events are shown in any case: without its own leave, a client could not tell why an invite is gone.
	total := len(got)
	got = slices.DeleteFunc(got, func(e map[string]any) bool {
		return d.isOwn(e) && !slices.ContainsFunc(want, func(x map[string]any) bool { return text(x, "event_id") == text(e, "event_id") })
	})
	seesAll := len(visible) > 0 && text(visible[len(visible)-1], "type") == "m.room.create"
	for i := range min(len(got), len(want)) {
		if text(got[i], "event_id") != text(want[i], "event_id") {
			d.w.report("", d.name, "%s: the timeline has %v, and /messages %v", id, eventIDs(got), eventIDs(want))
			return
		}
		if !sameEvent(got[i], want[i]) || !sameUnsigned(got[i], want[i]) {
			d.w.report("", d.name, "%s: /sync says %s, and /messages %s", id, encoded(got[i]), encoded(want[i]))
		}
	}
	if most := min(len(want)+total-len(got), a.s.most()); known && total != most && !replaced(a, want, len(got), t) || total > most {
		d.w.report("", d.name, "%s: the timeline has %d events, and /messages %d that are new, of which at most %d are shown",
			id, len(got), len(want), a.s.most())
	}
	limited, _ := object(entry, "timeline")["limited"].(bool)
	// With a limit of 0 and something new, whatever the filter lets through, the timeline may say that it is limited.
	if known && limited != (len(want) > len(got)) && (seesAll && a.s.most() > 0 || !limited) {
		d.w.report("", d.name, "%s: the timeline has %d of %d events and says limited: %v", id, len(got), len(want), limited)
	}
}

// replaced says that the timeline begins after a state event that is no longer the room's: another one, which a filter or the visibility
// may hide, has replaced it, and `state` comes before the timeline.
func replaced(a *answer, want []map[string]any, count int, t *shown) bool {
	if a.s.stateAfter || count >= len(want) {
		return false
	}
	key, isState := want[count]["state_key"].(string)
	now := t.state[stateKey{text(want[count], "type"), key}]
	return isState && text(now, "event_id") != text(want[count], "event_id") && hides(a, t, now)
}

// hides says that the timeline of an answer does not show an event, wherever it begins.
func hides(a *answer, t *shown, e map[string]any) bool {
	return !a.s.shows(e) || !slices.ContainsFunc(t.visible, func(x map[string]any) bool { return text(x, "event_id") == text(e, "event_id") })
}

// isOwn says that an event is a membership of the user.
func (d *device) isOwn(e map[string]any) bool {
	return text(e, "type") == "m.room.member" && text(e, "state_key") == d.user.id
}

// sameUnsigned compares what a user is told beside an event.
func sameUnsigned(a, b map[string]any) bool {
	x, y := object(a, "unsigned"), object(b, "unsigned")
	for _, k := range []string{"membership", "prev_content", "replaces_state"} {
		if !reflect.DeepEqual(x[k], y[k]) {
			return false
		}
	}
	return (x["redacted_because"] == nil) == (y["redacted_because"] == nil)
}

func eventIDs(list []map[string]any) []string {
	out := make([]string, len(list))
	for i, e := range list {
		out[i] = text(e, "event_id")
	}
	return out
}

// compareSenders looks whether the device knows the members whom it has to show.
func (d *device) compareSenders(a *answer, id string, r *roomView, t *shown) {
	if matches(slices.Collect(maps.Keys(d.view.blind)), "m.room.member") || !a.s.lazy && !r.whole {
		return // it has asked for members in a way that leaves some out
	}
	entry := a.entry("join", id)
	for _, e := range events(entry, "timeline") {
		k := stateKey{"m.room.member", text(e, "sender")}
		if r.state[k] == nil && t.state[k] != nil {
			d.w.report("", d.name, "%s: the device knows no member event of %s, who sent what it shows", id, k.key)
			r.state[k] = t.state[k]
		}
	}
	for _, hero := range r.summary.heroes {
		k := stateKey{"m.room.member", hero}
		if r.state[k] == nil && t.state[k] != nil {
			d.w.report("", d.name, "%s: the device knows no member event of the hero %s", id, k.key)
			r.state[k] = t.state[k]
		}
	}
}

// compareSummary compares what a client names a room by.
func (d *device) compareSummary(id string, r *roomView, t *shown) {
	if !r.summarised {
		return
	}
	count := map[string]int{}
	for k, e := range t.state {
		if k.evType == "m.room.member" {
			count[text(object(e, "content"), "membership")]++
		}
	}
	if r.summary.joined != count["join"] || r.summary.invited != count["invite"] {
		d.w.report("", d.name, "%s: the summary counts %d joined and %d invited, and the state %d and %d", id, r.summary.joined, r.summary.invited, count["join"], count["invite"])
		r.summary.joined, r.summary.invited = count["join"], count["invite"]
	}
	name := t.state[stateKey{"m.room.name", ""}]
	if text(object(name, "content"), "name") != "" || len(r.summary.heroes) > 0 {
		r.nameless = false
	} else if rest := count["join"] + count["invite"] + count["leave"] + count["ban"] - 1; rest > 0 && !r.nameless {
		r.nameless = true
		d.w.report("", d.name, "%s: the room has no name, and the device knows no heroes", id)
	}
}
