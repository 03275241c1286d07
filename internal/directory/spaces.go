package directory

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"stoa/internal/history"
	"stoa/internal/store"
	"stoa/internal/token"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// HierarchyQuery asks for a page of the tree of a space.
type HierarchyQuery struct {
	SuggestedOnly bool
	// MaxDepth is how deep to go; 0 = only the space itself.
	MaxDepth int
	Limit    int // at least 1
	// From is where the page begins; nil = at the space itself.
	From *token.Hierarchy
}

// HierarchyPage is a page of the tree of a space.
type HierarchyPage struct {
	Rooms []Child
	Next  *token.Hierarchy // nil if there is nothing more
}

// Bounds of a tree.
const (
	HierarchyDepth     = 10 // greatest MaxDepth
	hierarchyPageLimit = 50
	hierarchyRooms     = 2000 // looked at for one page
)

// Hierarchy gives a page of the tree of a space, depth first: those rooms that the
// user may find and that this server knows.
//
// Errors: M_FORBIDDEN, M_INVALID_PARAM (From belongs to another query).
//
// Spec: client-server-api#get_matrixclientv1roomsroomidhierarchy
func (d *Directory) Hierarchy(ctx context.Context, user id.UserID, roomID id.RoomID, q HierarchyQuery) (page HierarchyPage, err error) {
	q.MaxDepth = min(q.MaxDepth, HierarchyDepth)
	w := &treeWalk{d: d, user: user, q: q, limit: min(q.Limit, hierarchyPageLimit), seen: map[id.RoomID]bool{}}
	if q.From != nil {
		if q.From.SuggestedOnly != q.SuggestedOnly || q.From.MaxDepth != q.MaxDepth {
			return page, mxerr.InvalidParam("suggested_only and max_depth cannot change on paginated requests")
		}
		w.skip = q.From.Skip
	}
	page.Rooms = []Child{}
	err = d.store.Read(ctx, func(r *store.Read) error {
		w.read = r
		found, err := w.visit(roomID, 0, &page)
		if err != nil {
			return fmt.Errorf("tree of %s: %w", roomID, err)
		}
		if !found {
			return mxerr.Forbidden("You are not allowed to view this room")
		}
		return nil
	})
	if w.more {
		page.Next = &token.Hierarchy{Skip: w.skip + len(page.Rooms), MaxDepth: q.MaxDepth, SuggestedOnly: q.SuggestedOnly}
	}
	return page, err
}

// treeWalk walks a tree anew for each page and leaves out what earlier pages had.
type treeWalk struct {
	d     *Directory
	read  *store.Read
	user  id.UserID
	q     HierarchyQuery
	limit int
	skip  int // rooms of earlier pages
	found int
	more  bool
	seen  map[id.RoomID]bool
}

// visit adds a room and its descendants to the page; false if the room is not to
// be shown.
func (w *treeWalk) visit(roomID id.RoomID, depth int, page *HierarchyPage) (bool, error) {
	if w.seen[roomID] || len(w.seen) >= hierarchyRooms {
		return false, nil
	}
	w.seen[roomID] = true
	v, err := w.d.history.Viewer(w.read, roomID, w.user)
	if _, unknown := mxerr.As(err); unknown {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if may, err := v.MayFind(); err != nil || !may {
		return false, err
	}
	child := Child{ChildrenState: []json.RawMessage{}}
	if child.Summary, err = describe(v, roomID); err != nil {
		return false, err
	}
	var below []spaceChild
	if child.RoomType == "m.space" {
		if below, err = spaceChildren(v, w.q.SuggestedOnly); err != nil {
			return false, err
		}
		for _, b := range below {
			child.ChildrenState = append(child.ChildrenState, b.stripped)
		}
	}
	switch w.found++; {
	case w.found <= w.skip:
	case len(page.Rooms) == w.limit:
		w.more = true
		return true, nil
	default:
		page.Rooms = append(page.Rooms, child)
	}
	if depth < w.q.MaxDepth {
		for _, b := range below {
			if _, err := w.visit(b.roomID, depth+1, page); err != nil || w.more {
				return true, err
			}
		}
	}
	return true, nil
}

// spaceChild is a room that a space names.
type spaceChild struct {
	roomID   id.RoomID
	order    string // empty for none
	ts       int64
	stripped json.RawMessage
}

// spaceChildren gives the rooms that a space names, in the order of the spec.
//
// Spec: client-server-api#ordering-of-children-within-a-space
func spaceChildren(v *history.Viewer, suggestedOnly bool) ([]spaceChild, error) {
	state, err := v.StateOfType(event.TypeSpaceChild)
	if err != nil {
		return nil, err
	}
	var children []spaceChild
	for _, pdu := range state {
		stateKey, _ := pdu.StateKey()
		roomID, err := id.ParseRoomID(stateKey)
		via := canonicaljson.Get(pdu.Content(), "via")
		if err != nil || !canonicaljson.IsArray(via) || string(via) == "[]" {
			continue // the spec says that these are no children
		}
		if suggested, _ := canonicaljson.Bool(canonicaljson.Get(pdu.Content(), "suggested")); suggestedOnly && !suggested {
			continue
		}
		c := spaceChild{roomID: roomID, ts: pdu.OriginServerTS()}
		if order, ok := canonicaljson.String(canonicaljson.Get(pdu.Content(), "order")); ok && isOrder(order) {
			c.order = order
		}
		stripped := event.StrippedState(pdu)
		c.stripped = append(stripped[:len(stripped)-1], `,"origin_server_ts":`...)
		c.stripped = append(strconv.AppendInt(c.stripped, c.ts, 10), '}')
		children = append(children, c)
	}
	slices.SortFunc(children, func(a, b spaceChild) int {
		if (a.order == "") != (b.order == "") {
			return cmp.Compare(b.order, a.order) // those with an order come first
		}
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.ts, b.ts), cmp.Compare(a.roomID.String(), b.roomID.String()))
	})
	return children, nil
}

// isOrder says whether a text may order children: ASCII without control characters,
// at most 50 of them.
func isOrder(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7E {
			return false
		}
	}
	return s != "" && len(s) <= 50
}
