// Package report takes the reports of users about events, rooms and users, for the
// server's administrators.
//
// It owns the queue of reports (package reportdb), and tells the administrators of new ones
// by mail. It never acts on what is reported: administrators do.
//
// Growth: at most 100 open reports of a user; closed ones go after 90 days.
//
// The invariant: what a user could not see is not told to them by the answer to a report.
//
// Spec: client-server-api#reporting-content
package report

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"stoa/internal/history"
	"stoa/internal/store"
	"stoa/internal/store/reportdb"
	"stoa/internal/store/roomdb"
	"stoa/internal/timeline"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

const (
	// MaxReason bounds the reason of a report, and a note, in bytes.
	MaxReason = 4 << 10
	// mostOpen bounds the open reports of a user.
	mostOpen = 100
	// keepClosed is how long a closed report is kept.
	keepClosed = 90 * 24 * time.Hour
	// Shown is the greatest number of reports in a list.
	Shown = 500
)

// Alert tells administrators of a new report, in the change that adds it.
type Alert func(c *store.Change, what, reporter, reason, reportID string) error

// Options configure Reports.
type Options struct {
	Store   *store.Store
	History *history.Reader
	// Alert is nil if nobody is told.
	Alert Alert
}

// Reports is the queue of reports.
type Reports struct{ opt Options }

// New returns the queue.
func New(opt Options) *Reports { return &Reports{opt} }

// Event reports an event in a room that the user has joined.
//
// Errors: M_NOT_FOUND if the user can't see it.
func (q *Reports) Event(ctx context.Context, user who.Device, roomID id.RoomID, eventID id.EventID, reason string) error {
	notFound := mxerr.NotFound("There is no such event in a room that you are in")
	err := q.opt.Store.Read(ctx, func(read *store.Read) error {
		_, err := roomdb.JoinedRoomNum(read, user.UserNum, roomID.String())
		if errors.Is(err, store.ErrNotFound) {
			return notFound
		}
		return err
	})
	if err != nil {
		return err
	}
	view, err := q.opt.History.Event(ctx, user.UserID, roomID, eventID)
	if err != nil {
		return err
	}
	shown := view.Append(nil, &timeline.Reader{UserID: user.UserID}, roomID)
	return q.add(ctx, user, reportdb.Report{
		RoomID: roomID.String(), EventID: eventID.String(), Reported: view.PDU.Sender().String(), Reason: reason, Event: shown,
	})
}

// Room reports a room, which the user need not be in. The answer does not tell whether it exists.
func (q *Reports) Room(ctx context.Context, user who.Device, roomID id.RoomID, reason string) error {
	return q.add(ctx, user, reportdb.Report{RoomID: roomID.String(), Reason: reason})
}

// User reports a user. The answer does not tell whether they exist.
func (q *Reports) User(ctx context.Context, user who.Device, reported id.UserID, reason string) error {
	return q.add(ctx, user, reportdb.Report{Reported: reported.String(), Reason: reason})
}

func (q *Reports) add(ctx context.Context, user who.Device, r reportdb.Report) error {
	if len(r.Reason) > MaxReason {
		return mxerr.TooLarge("reason has more than %d bytes", MaxReason)
	}
	r.ID, r.Reporter = rand.Text()[:10], user.UserNum
	var open int64
	err := q.opt.Store.Read(ctx, func(read *store.Read) (err error) {
		open, err = reportdb.CountOpen(read, user.UserNum)
		return err
	})
	if err != nil {
		return fmt.Errorf("count reports: %w", err)
	}
	if open >= mostOpen {
		return mxerr.ResourceLimitExceeded("You have %d open reports; wait until the administrators have handled some", open)
	}
	c := store.NewChange()
	c.ActiveUser(user.UserNum)
	reportdb.Add(c, r)
	if q.opt.Alert != nil {
		what := r.Reported
		if r.RoomID != "" {
			what = r.RoomID + " " + r.EventID
		}
		if err := q.opt.Alert(c, what, user.UserID.String(), r.Reason, r.ID); err != nil {
			return err
		}
	}
	if _, err := q.opt.Store.Commit(ctx, c); err != nil {
		return fmt.Errorf("save a report: %w", err)
	}
	return nil
}

// List returns up to 500 reports: the open ones, oldest first, or the closed ones, last closed first.
func List(ctx context.Context, s *store.Store, closed bool) (list []reportdb.Report, err error) {
	err = s.Read(ctx, func(read *store.Read) (err error) {
		if closed {
			list, err = reportdb.Closed(read, Shown)
		} else {
			list, err = reportdb.Open(read, 0, "", Shown)
		}
		return err
	})
	return list, err
}

// Show returns a report; store.ErrNotFound.
func Show(ctx context.Context, s *store.Store, reportID string) (r reportdb.Report, err error) {
	err = s.Read(ctx, func(read *store.Read) (err error) { r, err = reportdb.ByID(read, reportID); return err })
	return r, err
}

// Handling changes an open report. Empty fields stay as they are.
type Handling struct {
	ID       string `json:"id"`
	Assignee string `json:"assignee"`
	Note     string `json:"note"`
	Close    bool   `json:"close"`
}

// Handle changes an open report.
//
// Errors: store.ErrNotFound if there is no open one of the ID.
func Handle(ctx context.Context, s *store.Store, h Handling) error {
	if len(h.Note) > MaxReason || len(h.Assignee) > MaxReason {
		return mxerr.TooLarge("a note has at most %d bytes", MaxReason)
	}
	r, err := Show(ctx, s, h.ID)
	if err != nil {
		return err
	}
	if h.Assignee != "" {
		r.Assignee = h.Assignee
	}
	if h.Note != "" {
		r.Note = h.Note
	}
	c := store.NewChange()
	if h.Close {
		reportdb.Close(c, r.ID, r.Assignee, r.Note)
	} else {
		reportdb.Update(c, r.ID, r.Assignee, r.Note)
	}
	_, err = s.Commit(ctx, c)
	return err
}

// Expire deletes reports that were closed 90 days ago.
func Expire(ctx context.Context, s *store.Store) error {
	c := store.NewChange()
	c.LowPriority = true
	reportdb.Expire(c, keepClosed.Milliseconds())
	if _, err := s.Commit(ctx, c); err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("delete old reports: %w", err)
	}
	return nil
}
