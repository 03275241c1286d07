package clientsync_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"stoa/internal/clientsync"
	"stoa/internal/clientsync/synctest"
	"stoa/internal/room"
	"stoa/matrix/id"
)

// device_lists tells whose devices concern the viewer, whatever a room filter leaves out, and /keys/changes says the same.
func TestDeviceLists(t *testing.T) {
	t.Parallel()
	cases := map[string]func(l listsTest){
		"somebody comes into a room that the filter leaves out": func(l listsTest) {
			r := l.alice.Create()
			l.start()
			l.bob.Join(r)
			l.want(l.users(l.bob), nil)
		},
		"somebody goes from a room that the filter leaves out": func(l listsTest) {
			r := l.alice.Create()
			l.bob.Join(r)
			l.start()
			l.bob.Leave(r)
			l.want(nil, l.users(l.bob))
		},
		"the viewer comes into a room that the filter leaves out": func(l listsTest) {
			r := l.bob.Create()
			l.start()
			l.alice.Join(r)
			l.want(l.users(l.bob), nil)
		},
		"the viewer leaves": func(l listsTest) {
			r := l.bob.Create()
			l.alice.Join(r)
			l.start()
			l.alice.Leave(r)
			l.want(nil, l.users(l.bob))
		},
		"the viewer leaves and forgets": func(l listsTest) {
			r := l.bob.Create()
			l.alice.Join(r)
			l.start()
			l.alice.Leave(r)
			l.alice.Must(l.h.Forget(l.h.T.Context(), r, l.alice.UserID))
			l.want(nil, l.users(l.bob))
		},
		"the viewer leaves, and then another": func(l listsTest) {
			r := l.bob.Create()
			l.alice.Join(r)
			l.carol.Join(r)
			l.start()
			l.alice.Leave(r)
			l.bob.Leave(r)
			l.want(nil, l.users(l.bob, l.carol))
		},
		"another leaves, and then the viewer": func(l listsTest) {
			r := l.bob.Create()
			l.alice.Join(r)
			l.start()
			l.bob.Leave(r)
			l.alice.Leave(r)
			l.want(nil, l.users(l.bob))
		},
		"another leaves, and then the viewer, who forgets": func(l listsTest) {
			r := l.bob.Create()
			l.alice.Join(r)
			l.start()
			l.bob.Leave(r)
			l.alice.Leave(r)
			l.alice.Must(l.h.Forget(l.h.T.Context(), r, l.alice.UserID))
			l.want(nil, l.users(l.bob))
		},
		"the viewer leaves and returns, and another leaves meanwhile": func(l listsTest) {
			r := l.bob.Create()
			l.alice.Join(r)
			l.carol.Join(r)
			l.start()
			l.alice.Leave(r)
			l.bob.Leave(r)
			l.alice.Join(r)
			l.want(l.users(l.carol), l.users(l.bob))
		},
		"another leaves and returns": func(l listsTest) {
			r := l.bob.Create()
			l.alice.Join(r)
			l.start()
			l.bob.Leave(r)
			l.bob.Join(r)
			l.want(l.users(l.bob), nil)
		},
		"another leaves one room of two": func(l listsTest) {
			r, other := l.bob.Create(), l.bob.Create()
			l.alice.Join(r)
			l.alice.Join(other)
			l.start()
			l.bob.Leave(r)
			l.want(nil, nil)
		},
		"others come after the viewer has left": func(l listsTest) {
			r := l.bob.Create()
			l.alice.Join(r)
			l.start()
			l.alice.Leave(r)
			l.carol.Join(r)
			l.want(nil, l.users(l.bob))
		},
		"the viewer declines an invitation": func(l listsTest) {
			r := l.bob.Create(func(c *room.CreateRequest) { c.Preset = room.PresetPrivateChat })
			l.start()
			l.bob.Invite(r, l.alice)
			l.alice.Leave(r)
			l.want(nil, nil)
		},
		"the viewer changes their name and another leaves": func(l listsTest) {
			r := l.bob.Create()
			l.alice.Join(r)
			l.start()
			l.alice.Set(r, "m.room.member", l.alice.UserID.String(), `{"membership":"join","displayname":"A"}`)
			l.bob.Leave(r)
			l.want(nil, l.users(l.bob))
		},
	}
	for filterName, filter := range map[string]string{"no filter": "", "no rooms": `{"room":{"rooms":[]}}`, "lazily": synctest.Lazily} {
		t.Run(filterName, func(t *testing.T) {
			t.Parallel()
			synctest.BothWaysWith(t, func(h *synctest.Server) {
				for name, test := range cases {
					test(listsTest{h: h, name: name, filter: filter, alice: newcomer(h), bob: newcomer(h), carol: newcomer(h)})
				}
			})
		})
	}
}

