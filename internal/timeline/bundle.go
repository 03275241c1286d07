package timeline

import (
	"strconv"

	"stoa/matrix/event"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/id"
)

// Bundle has the aggregations of one event's children, as one reader sees them.
//
// Spec: client-server-api#aggregations-of-child-events
type Bundle struct {
	// Replace is the most recent valid replacement, nil for none.
	Replace *Event
	// Thread is nil if the event is not a thread root.
	Thread *Thread
	// References are the events with `m.reference` to this one, oldest first.
	References []id.EventID
}

// Thread summarises the thread of a root event.
//
// Spec: client-server-api#server-side-aggregation-of-mthread-relationships
type Thread struct {
	// Latest is the newest event of the thread by a user who is not ignored. LatestBundle
	// has its own aggregations.
	Latest       *Event
	LatestBundle *Bundle
	// LatestMembership is the reader's membership at the latest event; empty for unknown.
	LatestMembership string
	// Count is the number of events with `m.thread` to the root, without those of ignored
	// users.
	Count int64
	// Participated says that the reader sent the root or an event of the thread.
	Participated bool
}

// MaxReferences bounds the events that a bundle lists under `m.reference`.
const MaxReferences = 100

func (b *Bundle) appendRelations(dst []byte, r *Reader, roomID id.RoomID) []byte {
	if b == nil || b.Replace == nil && b.Thread == nil && len(b.References) == 0 {
		return dst
	}
	dst = append(dst, `,"m.relations":{`...)
	first := len(dst)
	if b.Replace != nil {
		dst = append(dst, `"m.replace":`...)
		dst = b.Replace.Append(dst, r, Show{RoomID: roomID})
	}
	if t := b.Thread; t != nil {
		if len(dst) > first {
			dst = append(dst, ',')
		}
		dst = append(dst, `"m.thread":{"count":`...)
		dst = strconv.AppendInt(dst, t.Count, 10)
		dst = append(dst, `,"current_user_participated":`...)
		dst = strconv.AppendBool(dst, t.Participated)
		dst = append(dst, `,"latest_event":`...)
		dst = t.Latest.Append(dst, r, Show{RoomID: roomID, Membership: t.LatestMembership, Bundle: t.LatestBundle})
		dst = append(dst, '}')
	}
	if len(b.References) > 0 {
		if len(dst) > first {
			dst = append(dst, ',')
		}
		dst = append(dst, `"m.reference":{"chunk":[`...)
		for i, ref := range b.References[:min(len(b.References), MaxReferences)] {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, `{"event_id":`...)
			dst = canonicaljson.AppendString(dst, ref.String())
			dst = append(dst, '}')
		}
		dst = append(dst, `]}`...)
	}
	return append(dst, '}')
}

// BundleWithin builds the bundles of a segment of a room's timeline, in timeline order.
// The segment must extend to the newest event: then it has all children of its events,
// since a child of a live event always comes later. The result has no entry for events
// without aggregations.
//
// Spec: client-server-api#aggregations-of-child-events
func BundleWithin(segment []*Event, r *Reader) map[id.EventID]*Bundle {
	var parents map[id.EventID]*Event
	for _, e := range segment {
		if e.Relation != nil {
			parents = make(map[id.EventID]*Event, len(segment))
			break
		}
	}
	if parents == nil {
		return nil
	}
	for _, e := range segment {
		if !e.IsState {
			parents[e.ID] = e
		}
	}
	bundles := make(map[id.EventID]*Bundle)
	for _, child := range segment {
		if child.Relation == nil || r.Ignored[child.Sender] {
			continue
		}
		parent := parents[child.Relation.Target]
		if parent == nil {
			continue
		}
		b := bundles[parent.ID]
		if b == nil {
			b = &Bundle{}
		}
		if b.add(parent, child, r) {
			bundles[parent.ID] = b
		}
	}
	for _, b := range bundles {
		if b.Thread != nil {
			if latest := bundles[b.Thread.Latest.ID]; latest != nil {
				// An event in a thread is never a thread root, so one level is enough.
				b.Thread.LatestBundle = &Bundle{Replace: latest.Replace, References: latest.References}
			}
		}
	}
	return bundles
}

// add counts one more child, which is newer than those before. It returns false if the
// child does not count.
func (b *Bundle) add(parent, child *Event, r *Reader) bool {
	switch child.Relation.Type {
	case RelReplace:
		if !ValidReplacement(parent, child) || b.Replace != nil && !MoreRecent(child, b.Replace) {
			return false
		}
		b.Replace = child
	case RelReference:
		b.References = append(b.References, child.ID)
	case RelThread:
		if parent.Relation != nil { // threads are never nested
			return false
		}
		if b.Thread == nil {
			b.Thread = &Thread{Participated: parent.Sender == r.UserID}
		}
		b.Thread.Count++
		b.Thread.Latest = child
		b.Thread.Participated = b.Thread.Participated || child.Sender == r.UserID
	default:
		return false
	}
	return true
}

// MoreRecent reports whether a takes precedence over b; both replace the same event.
//
// Spec: client-server-api#server-side-aggregation-of-mreplace-relationships
func MoreRecent(a, b *Event) bool {
	if a.OriginServerTS != b.OriginServerTS {
		return a.OriginServerTS > b.OriginServerTS
	}
	return a.ID.String() > b.ID.String()
}

// ValidReplacement reports whether edit replaces original. Both belong to one room, and
// edit has `m.replace` to original.
//
// Spec: client-server-api#validity-of-replacement-events
func ValidReplacement(original, edit *Event) bool {
	if original.IsRedacted() || edit.IsRedacted() || original.IsState || edit.IsState || original.Relates(RelReplace) ||
		original.Sender != edit.Sender || original.Type != edit.Type {
		return false
	}
	// The new content of an encrypted event is inside its ciphertext.
	return edit.Type == event.TypeEncrypted || canonicaljson.IsObject(canonicaljson.Get(edit.Content(), "m.new_content"))
}
