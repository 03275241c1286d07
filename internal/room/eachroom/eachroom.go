// Package eachroom does a job in all rooms of a user. If its instance stops, another one
// continues the job.
//
// It owns the stored form of such a job's progress. It writes no rooms itself: the caller
// does the work in each room and is responsible for its result.
//
// The invariant: a room is skipped only if it was done or refused the work. A room in
// which the work failed is tried again.
package eachroom

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"stoa/internal/reader"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

const (
	// pageRooms is the number of rooms after which a job saves its progress.
	pageRooms = 64
	// atOnce is the number of rooms that it writes concurrently. Rooms are independent,
	// so their commits share groups.
	atOnce = 16
	// maxFailures bounds the failed rooms that a job remembers in order to try them
	// again.
	maxFailures = 1000
)

// progress is the saved progress of a job over all rooms of a user.
type progress struct {
	After  store.RoomNum   `json:"after"`            // the last room that it has reached
	All    bool            `json:"all,omitempty"`    // there are no more
	Failed []store.RoomNum `json:"failed,omitempty"` // rooms up to After that must be tried again
}

// Room is a room of the job's user.
type Room struct {
	num        store.RoomNum
	ID         id.RoomID
	Membership roomdb.Membership
}

// Do calls a function for each room of the job's user, and saves the progress after each
// page. It skips a room that refuses. It tries a room that fails again after all others,
// and then fails. each returns the function, anew for each page.
func Do(ctx context.Context, s *store.Store, w *reader.Work,
	each func(ctx context.Context, user id.UserID) (func(context.Context, Room) error, error),
) error {
	user, err := id.ParseUserID(w.Key)
	if err != nil {
		return err
	}
	var done progress
	if w.Progress != nil {
		if err := json.Unmarshal(w.Progress, &done); err != nil {
			return fmt.Errorf("read the progress of a job: %w", err)
		}
	}
	save := func() error {
		raw, err := json.Marshal(done)
		if err != nil {
			return err
		}
		return w.Save(ctx, raw, nil)
	}
	for !done.All {
		page, err := membershipPage(ctx, s, user, done.After)
		if err != nil {
			return fmt.Errorf("memberships of %s: %w", user, err)
		}
		do, err := each(ctx, user)
		if err != nil {
			return err
		}
		failed, err := inRooms(ctx, page, do)
		if ctx.Err() != nil || len(done.Failed)+len(failed) > maxFailures {
			return errors.Join(ctx.Err(), err)
		}
		done.Failed = append(done.Failed, failed...)
		if len(page) > 0 {
			done.After = page[len(page)-1].num
		}
		if done.All = len(page) < pageRooms; done.All && len(done.Failed) == 0 {
			return nil
		}
		if err := save(); err != nil {
			return err
		}
	}
	again, err := roomsAgain(ctx, s, user, done.Failed)
	if err != nil {
		return fmt.Errorf("memberships of %s: %w", user, err)
	}
	do, err := each(ctx, user)
	if err != nil {
		return err
	}
	failed, err := inRooms(ctx, again, do)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(failed) > 0 && len(failed) < len(done.Failed) {
		done.Failed = failed
		err = errors.Join(err, save())
	}
	return err
}

// inRooms calls a function for some rooms concurrently. It returns the rooms in which it
// failed for another reason than a refusal.
func inRooms(ctx context.Context, rooms []Room, do func(context.Context, Room) error) (failed []store.RoomNum, err error) {
	var group errgroup.Group
	group.SetLimit(atOnce)
	var mu sync.Mutex // guards failed and errs
	var errs []error
	for _, r := range rooms {
		group.Go(func() error {
			err := do(ctx, r)
			if refusal, ok := mxerr.As(err); err == nil || ok && refusal.Status < 500 {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			failed = append(failed, r.num)
			errs = append(errs, fmt.Errorf("%s: %w", r.ID, err))
			return nil
		})
	}
	return failed, errors.Join(group.Wait(), errors.Join(errs...))
}

// membershipPage returns the next rooms of a user after one.
func membershipPage(ctx context.Context, s *store.Store, user id.UserID, after store.RoomNum) (page []Room, err error) {
	return page, readRooms(ctx, s, user, func(read *store.Read, num store.UserNum) error {
		rows, err := roomdb.Memberships(read, num, after, pageRooms)
		if err != nil {
			return err
		}
		page, err = withIDs(read, rows)
		return err
	})
}

// roomsAgain returns the given rooms of a user.
func roomsAgain(ctx context.Context, s *store.Store, user id.UserID, rooms []store.RoomNum) (list []Room, err error) {
	return list, readRooms(ctx, s, user, func(read *store.Read, num store.UserNum) error {
		var rows []roomdb.RoomMembership
		for _, room := range rooms { // there are few of them
			m, err := roomdb.MembershipOf(read, num, room)
			if errors.Is(err, store.ErrNotFound) {
				continue // forgotten
			}
			if err != nil {
				return err
			}
			rows = append(rows, m)
		}
		var err error
		list, err = withIDs(read, rows)
		return err
	})
}

func readRooms(ctx context.Context, s *store.Store, user id.UserID, f func(*store.Read, store.UserNum) error) error {
	return s.Read(ctx, func(read *store.Read) error {
		num, err := s.UserNum(read, user.String())
		if errors.Is(err, store.ErrNotFound) {
			return nil // the user was never in any room
		}
		if err != nil {
			return err
		}
		return f(read, num)
	})
}

func withIDs(read *store.Read, rows []roomdb.RoomMembership) ([]Room, error) {
	list := make([]Room, len(rows))
	for i, m := range rows {
		text, err := roomdb.RoomID(read, m.Room)
		if err != nil {
			return nil, err
		}
		roomID, err := id.ParseRoomID(text)
		if err != nil {
			return nil, err
		}
		list[i] = Room{m.Room, roomID, m.Membership}
	}
	return list, nil
}
