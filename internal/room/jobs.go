package room

import (
	"context"
	"time"

	"stoa/internal/reader"
	"stoa/matrix/id"
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

// redactedEvery is how often it is looked for redacted events that are due.
const redactedEvery = time.Hour
