package timeline

import (
	"strconv"

	"stoa/matrix/event"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/id"
)

// Bundle are the aggregations of one event's children, as one reader sees them.
//
// Spec: client-server-api#aggregations-of-child-events
type Bundle struct {
	// Replace is the most recent valid replacement, nil for none.
	Replace *Event
	// Thread is nil if the event is no thread root.
	Thread *Thread
	// References are the events with `m.reference` to this one, oldest first.
	References []id.EventID
}

// Thread summarizes the thread whose root an event is.
//
// Spec: client-server-api#server-side-aggregation-of-mthread-relationships
type Thread struct {
	// Latest is the newest event of the thread by a user who is not ignored, LatestBundle its own aggregations.
	Latest       *Event
	LatestBundle *Bundle
	// LatestMembership is the reader's membership at the latest event; empty for not known.
	LatestMembership string
	// Count is the number of events with `m.thread` to the root, those of ignored users not counted.
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

// BundleWithin makes the bundles of events from a stretch of a room's timeline that holds all their children: every child
// of a live event comes later than it, so a stretch that reaches up to the newest event has them all. The stretch is in
// timeline order, and nil for events without aggregations.
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
				// A thread's event is no root itself, so this goes one step deep.
				b.Thread.LatestBundle = &Bundle{Replace: latest.Replace, References: latest.References}
			}
		}
	}
	return bundles
}

// add counts one more child, newer than those before; false if it does not count.
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
		if parent.Relation != nil { // threads don't nest
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

// MoreRecent says whether a rather than b is the replacement that counts, both of one event.
//
// Spec: client-server-api#server-side-aggregation-of-mreplace-relationships
func MoreRecent(a, b *Event) bool {
	if a.OriginServerTS != b.OriginServerTS {
		return a.OriginServerTS > b.OriginServerTS
	}
	return a.ID.String() > b.ID.String()
}

// ValidReplacement says whether edit replaces original. Both are of one room, and edit has `m.replace` to original.
//
// Spec: client-server-api#validity-of-replacement-events
func ValidReplacement(original, edit *Event) bool {
	if original.IsRedacted() || edit.IsRedacted() || original.IsState || edit.IsState || original.Relates(RelReplace) ||
		original.Sender != edit.Sender || original.Type != edit.Type {
		return false
	}
	// The new content of an encrypted event is inside of what is encrypted.
	return edit.Type == event.TypeEncrypted || canonicaljson.IsObject(canonicaljson.Get(edit.Content(), "m.new_content"))
}
