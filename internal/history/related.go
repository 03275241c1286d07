package history

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/token"
	"stoa/matrix/id"
)

// RelationsQuery asks for the events that relate to an event.
type RelationsQuery struct {
	EventID id.EventID
	// RelType and EventType select events; empty = all.
	RelType, EventType string
	// From and To bound the page; nil = an end.
	From, To *token.Token
	Dir      Direction
	Limit    int // at least 1
	// Recurse includes indirect relations.
	Recurse bool
}

// RelationsPage is a page of events that relate to an event.
type RelationsPage struct {
	Events []View
	// End is where the next page begins, if HasEnd.
	End    token.Timeline
	HasEnd bool
	// Depth is the number of levels that were followed.
	Depth int
}

// Bounds of the recursion.
const (
	relationDepth   = 3
	recursionLimit  = 5000 // events
	threadPageLimit = 100
)

// Relations returns a page of the events that relate to an event and that the viewer may
// see.
//
// Errors: M_NOT_FOUND (the event is not there or the viewer may not see it).
//
// Spec: client-server-api#relationships-api
func (rd *Reader) Relations(ctx context.Context, viewer id.UserID, roomID id.RoomID, q RelationsQuery) (page RelationsPage, err error) {
	err = rd.store.Read(ctx, func(read *store.Read) error {
		v, err := rd.eventViewer(read, roomID, viewer)
		if err != nil {
			return err
		}
		if _, err := v.event(q.EventID); err != nil {
			return err
		}
		w, err := v.walk(HistoryQuery{From: q.From, To: q.To, Dir: q.Dir})
		if err != nil {
			return err
		}
		next := v.related(w, q)
		if q.Recurse {
			all, depth, err := v.descendants(q)
			if err != nil {
				return err
			}
			page.Depth = depth
			next = among(all, w)
		}
		if err := v.takeRelated(&page, w, next, min(max(q.Limit, 1), pageLimit)); err != nil {
			return err
		}
		return bundler{v}.bundleAll(page.Events)
	})
	return page, err
}

// takeRelated fills a page with the events that next returns, batch by batch.
func (v *Viewer) takeRelated(page *RelationsPage, w *walk, next func(limit int) ([]roomdb.Relation, error), limit int) error {
	bytes := 0
	for looked := 0; looked < lookLimit; {
		rows, err := next(lookBatch)
		if err != nil {
			return fmt.Errorf("load relations in %s: %w", v.roomID, err)
		}
		looked += len(rows)
		for _, row := range rows {
			view, sees, err := bundler{v}.child(row)
			if err != nil {
				return err
			}
			if sees && (len(page.Events) == limit || bytes >= pageBytes) {
				page.End, page.HasEnd = w.token(), true
				return nil
			}
			w.pass(row.Place)
			if sees {
				page.Events = append(page.Events, view)
				bytes += view.Bytes()
			}
		}
		if len(rows) < lookBatch {
			return nil
		}
	}
	page.End, page.HasEnd = w.token(), true
	return nil
}

// pass moves the walk beyond an event.
func (w *walk) pass(at roomdb.Place) {
	w.at = at
	if w.dir == Backwards {
		w.at.Off--
	}
}

// related returns a function that reads direct relations from the walk's place on.
func (v *Viewer) related(w *walk, q RelationsQuery) func(int) ([]roomdb.Relation, error) {
	target := q.EventID.String()
	return func(limit int) ([]roomdb.Relation, error) {
		if w.dir == Backwards {
			from := roomdb.Place{Slot: w.at.Slot, Off: w.at.Off + 1}
			return roomdb.RelationsBack(v.read, v.Room.Num, target, q.RelType, q.EventType, from, w.stop, limit)
		}
		return roomdb.Relations(v.read, v.Room.Num, target, q.RelType, q.EventType, w.at, w.stop, limit)
	}
}

