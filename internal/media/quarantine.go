package media

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/mediadb"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/userdb"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// quarantinePage bounds the content that one change puts into quarantine.
const quarantinePage = 500

// Selection says which media is meant. Exactly one of its fields is set.
type Selection struct {
	URI  URI
	User id.UserID // all that they have uploaded
	Room id.RoomID // all that readable events of it name
	// Quarantined selects what is in quarantine; only for List.
	Quarantined bool
}

// Quarantine puts the content of media into quarantine, or releases it, and returns how many different contents that
// changed. No address serves content in quarantine, also those under which others have uploaded the same; it is kept.
// Errors: M_NOT_FOUND.
func (m *Media) Quarantine(ctx context.Context, s Selection, on bool) (changed int, err error) {
	for {
		var hashes [][]byte
		err := m.store.Read(ctx, func(r *store.Read) (err error) { hashes, err = m.selected(r, s, !on); return err })
		if err != nil || len(hashes) == 0 {
			return changed, err
		}
		c := store.NewChange()
		for _, hash := range hashes {
			mediadb.SetQuarantined(c, hash, on)
		}
		if _, err := m.store.Commit(ctx, c); err != nil {
			return changed, fmt.Errorf("quarantine media: %w", err)
		}
		changed += len(hashes)
	}
}

// QuarantineContent puts content into quarantine by its SHA-256, in the change of the caller.
func QuarantineContent(c *store.Change, hash []byte) { mediadb.SetQuarantined(c, hash, true) }

// selected returns some of the selected content that is in quarantine, or is not.
func (m *Media) selected(r *store.Read, s Selection, quarantined bool) ([][]byte, error) {
	switch {
	case !s.User.IsZero():
		user, err := userNum(r, s.User)
		if err != nil {
			return nil, err
		}
		return mediadb.HashesOfUser(r, user, quarantined, quarantinePage)
	case !s.Room.IsZero():
		room, err := roomNum(r, s.Room)
		if err != nil {
			return nil, err
		}
		return mediadb.HashesOfRoom(r, m.server, room, quarantined, quarantinePage)
	}
	row, err := mediadb.MediaByID(r, s.URI.Origin, s.URI.ID)
	switch {
	case errors.Is(err, store.ErrNotFound) || err == nil && row.Hash == nil:
		return nil, notThere(s.URI)
	case err != nil || (row.QuarantinedTS > 0) != quarantined:
		return nil, err
	}
	return [][]byte{row.Hash}, nil
}

func userNum(r *store.Read, user id.UserID) (store.UserNum, error) {
	a, err := userdb.AccountByID(r, user.String())
	if errors.Is(err, store.ErrNotFound) {
		return 0, mxerr.NotFound("There is no user %s", user)
	}
	return a.User, err
}

func roomNum(r *store.Read, room id.RoomID) (store.RoomNum, error) {
	row, err := roomdb.RoomByID(r, room.String())
	if errors.Is(err, store.ErrNotFound) {
		return 0, mxerr.NotFound("There is no room %s", room)
	}
	return row.Num, err
}

// Listed is media in a list.
type Listed struct {
	URI         URI
	Type, Name  string // as stated at the upload
	Size        int64
	Uploaded    time.Time
	Quarantined bool
}

// At is a place in a list. The zero value is its beginning.
type At = mediadb.At

// List returns media, newest first, and where to continue; zero = that was all. Errors: M_NOT_FOUND.
func (m *Media) List(ctx context.Context, s Selection, after At, limit int) (list []Listed, next At, err error) {
	var page []mediadb.Listed
	err = m.store.Read(ctx, func(r *store.Read) (err error) {
		page, err = m.page(r, s, after, limit)
		return err
	})
	if err != nil {
		return nil, At{}, err
	}
	seen := map[URI]bool{} // of a room, the same may come several times
	for _, l := range page {
		uri := URI{l.Origin, l.ID}
		if !seen[uri] {
			seen[uri] = true
			list = append(list, Listed{uri, l.Type, l.Name, l.Size, time.UnixMilli(l.CreatedTS), l.QuarantinedTS > 0})
		}
	}
	if len(page) == limit {
		next = page[limit-1].At
	}
	return list, next, nil
}

func (m *Media) page(r *store.Read, s Selection, after At, limit int) ([]mediadb.Listed, error) {
	switch {
	case !s.User.IsZero():
		user, err := userNum(r, s.User)
		if err != nil {
			return nil, err
		}
		return mediadb.MediaOfUser(r, user, after, limit)
	case !s.Room.IsZero():
		room, err := roomNum(r, s.Room)
		if err != nil {
			return nil, err
		}
		return mediadb.MediaOfRoom(r, m.server, room, after, limit)
	}
	return mediadb.QuarantinedMedia(r, after, limit)
}
