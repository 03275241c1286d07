package history

import (
	"errors"
	"fmt"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/timeline"
	"stoa/matrix/id"
)

// The relation types that have aggregations.
const (
	relReplace   = "m.replace"
	relReference = "m.reference"
)

// Bounds of the events that are read for one aggregation.
const (
	replacementLimit = 50
	latestLimit      = 20
)

// bundleAll adds to views their aggregations, as the viewer sees them.
//
// Spec: client-server-api#aggregations-of-child-events
func (v bundler) bundleAll(lists ...[]View) error {
	var views []*View
	for _, list := range lists {
		for i := range list {
			views = append(views, &list[i])
		}
	}
	return v.bundle(true, views...)
}

// bundle is bundleAll for some views. threads says whether thread summaries are wanted
// too.
func (v bundler) bundle(threads bool, views ...*View) error {
	parents := make(map[string]*View, len(views))
	var targets []string
	for _, view := range views {
		if !view.PDU.IsState() {
			eventID := view.PDU.EventID().String()
			parents[eventID] = view
			targets = append(targets, eventID)
		}
	}
	if len(targets) == 0 {
		return nil
	}
	counts, err := roomdb.RelationCounts(v.read, v.Room.Num, targets)
	if err != nil {
		return fmt.Errorf("count relations in %s: %w", v.roomID, err)
	}
	for _, c := range counts {
		parent := parents[c.Target]
		b := parent.Bundle
		if b == nil {
			b = &timeline.Bundle{}
		}
		switch c.RelType {
		case relReplace:
			b.Replace, err = v.replacement(parent, c.Target)
		case relReference:
			b.References, err = v.references(c.Target)
		case room.RelThread:
			if threads {
				b.Thread, err = v.thread(parent, c.Target)
			}
		}
		if err != nil {
			return fmt.Errorf("aggregate %s of %s: %w", c.RelType, c.Target, err)
		}
		if b.Replace != nil || b.Thread != nil || len(b.References) > 0 {
			parent.Bundle = b
		}
	}
	return nil
}

// replacement returns the replacement that clients should show for an event; nil for
// none.
//
// Spec: client-server-api#server-side-aggregation-of-mreplace-relationships
func (v bundler) replacement(parent *View, target string) (best *timeline.Event, err error) {
	rows, err := roomdb.RelationsBack(v.read, v.Room.Num, target, relReplace, "", roomdb.End, roomdb.Start, replacementLimit)
	if err != nil {
		return nil, err
	}
	original := parent.Event()
	for _, row := range rows {
		if row.Sender != original.Sender.String() || row.Type != original.Type {
			continue
		}
		child, sees, err := v.child(row)
		if err != nil {
			return nil, err
		}
		if !sees {
			continue
		}
		if edit := child.Event(); timeline.ValidReplacement(original, edit) && (best == nil || timeline.MoreRecent(edit, best)) {
			best = edit
		}
	}
	return best, nil
}

// references returns the events that refer to an event.
//
// Spec: client-server-api#server-side-aggregation-of-mreference
func (v bundler) references(target string) (events []id.EventID, err error) {
	rows, err := roomdb.Relations(v.read, v.Room.Num, target, relReference, "", roomdb.Start, roomdb.End, timeline.MaxReferences)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		child, sees, err := v.child(row)
		if err != nil {
			return nil, err
		}
		if sees {
			events = append(events, child.PDU.EventID())
		}
	}
	return events, nil
}

// thread summarises the thread with the given root; nil if the event is not a thread
// root.
//
// Spec: client-server-api#server-side-aggregation-of-mthread-relationships
func (v bundler) thread(root *View, target string) (*timeline.Thread, error) {
	if root.Event().Relation != nil { // threads are never nested
		return nil, nil
	}
	rows, err := roomdb.RelationsBack(v.read, v.Room.Num, target, room.RelThread, "", roomdb.End, roomdb.Start, latestLimit)
	if err != nil {
		return nil, err
	}
	t := &timeline.Thread{}
	for _, row := range rows {
		latest, sees, err := v.child(row)
		if err != nil {
			return nil, err
		}
		if !sees {
			continue
		}
		if err := v.bundle(false, &latest); err != nil {
			return nil, err
		}
		t.Latest, t.LatestBundle, t.LatestMembership = latest.Event(), latest.Bundle, latest.Membership
		break
	}
	if t.Latest == nil {
		return nil, nil
	}
	ignored, err := v.ignoredUsers()
	if err != nil {
		return nil, err
	}
	senders := make([]string, 0, len(ignored))
	for user := range ignored {
		senders = append(senders, user)
	}
	if t.Count, err = roomdb.CountRelationsExcept(v.read, v.Room.Num, target, room.RelThread, senders); err != nil {
		return nil, err
	}
	t.Participated, err = v.takesPart(root, target)
	return t, err
}

// takesPart reports whether the viewer sent the root of a thread or an event in it.
func (v bundler) takesPart(root *View, target string) (bool, error) {
	if root.PDU.Sender() == v.User {
		return true, nil
	}
	return roomdb.IsRelatedBy(v.read, v.Room.Num, target, room.RelThread, v.User.String())
}

// child returns the event of a relation, unless it is hidden from the viewer or its
// sender is ignored.
func (v bundler) child(row roomdb.Relation) (View, bool, error) {
	ignored, err := v.ignoredUsers()
	if err != nil || ignored[row.Sender] {
		return View{}, false, err
	}
	e, err := roomdb.EventByNum(v.read, row.Event)
	if errors.Is(err, store.ErrNotFound) {
		return View{}, false, nil
	}
	if err != nil {
		return View{}, false, err
	}
	pdu, err := v.rd.events.Parse(v.Rules, e)
	if err != nil {
		return View{}, false, err
	}
	return v.view(e, pdu)
}

// bundler aggregates the children of events for one viewer.
type bundler struct{ *Viewer }