// descendants reads direct and indirect relations of an event, oldest first, and returns
// their greatest depth. Types select results, but not the events in between.
func (v *Viewer) descendants(q RelationsQuery) (all []roomdb.Relation, depth int, err error) {
	seen := map[store.EventNum]bool{}
	targets := []string{q.EventID.String()}
	for depth < relationDepth && len(targets) > 0 && len(seen) < recursionLimit {
		var found []store.EventNum
		for _, target := range targets {
			rows, err := roomdb.Relations(v.read, v.Room.Num, target, "", "", roomdb.Start, roomdb.End, recursionLimit-len(seen))
			if err != nil {
				return nil, depth, err
			}
			for _, row := range rows {
				if seen[row.Event] {
					continue
				}
				seen[row.Event] = true
				found = append(found, row.Event)
				if (q.RelType == "" || row.RelType == q.RelType) && (q.EventType == "" || row.Type == q.EventType) {
					all = append(all, row)
				}
			}
			if len(seen) >= recursionLimit {
				break
			}
		}
		if targets, err = roomdb.EventIDs(v.read, found); err != nil {
			return nil, depth, err
		}
		depth++
	}
	slices.SortFunc(all, func(a, b roomdb.Relation) int { return a.Place.Compare(b.Place) })
	return all, depth, nil
}

// among returns a function that reads from a list of relations, oldest first, from the
// walk's place on.
func among(all []roomdb.Relation, w *walk) func(int) ([]roomdb.Relation, error) {
	return func(limit int) ([]roomdb.Relation, error) {
		var rows []roomdb.Relation
		if w.dir == Forwards {
			for _, row := range all {
				if row.Place.Compare(w.at) > 0 && row.Place.Compare(w.stop) <= 0 && len(rows) < limit {
					rows = append(rows, row)
				}
			}
			return rows, nil
		}
		for _, row := range slices.Backward(all) {
			if row.Place.Compare(w.at) <= 0 && row.Place.Compare(w.stop) >= 0 && len(rows) < limit {
				rows = append(rows, row)
			}
		}
		return rows, nil
	}
}

// ThreadsQuery asks for the threads of a room.
type ThreadsQuery struct {
	// Participated selects threads in which the viewer has taken part.
	Participated bool
	From         *token.Token // nil = the newest
	Limit        int          // at least 1
}

// Threads returns a page of thread roots of a room with their aggregations, the thread
// with the newest event first.
//
// Errors: M_FORBIDDEN, M_NOT_FOUND.
//
// Spec: client-server-api#querying-threads-in-a-room
func (rd *Reader) Threads(ctx context.Context, viewer id.UserID, roomID id.RoomID, q ThreadsQuery) (page RelationsPage, err error) {
	err = rd.look(ctx, roomID, viewer, func(v *Viewer) error {
		w, err := v.walk(HistoryQuery{From: q.From})
		if err != nil {
			return err
		}
		limit, bytes := min(max(q.Limit, 1), threadPageLimit), 0
		for looked := 0; looked < lookLimit; {
			before := roomdb.Place{Slot: w.at.Slot, Off: w.at.Off + 1}
			threads, err := roomdb.ThreadRoots(v.read, v.Room.Num, before, lookBatch)
			if err != nil {
				return fmt.Errorf("load threads of %s: %w", roomID, err)
			}
			looked += len(threads)
			for _, t := range threads {
				root, wanted, err := v.root(t, q.Participated)
				if err != nil {
					return err
				}
				if wanted && (len(page.Events) == limit || bytes >= pageBytes) {
					page.End, page.HasEnd = w.token(), true
					return nil
				}
				w.pass(t.Newest)
				if wanted {
					page.Events = append(page.Events, root)
					bytes += root.Bytes()
				}
			}
			if len(threads) < lookBatch {
				return nil
			}
		}
		page.End, page.HasEnd = w.token(), true
		return nil
	})
	return page, err
}

// root returns the root of a thread with its aggregations, if the viewer may see the root
// and at least one event of the thread. The root of an ignored user is shown redacted.
func (v *Viewer) root(t roomdb.ThreadRoot, participated bool) (View, bool, error) {
	e, err := roomdb.EventByID(v.read, t.Root)
	if errors.Is(err, store.ErrNotFound) || err == nil && (e.Room != v.Room.Num || e.Place.Slot == 0) {
		return View{}, false, nil
	}
	if err != nil {
		return View{}, false, err
	}
	pdu, err := v.rd.events.Parse(v.Rules, e)
	if err != nil {
		return View{}, false, err
	}
	view, sees, err := v.view(e, pdu)
	if err != nil || !sees {
		return View{}, false, err
	}
	if participated {
		if takesPart, err := (bundler{v}).takesPart(&view, t.Root); err != nil || !takesPart {
			return View{}, false, err
		}
	}
	if err := (bundler{v}).bundle(true, &view); err != nil || view.Bundle == nil || view.Bundle.Thread == nil {
		return View{}, false, err
	}
	hidden, err := v.hides(pdu)
	if hidden {
		view.PDU = view.PDU.Redacted()
	}
	return view, true, err
}
