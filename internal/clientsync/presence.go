package clientsync

import (
	"context"
	"slices"
	"strconv"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/eventfilter"
)

const (
	// presenceLimit bounds the presence events of one answer. Who comes after them is heard of with their next change.
	presenceLimit = 500
	// presentRecords and presentBytes bound the changes that are kept in memory: some minutes of a morning on which 26,000
	// people come.
	presentRecords, presentBytes = 1 << 13, 4 << 20
	// presenceLook bounds the changes, of all users, that are looked at for one answer.
	presenceLook = 2000
)

// currentlyActive is how long after an action of the user presence says that they are active now.
//
// Spec: client-server-api#last-active-ago
const currentlyActive = 5 * time.Minute

// PresenceEvents is the section presence: m.presence of those who share a room with the viewer.
//
// Spec: client-server-api#presence
type PresenceEvents struct{ Clock func() time.Time }

// Key implements Section.
func (PresenceEvents) Key() string { return "presence" }

// Watch implements Section.
func (PresenceEvents) Watch() Watch {
	kinds := []store.Kind{store.KindPresence}
	return Watch{Own: kinds, Shared: kinds, Members: true}
}

// Append implements Section.
func (p PresenceEvents) Append(ctx context.Context, dst []byte, q *Query) ([]byte, error) {
	if q.Filter.Presence.AllowsNone() {
		return dst, nil
	}
	rows, err := presenceRows(ctx, q)
	if err != nil {
		return dst, err
	}
	rows = slices.DeleteFunc(rows, func(x userdb.Presence) bool {
		return !q.Filter.Presence.Allows(eventfilter.Event{Type: "m.presence", Sender: x.UserID})
	})
	if len(rows) == 0 {
		return dst, nil
	}
	rows = rows[:min(len(rows), q.Filter.Presence.LimitOr(presenceLimit))]
	dst = append(dst, `{"events":[`...)
	for i, row := range rows {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"content":`...)
		dst = AppendPresence(dst, row, p.Clock())
		dst = append(dst, `,"sender":`...)
		dst = canonicaljson.AppendString(dst, row.UserID)
		dst = append(dst, `,"type":"m.presence"}`...)
	}
	return append(dst, `]}`...), nil
}

// presenceRows are those who changed, and those whom the viewer sees for the first time; each once.
func presenceRows(ctx context.Context, q *Query) ([]userdb.Presence, error) {
	if q.Since == 0 || q.Forgotten {
		r, err := q.Read(ctx)
		if err != nil {
			return nil, err
		}
		return userdb.PresenceNow(r, q.UserNum, presenceLimit)
	}
	rows, err := presenceChanged(ctx, q)
	if err != nil || len(q.Entered)+len(q.Grew) == 0 {
		return rows, err
	}
	r, err := q.Read(ctx)
	if err != nil {
		return nil, err
	}
	var more []userdb.Presence
	if len(q.Entered) > 0 {
		if more, err = userdb.PresenceIn(r, q.Entered, presenceLimit); err != nil {
			return nil, err
		}
	}
	if len(q.Grew) > 0 {
		names := make([]string, 0, min(len(q.Grew), presenceLimit))
		for _, g := range q.Grew[:cap(names)] {
			names = append(names, g.UserID.String())
		}
		others, err := userdb.PresenceOf(r, names)
		if err != nil {
			return nil, err
		}
		more = append(more, others...)
	}
	for _, m := range more {
		if !slices.ContainsFunc(rows, func(x userdb.Presence) bool { return x.User == m.User }) {
			rows = append(rows, m)
		}
	}
	return rows, nil
}

// presenceChanged are those who changed and whom the viewer may see: from memory, and from the store as far as memory does
// not know.
func presenceChanged(ctx context.Context, q *Query) ([]userdb.Presence, error) {
	rows, ask, known := q.hub.presence(q.UserNum, q.Since, q.Upto)
	if known && len(ask) == 0 {
		return rows, nil
	}
	r, err := q.Read(ctx)
	if err != nil {
		return nil, err
	}
	if !known {
		if ask, err = userdb.PresenceChanged(r, q.Since, q.Upto, presenceLook); err != nil {
			return nil, err
		}
		ask = q.hub.mayShare(q.UserNum, ask)
	}
	if len(ask) == 0 {
		return rows, nil
	}
	others, err := userdb.PresenceFor(r, q.UserNum, ask[:min(len(ask), presenceLimit)])
	return append(rows, others...), err
}

// presenceChange is what a user showed at a position of the stream.
type presenceChange struct {
	userdb.Presence
	// rooms are those of a user who was not in memory then, else nil.
	rooms []store.RoomNum
}

// addPresence puts a change of presence into the ring. Called with the lock held.
func (h *Hub) addPresence(a *applied, row store.StreamRow) {
	rec := record{pos: row.Pos, size: 250}
	if x, ok := a.presence[row.User()]; ok {
		rec.presence = &presenceChange{x, a.sharers[row.User()]}
		rec.size += len(x.UserID) + 8*len(rec.presence.rooms)
		if x.StatusMsg != nil {
			rec.size += len(*x.StatusMsg)
		}
	}
	h.present.add(&h.presences, rec)
}

// presence is what memory knows of those whose presence changed after one position up to another, and who share a small room
// with the viewer, or are the viewer; each once. ask are those of whom that is not known. It is not known at all if memory
// does not reach back, or lacks one of them.
func (h *Hub) presence(viewer store.UserNum, after, upTo store.Position) (rows []userdb.Presence, ask []store.UserNum, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	u := h.users[viewer]
	if u == nil || u.loading || after < max(h.ring.floor, h.present.floor) || upTo > h.ring.head {
		return nil, nil, false
	}
	if h.presences.last <= after {
		return nil, nil, true
	}
	known = true
	steps, looked := 0, map[store.UserNum]bool{}
	h.present.since(&h.presences, after, func(r *record) bool {
		if steps++; r.pos > upTo {
			return steps < presenceLook
		}
		x := r.presence
		if known = x != nil; !known {
			return false
		}
		if looked[x.User] {
			return steps < presenceLook
		}
		looked[x.User] = true
		switch meets, known := h.meets(u, x.User); {
		case meets:
			rows = append(rows, x.Presence)
		case known:
		case x.rooms == nil, u.last[store.KindMembership] > r.pos: // in the latter case they may not have been in a room together
			ask = append(ask, x.User)
		case slices.ContainsFunc(x.rooms, func(num store.RoomNum) bool { j := u.find(num); return j != nil && j.room.small() }):
			rows = append(rows, x.Presence)
		}
		return steps < presenceLook && len(rows) < presenceLimit
	})
	if !known {
		return nil, nil, false
	}
	return rows, ask, true
}

// mayShare leaves those users out of a list, which it may change, who are known to share no small room with a viewer: when many
// come at once, that is almost everybody, and the store would have to be asked about each.
func (h *Hub) mayShare(viewer store.UserNum, users []store.UserNum) []store.UserNum {
	h.mu.Lock()
	defer h.mu.Unlock()
	u := h.users[viewer]
	if u == nil || u.loading {
		return users
	}
	return slices.DeleteFunc(users, func(num store.UserNum) bool {
		meets, known := h.meets(u, num)
		return known && !meets
	})
}

// meets says whether a user in memory shares a small room with another, or is the other; it is not known of one who is not in
// memory. Called with the lock held.
func (h *Hub) meets(u *user, num store.UserNum) (meets, known bool) {
	other := h.users[num]
	if other == nil || other.loading {
		return false, false
	}
	return other == u || u.meets(other), true
}

// meets says whether two users have joined the same room, one that may be small enough for presence.
func (u *user) meets(other *user) bool {
	fewer, more := u, other
	if len(fewer.rooms) > len(more.rooms) {
		fewer, more = more, fewer
	}
	for i := range fewer.rooms {
		if r := fewer.rooms[i].room; r.small() && more.find(r.num) != nil {
			return true
		}
	}
	return false
}

// AppendPresence appends the content of m.presence as of a time.
//
// Spec: client-server-api#mpresence
func AppendPresence(dst []byte, p userdb.Presence, now time.Time) []byte {
	dst = append(dst, '{')
	if p.ActiveTS > 0 {
		ago := max(0, now.UnixMilli()-p.ActiveTS)
		if p.Presence == "online" {
			dst = strconv.AppendBool(append(dst, `"currently_active":`...), ago < currentlyActive.Milliseconds())
			dst = append(dst, ',')
		}
		dst = appendInt(append(dst, `"last_active_ago":`...), ago)
		dst = append(dst, ',')
	}
	dst = canonicaljson.AppendString(append(dst, `"presence":`...), p.Presence)
	if p.StatusMsg != nil {
		dst = canonicaljson.AppendString(append(dst, `,"status_msg":`...), *p.StatusMsg)
	}
	return append(dst, '}')
}

func appendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }
