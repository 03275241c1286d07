package directory

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"stoa/internal/history"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/token"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// PublishedQuery asks for a page of the list of published rooms.
type PublishedQuery struct {
	// Limit is the greatest number of rooms; 0 = as many as the server gives.
	Limit int
	// Since is where the page begins; nil = at the fullest room.
	Since *token.Published
	// Term is looked for in name, topic and canonical alias; empty = all rooms.
	Term string
	// RoomTypes are wanted, "" being rooms without a type; nil = all.
	RoomTypes []string
}

// PublishedPage is a page of the list of published rooms.
type PublishedPage struct {
	Rooms []Published
	// Next and Prev are nil if there is nothing more.
	Next, Prev *token.Published
	Total      int64
}

// Bounds of a page: how many rooms are given, and how many are looked at to find
// those that are asked for.
const (
	publishedLimit = 200
	scanLimit      = 2000
	scanBatch      = 100
)

// listStart is before the fullest room, listEnd behind the emptiest.
var (
	listStart = token.Published{Joined: math.MaxInt64, Room: math.MaxInt64}
	listEnd   = token.Published{}
)

// PublishedRooms gives a page of the list of published rooms, the fullest first.
//
// Spec: client-server-api#published-room-directory
func (d *Directory) PublishedRooms(ctx context.Context, q PublishedQuery) (page PublishedPage, err error) {
	if q.Limit == 0 || q.Limit > publishedLimit {
		q.Limit = publishedLimit
	}
	q.Term = strings.ToLower(q.Term)
	page.Rooms = []Published{}
	err = d.store.Read(ctx, func(r *store.Read) error {
		if page.Total, err = roomdb.CountPublished(r); err != nil {
			return err
		}
		at := listStart
		if q.Since != nil {
			at = *q.Since
		}
		places, more, err := d.takePublished(r, &page, q, at)
		if err != nil {
			return fmt.Errorf("list published rooms: %w", err)
		}
		if at.Back {
			slices.Reverse(page.Rooms)
			slices.Reverse(places)
		}
		// A page without rooms is beyond an end of the list: what is on its other side is all of it.
		first, last := listEnd, listStart
		if len(places) > 0 {
			first, last = places[0], places[len(places)-1]
		}
		first.Back, last.Back = true, false
		if more || at.Back {
			page.Next = &last
		}
		if q.Since != nil && (more || !at.Back) {
			page.Prev = &first
		}
		return nil
	})
	return page, err
}

// takePublished fills a page with what comes after a place, or before it, the
// nearest first, and gives the place of each room. More says whether there is more.
func (d *Directory) takePublished(r *store.Read, page *PublishedPage, q PublishedQuery, at token.Published) (places []token.Published, more bool, err error) {
	list := roomdb.Published
	if at.Back {
		list = roomdb.PublishedBack
	}
	for scanned := 0; scanned < scanLimit; {
		rows, err := list(r, at.Joined, store.RoomNum(at.Room), scanBatch)
		if err != nil {
			return nil, false, err
		}
		scanned += len(rows)
		for _, row := range rows {
			described, wanted, err := d.published(r, row, q)
			if err != nil {
				return nil, false, err
			}
			if wanted && len(page.Rooms) == q.Limit {
				return places, true, nil
			}
			at.Joined, at.Room = row.Joined, int64(row.Num)
			if wanted {
				page.Rooms, places = append(page.Rooms, described), append(places, at)
			}
		}
		if len(rows) < scanBatch {
			return places, false, nil
		}
	}
	// Much was looked at and little found: the next page goes on from here.
	return append(places, at), true, nil
}

// published describes a room of the list, if it is asked for.
func (d *Directory) published(r *store.Read, row store.Room, q PublishedQuery) (Published, bool, error) {
	if row.Blocked {
		return Published{}, false, nil
	}
	roomID, err := id.ParseRoomID(row.RoomID)
	if err != nil {
		return Published{}, false, err
	}
	v, err := d.history.Viewer(r, roomID, id.UserID{})
	if err != nil {
		return Published{}, false, err
	}
	s, err := describe(v, roomID)
	if err != nil {
		return Published{}, false, err
	}
	if q.RoomTypes != nil && !slices.Contains(q.RoomTypes, s.RoomType) {
		return Published{}, false, nil
	}
	for _, text := range []string{s.Name, s.Topic, s.CanonicalAlias} {
		if strings.Contains(strings.ToLower(text), q.Term) {
			return s.Published, true, nil
		}
	}
	return Published{}, false, nil
}

func errHiddenRoom() *mxerr.Error {
	return mxerr.NotFound("There is no such room, or you may not know of it")
}

// hideUnknown answers for a room that is not there as for one that the viewer may not know of.
func hideUnknown(err error) error {
	if errors.Is(err, room.ErrUnknown) {
		return errHiddenRoom().Because(err)
	}
	return err
}

// IsPublished says whether a room is in the list of published rooms.
//
// Errors: M_NOT_FOUND.
//
// Spec: client-server-api#get_matrixclientv3directorylistroomroomid
func (d *Directory) IsPublished(ctx context.Context, viewer id.UserID, roomID id.RoomID) (published bool, err error) {
	err = d.view(ctx, viewer, roomID, func(_ *store.Read, v *history.Viewer) error {
		published = v.Room.Published
		if published || v.EverJoined() {
			return nil
		}
		found, err := v.MayFind()
		if err == nil && !found {
			err = errHiddenRoom()
		}
		return err
	})
	return published, hideUnknown(err)
}

// Publish puts a room into the list of published rooms or takes it out. Admins of
// the server can do so, and those who may change the canonical alias of the room.
//
// Errors: M_NOT_FOUND, M_FORBIDDEN.
//
// Spec: client-server-api#put_matrixclientv3directorylistroomroomid
func (d *Directory) Publish(ctx context.Context, user id.UserID, admin bool, roomID id.RoomID, published bool) error {
	var num store.RoomNum
	err := d.view(ctx, user, roomID, func(_ *store.Read, v *history.Viewer) error {
		num = v.Room.Num
		may, err := v.MaySend(event.TypeCanonicalAlias, true)
		if err == nil && !may && !admin {
			err = mxerr.Forbidden("You may not change whether this room is listed")
		}
		return err
	})
	if err != nil {
		return err
	}
	change := store.NewChange()
	roomdb.SetPublished(change, num, published)
	_, err = d.store.Commit(ctx, change)
	return err
}

// Summarize tells of a room. user is zero for somebody who is not logged in.
//
// Errors: M_NOT_FOUND, also for a room that the user may not find.
//
// Spec: client-server-api#get_matrixclientv1room_summaryroomidoralias
func (d *Directory) Summarize(ctx context.Context, user id.UserID, roomID id.RoomID) (s Summary, err error) {
	err = d.view(ctx, user, roomID, func(_ *store.Read, v *history.Viewer) error {
		found, err := v.MayFind()
		if err != nil {
			return err
		}
		if !found {
			return errHiddenRoom()
		}
		if s, err = describe(v, roomID); err != nil {
			return err
		}
		if !user.IsZero() {
			if s.Membership = v.Membership(); s.Membership == "" {
				s.Membership = event.MembershipLeave
			}
		}
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("describe %s: %w", roomID, err)
	}
	return s, hideUnknown(err)
}
