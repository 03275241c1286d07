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

// mainThread is the thread of events that belong to none.
const mainThread = "main"

// History finds the events that receipts are about.
type History interface {
	Event(ctx context.Context, viewer id.UserID, roomID id.RoomID, eventID id.EventID) (history.View, error)
}

// Marks keeps the m.fully_read marks, which are account data.
type Marks interface {
	SetFullyRead(ctx context.Context, user who.User, roomID id.RoomID, eventID id.EventID) error
}

// Receipts moves how far users have read.
type Receipts struct {
	store   *store.Store
	history History
	data    Marks
	clock   func() time.Time
}

// NewReceipts makes it. It starts nothing.
func NewReceipts(s *store.Store, history History, data Marks, clock func() time.Time) *Receipts {
	return &Receipts{store: s, history: history, data: data, clock: clock}
}

// Receipt is a wish to move one mark forward.
type Receipt struct {
	Type    string // m.read, m.read.private or m.fully_read
	EventID id.EventID
	// Thread is "" for an unthreaded receipt, "main", or the root of a thread.
	Thread string
}

// Send moves marks of a user forward in a room. Marks that are ahead already
// stay. Errors: M_FORBIDDEN if the user is not in the room, M_NOT_FOUND if the
// event is not there for the user, M_INVALID_PARAM for a wrong type or thread.
//
// Spec: client-server-api#post_matrixclientv3roomsroomidreceiptreceipttypeeventid
func (x *Receipts) Send(ctx context.Context, user who.User, roomID id.RoomID, receipts ...Receipt) error {
	readings, err := x.readPlaces(ctx, user, roomID, receipts)
	if err != nil {
		return err
	}
	var rows []roomdb.Receipt
	var fullyRead []id.EventID
	for i, receipt := range receipts { // all are checked before the first is written
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
	c.LowPriority = true // who sees the receipts is in no hurry either
	for _, row := range rows {
		roomdb.PutReceipt(c, row)
	}
	c.Payload = rows
	_, err = x.store.Commit(ctx, c)
	return err
}

// readPlaces reads where the events of receipts are, and how far the user has read.
func (x *Receipts) readPlaces(ctx context.Context, user who.User, roomID id.RoomID, receipts []Receipt) ([]roomdb.Reading, error) {
	readings := make([]roomdb.Reading, len(receipts))
	// What is read twice may differ: a receipt that is not ahead any more when it is written changes nothing.
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

// belongs reports whether an event is in a thread. A root is in its thread and
// in the main timeline, and so is what relates to an event without saying where:
// its thread would have to be looked up, and clients know it.
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

// ahead reports whether a receipt is in front of the stored one of its kind and
// thread.
func ahead(row roomdb.Receipt, read []roomdb.ReadTo) bool {
	for _, to := range read {
		if to.Kind == row.Kind && to.Thread == row.Thread {
			return roomdb.Place{Slot: row.Slot, Off: row.Off}.Compare(to.Place) > 0
		}
	}
	return true
}
