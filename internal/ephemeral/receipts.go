package ephemeral

import (
	"context"
	"errors"
	"time"

	"stoa/internal/history"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/who"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// Types of receipts.
const (
	TypeRead        = "m.read"
	TypeReadPrivate = "m.read.private"
	TypeFullyRead   = "m.fully_read"
)

// mainThread is the thread of events without a thread.
const mainThread = "main"

// History finds the events of receipts.
type History interface {
	Event(ctx context.Context, viewer id.UserID, roomID id.RoomID, eventID id.EventID) (history.View, error)
}

// Marks stores the m.fully_read markers, which are account data.
type Marks interface {
	SetFullyRead(ctx context.Context, user who.User, roomID id.RoomID, eventID id.EventID) error
}

// Receipts moves users' read markers.
type Receipts struct {
	store   *store.Store
	history History
	data    Marks
	clock   func() time.Time
}

// NewReceipts returns a Receipts. It starts nothing.
func NewReceipts(s *store.Store, history History, data Marks, clock func() time.Time) *Receipts {
	return &Receipts{store: s, history: history, data: data, clock: clock}
}

// Receipt is a request to move one marker forward.
type Receipt struct {
	Type    string // m.read, m.read.private or m.fully_read
	EventID id.EventID
	// Thread is "" for an unthreaded receipt, "main", or the root of a thread.
	Thread string
}

// Send moves markers of a user forward in a room. Markers that are ahead already stay.
// Errors: M_FORBIDDEN if the user is not in the room, M_NOT_FOUND if the user can't see
// the event, M_INVALID_PARAM for a wrong type or thread.
//
// Spec: client-server-api#post_matrixclientv3roomsroomidreceiptreceipttypeeventid
func (x *Receipts) Send(ctx context.Context, user who.User, roomID id.RoomID, receipts ...Receipt) error {
	readings, err := x.readPlaces(ctx, user, roomID, receipts)
	if err != nil {
		return err
	}
	var rows []roomdb.Receipt
	var fullyRead []id.EventID
	for i, receipt := range receipts { // check all before writing the first
		row, err := x.row(ctx, user, roomID, readings[i], receipt)
		if err != nil {
			return err
		}
		if receipt.Type == TypeFullyRead {
			fullyRead = append(fullyRead, receipt.EventID)
		} else if ahead(row, readings[i].Read) {
			rows = append(rows, row)
		}
	}
	for _, eventID := range fullyRead {
		if err := x.data.SetFullyRead(ctx, user, roomID, eventID); err != nil {
			return err
		}
	}
	if len(rows) == 0 {
		return nil
	}
	c := store.NewChange()
	c.LowPriority = true // its readers are not in a hurry either
	for _, row := range rows {
		roomdb.PutReceipt(c, row)
	}
	c.Payload = rows
	_, err = x.store.Commit(ctx, c)
	return err
}

// readPlaces reads the places of the receipts' events, and the user's receipts in the
// room.
func (x *Receipts) readPlaces(ctx context.Context, user who.User, roomID id.RoomID, receipts []Receipt) ([]roomdb.Reading, error) {
	readings := make([]roomdb.Reading, len(receipts))
	// Two reads may differ: a receipt that is no longer ahead when it is written changes
	// nothing.
	err := x.store.ReadCommitted(ctx, func(r *store.Read) (err error) {
		for i := range receipts {
			readings[i], err = roomdb.ReadingOf(r, user.UserNum, roomID.String(), receipts[i].EventID.String())
			if errors.Is(err, store.ErrNotFound) || err == nil && readings[i].Membership != roomdb.Join {
				return errNotJoined
			}
			if err != nil {
				return err
			}
		}
		if len(readings) == 0 {
			_, err = joinedRoom(r, user, roomID)
		}
		return err
	})
	return readings, err
}

// row checks a receipt and finds the place of its event.
func (x *Receipts) row(ctx context.Context, user who.User, roomID id.RoomID, at roomdb.Reading, receipt Receipt) (roomdb.Receipt, error) {
	row := roomdb.Receipt{Room: at.Room, User: user.UserNum, UserID: user.UserID.String(), Thread: receipt.Thread, EventID: receipt.EventID.String(), TS: x.clock().UnixMilli()}
	switch receipt.Type {
	case TypeRead:
		row.Kind = roomdb.ReceiptRead
	case TypeReadPrivate:
		row.Kind = roomdb.ReceiptPrivate
	case TypeFullyRead:
		if receipt.Thread != "" {
			return row, mxerr.InvalidParam("m.fully_read is not for threads")
		}
	default:
		return row, mxerr.InvalidParam("There is no receipt type %q", receipt.Type)
	}
	if receipt.Thread == "" && at.SeenSurely() {
		row.Slot, row.Off = at.Event.Slot, at.Event.Off
		return row, nil
	}
	view, err := x.history.Event(ctx, user.UserID, roomID, receipt.EventID)
	if err != nil {
		return row, err
	}
	row.Slot, row.Off = view.Slot, view.Off
	if receipt.Thread != "" && !belongs(view, receipt.Thread) {
		return row, mxerr.InvalidParam("The event is not in the thread %q", receipt.Thread)
	}
	return row, nil
}

// belongs reports whether an event is in a thread. A root is in its thread and in the
// main timeline. So is an event that relates to another without a thread of its own: this
// would need a lookup, and clients know the thread.
//
// Spec: client-server-api#threaded-read-receipts
func belongs(view history.View, thread string) bool {
	relates := canonicaljson.Get(view.PDU.Content(), "m.relates_to")
	relType, _ := canonicaljson.String(canonicaljson.Get(relates, "rel_type"))
	target, _ := canonicaljson.String(canonicaljson.Get(relates, "event_id"))
	switch {
	case relType == "m.thread":
		return target == thread
	case relType != "":
		return true
	}
	return thread == mainThread || thread == view.PDU.EventID().String()
}

// ahead reports whether a receipt is ahead of the stored one of its kind and thread.
func ahead(row roomdb.Receipt, read []roomdb.ReadTo) bool {
	for _, to := range read {
		if to.Kind == row.Kind && to.Thread == row.Thread {
			return roomdb.Place{Slot: row.Slot, Off: row.Off}.Compare(to.Place) > 0
		}
	}
	return true
}