// newcomer is a user of whom nobody has heard.
func newcomer(h *synctest.Server) *synctest.Client {
	return h.Client(fmt.Sprint("user", h.Clock.Add(1)))
}

// listsTest is alice, who syncs with a filter, and two others.
type listsTest struct {
	h                 *synctest.Server
	name, filter      string
	alice, bob, carol *synctest.Client
}

// start lets alice sync, so that everything from here on is new.
func (l listsTest) start() {
	l.h.T.Helper()
	l.alice.Sync(l.filter)
}

func (listsTest) users(list ...*synctest.Client) []string {
	var out []string
	for _, p := range list {
		out = append(out, p.UserID.String())
	}
	slices.Sort(out)
	return out
}

// want compares what the next sync and /keys/changes tell alice.
func (l listsTest) want(changed, left []string) {
	l.h.T.Helper()
	since := *l.alice.Since
	for name, change := range map[string]func(*clientsync.Request){"as usual": func(*clientsync.Request) {}, "full_state": synctest.FullState} {
		l.alice.Since = &since
		lists := l.alice.Sync(l.filter, change).DeviceLists
		synctest.Equal(l.h.T, l.name+", "+name+", changed", withoutUser(lists.Changed, l.alice.UserID), changed)
		synctest.Equal(l.h.T, l.name+", "+name+", left", lists.Left, left)
	}
	gotChanged, gotLeft, err := l.h.Renderer.KeyChanges(l.h.T.Context(), l.alice.Device, since)
	l.alice.Must(err)
	synctest.Equal(l.h.T, l.name+", /keys/changes, changed", withoutUser(gotChanged, l.alice.UserID), changed)
	synctest.Equal(l.h.T, l.name+", /keys/changes, left", gotLeft, left)
	if again := l.alice.Sync(l.filter).DeviceLists; len(again.Changed)+len(again.Left) > 0 {
		l.h.T.Errorf("%s: told twice: %v", l.name, again)
	}
}

// withoutUser leaves out a user, who may be on their own list.
func withoutUser(list []string, user id.UserID) []string {
	return slices.DeleteFunc(list, func(name string) bool { return name == user.String() })
}

// A sync that waits is woken by a member of a room that its filter leaves out.
func TestDeviceListsWake(t *testing.T) {
	t.Parallel()
	synctest.OnBothEngines(t, func(h *synctest.Server) {
		const noRooms = `{"room":{"rooms":[]}}`
		alice, bob := h.Client("alice"), h.Client("bob")
		r := alice.Create()
		alice.Sync(noRooms)
		for _, step := range []struct {
			act  func()
			left bool
		}{{func() { bob.Join(r) }, false}, {func() { bob.Leave(r) }, true}} {
			ctx, cancel := context.WithTimeout(h.T.Context(), 10*time.Second)
			got := make(chan synctest.Answer, 1)
			go func() {
				defer cancel()
				a, err := alice.TrySync(ctx, noRooms, synctest.Waiting)
				if err != nil {
					h.T.Errorf("a sync that waits is not told: %v", err)
				}
				got <- a
			}()
			h.AwaitWaiting(1)
			step.act()
			lists := (<-got).DeviceLists
			synctest.Equal(h.T, "told", map[bool][]string{false: lists.Changed, true: lists.Left}[step.left], []string{bob.UserID.String()})
		}
	}, synctest.WithAll)
}
