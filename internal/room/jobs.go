package room

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"stoa/internal/reader"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// Kinds of jobs. The names are in the database.
const (
	kindLeaveAll = "room.leave_all"
	kindProfile  = "room.profile"
	kindRedacted = "room.redacted"
)

// LeaveAllJob is the job that ends all memberships of a local user whose account
// has ended: joined rooms are left, invites rejected, knocks retracted. It is
// enqueued in the change that ends the account.
//
// Spec: client-server-api#account-deactivation
func LeaveAllJob(user id.UserID) reader.Job {
	return reader.Job{Kind: kindLeaveAll, Key: user.String(), Unique: true}
}

// ProfileJob is the job that shows a local user's newest profile in all rooms that
// they have joined. It is enqueued in the change of the profile, and takes the place
// of one that waits.
//
// Spec: client-server-api#events-on-change-of-profile-information
func ProfileJob(user id.UserID) reader.Job {
	return reader.Job{Kind: kindProfile, Key: user.String(), Unique: true}
}

// Jobs are the kinds of jobs that rooms work off.
func (rs *Rooms) Jobs() []reader.Kind {
	return []reader.Kind{
		{Name: kindLeaveAll, Handle: rs.leaveAll},
		{Name: kindProfile, Handle: rs.showProfile},
		{Name: kindRedacted, Every: redactedEvery, AtOnce: 1, Handle: func(ctx context.Context, _ *reader.Work) error {
			_, err := rs.ReplaceRedacted(ctx)
			return err
		}},
	}
}

const (
	// jobPage is after how many rooms a job saves how far it is.
	jobPage = 64
	// jobRooms is in how many of them at once it writes. Rooms are independent, so
	// their commits share groups.
	jobRooms = 16
	// jobFailures bounds the rooms that a job keeps in mind to try them again.
	jobFailures = 1000
	// redactedEvery is how often it is looked for redacted events that are due.
	redactedEvery = time.Hour
)

// roomsDone is how far a job over all rooms of a user is, as it saves it.
type roomsDone struct {
	After  store.RoomNum   `json:"after"`            // the last room that it has come to
	All    bool            `json:"all,omitempty"`    // there are no more
	Failed []store.RoomNum `json:"failed,omitempty"` // of those, to be tried again
}

// userRoom is a room of the user that a job is about.
type userRoom struct {
	num        store.RoomNum
	id         id.RoomID
	membership roomdb.Membership
}

// overRooms does something in all rooms of the user that a job is about, and saves
// after each page how far it is. A room that refuses is passed over; one that fails
// is tried again when the others are done, and then makes the job fail. each is
// asked anew for each page what to do.
func (rs *Rooms) overRooms(ctx context.Context, w *reader.Work,
	each func(ctx context.Context, user id.UserID) (func(context.Context, userRoom) error, error),
) error {
	user, err := id.ParseUserID(w.Key)
	if err != nil {
		return err
	}
	var done roomsDone
	if w.Progress != nil {
		if err := json.Unmarshal(w.Progress, &done); err != nil {
			return fmt.Errorf("read the progress of a job: %w", err)
		}
	}
	save := func() error {
		progress, err := json.Marshal(done)
		if err != nil {
			return err
		}
		return w.Save(ctx, progress, nil)
	}
	for !done.All {
		page, err := rs.membershipPage(ctx, user, done.After)
		if err != nil {
			return fmt.Errorf("memberships of %s: %w", user, err)
		}
		do, err := each(ctx, user)
		if err != nil {
			return err
		}
		failed, err := rs.inRooms(ctx, page, do)
		if ctx.Err() != nil || len(done.Failed)+len(failed) > jobFailures {
			return errors.Join(ctx.Err(), err)
		}
		done.Failed = append(done.Failed, failed...)
		if len(page) > 0 {
			done.After = page[len(page)-1].num
		}
		if done.All = len(page) < jobPage; done.All && len(done.Failed) == 0 {
			return nil
		}
		if err := save(); err != nil {
			return err
		}
	}
	again, err := rs.roomsAgain(ctx, user, done.Failed)
	if err != nil {
		return fmt.Errorf("memberships of %s: %w", user, err)
	}
	do, err := each(ctx, user)
	if err != nil {
		return err
	}
	failed, err := rs.inRooms(ctx, again, do)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(failed) > 0 && len(failed) < len(done.Failed) {
		done.Failed = failed
		err = errors.Join(err, save())
	}
	return err
}

// inRooms does something in some rooms at once. It returns those in which it failed
// otherwise than by being refused.
func (rs *Rooms) inRooms(ctx context.Context, rooms []userRoom, do func(context.Context, userRoom) error) (failed []store.RoomNum, err error) {
	var group errgroup.Group
	group.SetLimit(jobRooms)
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
			errs = append(errs, fmt.Errorf("%s: %w", r.id, err))
			return nil
		})
	}
	return failed, errors.Join(group.Wait(), errors.Join(errs...))
}

// membershipPage returns some rooms of a user, after one.
func (rs *Rooms) membershipPage(ctx context.Context, user id.UserID, after store.RoomNum) (page []userRoom, err error) {
	return page, rs.readRooms(ctx, user, func(read *store.Read, num store.UserNum) error {
		rows, err := roomdb.Memberships(read, num, after, jobPage)
		if err != nil {
			return err
		}
		page, err = withIDs(read, rows)
		return err
	})
}

// roomsAgain returns certain rooms of a user.
func (rs *Rooms) roomsAgain(ctx context.Context, user id.UserID, rooms []store.RoomNum) (list []userRoom, err error) {
	return list, rs.readRooms(ctx, user, func(read *store.Read, num store.UserNum) error {
		var rows []roomdb.RoomMembership
		for _, room := range rooms { // of which there are few
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

func (rs *Rooms) readRooms(ctx context.Context, user id.UserID, f func(*store.Read, store.UserNum) error) error {
	return rs.store.Read(ctx, func(read *store.Read) error {
		num, err := rs.store.UserNum(read, user.String())
		if errors.Is(err, store.ErrNotFound) {
			return nil // was never in any room
		}
		if err != nil {
			return err
		}
		return f(read, num)
	})
}

func withIDs(read *store.Read, rows []roomdb.RoomMembership) ([]userRoom, error) {
	list := make([]userRoom, len(rows))
	for i, m := range rows {
		text, err := roomdb.RoomID(read, m.Room)
		if err != nil {
			return nil, err
		}
		roomID, err := id.ParseRoomID(text)
		if err != nil {
			return nil, err
		}
		list[i] = userRoom{m.Room, roomID, m.Membership}
	}
	return list, nil
}
