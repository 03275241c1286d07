package directory_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"stoa/internal/directory"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// tree reads a whole tree in pages of a size.
func (h *fixture) tree(user id.UserID, root id.RoomID, q directory.HierarchyQuery) (found []id.RoomID) {
	h.t.Helper()
	for {
		page, err := h.Hierarchy(h.t.Context(), user, root, q)
		h.must(err)
		if len(page.Rooms) > q.Limit {
			h.t.Fatalf("a page of %d rooms, more than %d", len(page.Rooms), q.Limit)
		}
		for _, r := range page.Rooms {
			found = append(found, r.RoomID)
		}
		if page.Next == nil {
			return found
		}
		q.From = page.Next
	}
}

func TestHierarchyOrder(t *testing.T) {
	onBothEngines(t, func(h *fixture) {
		alice, eve := h.person("alice"), h.person("eve")
		top := h.create(alice, space)
		child := func(content string) id.RoomID {
			roomID := h.create(alice)
			h.set(alice, top, "m.space.child", roomID.String(), content)
			return roomID
		}
		const via = `"via":["stoa.test"]`
		late := child(`{` + via + `}`)
		badOrder := child(`{"order":"é",` + via + `}`)
		noText := child(`{"order":1,` + via + `}`)
		long := child(`{"order":"` + string(make50('a')) + `a",` + via + `}`)
		fifty := child(`{"order":"` + string(make50('b')) + `",` + via + `}`)
		tilde := child(`{"order":"~",` + via + `}`)
		blank := child(`{"order":" ",` + via + `}`)
		upper := child(`{"order":"B",` + via + `}`)
		tie := child(`{"order":"B",` + via + `}`)
		child(`{"via":[]}`)
		child(`{"via":"stoa.test"}`)
		child(`{}`)
		h.set(alice, top, "m.space.child", "no room", `{`+via+`}`)
		h.set(alice, top, "m.space.child", "!none:stoa.test", `{`+via+`}`)
		want := []id.RoomID{top, blank, upper, tie, fifty, tilde, late, badOrder, noText, long}
		for _, limit := range []int{1, 3, 10, 50} {
			same(h.t, fmt.Sprintf("in pages of %d", limit), h.tree(eve, top, directory.HierarchyQuery{Limit: limit, MaxDepth: 5}), want)
		}
		page, err := h.Hierarchy(h.t.Context(), eve, top, directory.HierarchyQuery{Limit: 1, MaxDepth: 5})
		h.must(err)
		children := page.Rooms[0].ChildrenState
		if len(children) != 10 { // those that this server does not know are children too
			h.t.Fatalf("the space has the children %s", children)
		}
		var first map[string]json.RawMessage
		h.must(json.Unmarshal(children[0], &first))
		for _, key := range []string{"type", "state_key", "content", "sender", "origin_server_ts"} {
			if first[key] == nil {
				h.t.Errorf("no %s in %s", key, children[0])
			}
		}
	})
}

func make50(c byte) []byte {
	text := make([]byte, 50)
	for i := range text {
		text[i] = c
	}
	return text
}

func TestHierarchyShowsWhatOneMayFind(t *testing.T) {
	h := onSQLite(t)
	ctx := t.Context()
	alice, eve := h.person("alice"), h.person("eve")
	top, inner, closedSpace := h.create(alice, space), h.create(alice, space), h.create(alice, space, private)
	open, closed, behind := h.create(alice), h.create(alice, private), h.create(alice)
	noSpace := h.create(alice)
	link := func(parent, child id.RoomID, more string) {
		h.set(alice, parent, "m.space.child", child.String(), `{"via":["stoa.test"]`+more+`}`)
	}
	link(top, inner, `,"order":"a","suggested":true`)
	link(top, closedSpace, `,"order":"b"`)
	link(top, noSpace, `,"order":"c"`)
	link(inner, top, "") // a circle
	link(inner, open, `,"order":"a"`)
	link(inner, closed, `,"order":"b","suggested":true`)
	link(closedSpace, behind, "")
	link(noSpace, behind, "") // a room that is no space has no children
	q := directory.HierarchyQuery{Limit: 50, MaxDepth: 10}
	same(t, "for alice", h.tree(alice, top, q), []id.RoomID{top, inner, open, closed, closedSpace, behind, noSpace})
	same(t, "for eve", h.tree(eve, top, q), []id.RoomID{top, inner, open, noSpace})
	q.SuggestedOnly = true
	same(t, "what is suggested to alice", h.tree(alice, top, q), []id.RoomID{top, inner, closed})
	q.SuggestedOnly = false
	for depth, want := range [][]id.RoomID{{top}, {top, inner, noSpace}, {top, inner, open, noSpace}} {
		q.MaxDepth = depth
		same(t, fmt.Sprintf("to the depth %d", depth), h.tree(eve, top, q), want)
	}
	for _, roomID := range []id.RoomID{closed, closedSpace, h.roomID("!none:stoa.test")} {
		_, err := h.Hierarchy(ctx, eve, roomID, q)
		h.refused(err, mxerr.CodeForbidden)
	}
	q.Limit, q.MaxDepth = 1, 2
	page, err := h.Hierarchy(ctx, eve, top, q)
	h.must(err)
	q.From, q.MaxDepth = page.Next, 1
	_, err = h.Hierarchy(ctx, eve, top, q)
	h.refused(err, mxerr.CodeInvalidParam)
}
