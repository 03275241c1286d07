package room

import (
	"context"

	"stoa/internal/reader"
	"stoa/matrix/id"
)

// OverRooms does something in all rooms of the user that a job is about.
func (rs *Rooms) OverRooms(ctx context.Context, w *reader.Work, do func(id.RoomID) error) error {
	return rs.overRooms(ctx, w, func(context.Context, id.UserID) (func(context.Context, userRoom) error, error) {
		return func(_ context.Context, r userRoom) error { return do(r.id) }, nil
	})
}
