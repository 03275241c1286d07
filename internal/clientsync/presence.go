package clientsync

import (
	"context"
	"slices"
	"strconv"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/internal/streamcache"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/eventfilter"
)

const (
	// presenceLimit bounds the presence events of one answer. Who comes after them is heard of with their next change.
	presenceLimit = 500
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
	if err != nil || len(q.Entered)+len(q.JoinedMembers) == 0 {
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
	if len(q.JoinedMembers) > 0 {
		names := make([]string, 0, min(len(q.JoinedMembers), presenceLimit))
		for _, g := range q.JoinedMembers[:cap(names)] {
			names = append(names, g.UserID.String())
		}
		rows, err := userdb.PresenceOf(r, names)
		if err != nil {
			return nil, err
		}
		more = append(more, rows...)
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
	rows, ask, known := q.cache.PresenceChanges(q.UserNum, q.Since, q.Upto, presenceLimit)
	if known && len(ask) == 0 {
		return rows, nil
	}
	r, err := q.Read(ctx)
	if err != nil {
		return nil, err
	}
	if !known {
		if ask, err = userdb.PresenceChanged(r, q.Since, q.Upto, streamcache.PresenceScanLimit); err != nil {
			return nil, err
		}
		ask = q.cache.MayShare(q.UserNum, ask)
	}
	if len(ask) == 0 {
		return rows, nil
	}
	stored, err := userdb.PresenceFor(r, q.UserNum, ask[:min(len(ask), presenceLimit)])
	return append(rows, stored...), err
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
