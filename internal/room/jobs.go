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

// LeaveAllJob leaves all joined rooms of a deactivated local user, rejects invites and
// retracts knocks. Enqueue it in the change that deactivates the account.
//
// Spec: client-server-api#account-deactivation
func LeaveAllJob(user id.UserID) reader.Job {
	return reader.Job{Kind: kindLeaveAll, Key: user.String(), Unique: true}
}

// ProfileJob writes a local user's newest profile into all rooms that they have joined.
// Enqueue it in the change of the profile; it replaces one that is still waiting.
//
// Spec: client-server-api#events-on-change-of-profile-information
func ProfileJob(user id.UserID) reader.Job {
	return reader.Job{Kind: kindProfile, Key: user.String(), Unique: true}
}

// Jobs are the kinds of jobs that this package handles.
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

// redactedEvery is the interval of the job that replaces redacted events.
const redactedEvery = time.Hour
