package room

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/roomversion"
)

// keepRedacted is how long the original bytes of a redacted event are kept.
const keepRedacted = 7 * 24 * time.Hour

// redactionPage is how many events one change replaces.
const redactionPage = 100

// ReplaceRedacted replaces the bytes of events that were redacted more than
// Options.KeepRedacted ago by their redacted form, and returns the number of events. It
// is a periodic job; several instances may run it at a time.
//
// Spec: client-server-api#redactions
func (rs *Rooms) ReplaceRedacted(ctx context.Context) (replaced int, err error) {
	if err := store.CheckClocks(rs.opt.Store); err != nil {
		return 0, fmt.Errorf("replace redacted events: %w", err)
	}
	for {
		n, err := redactionJob{rs}.replacePage(ctx)
		replaced += n
		if err != nil || n < redactionPage {
			return replaced, err
		}
	}
}

// replacePage replaces the bytes of some events that are due.
func (rs redactionJob) replacePage(ctx context.Context) (int, error) {
	change := store.NewChange()
	var replaced []store.EventNum
	err := rs.store.Read(ctx, func(read *store.Read) error {
		due, err := roomdb.RedactedDue(read, rs.now(), redactionPage)
		if err != nil {
			return err
		}
		for _, d := range due {
			replaced = append(replaced, d.Event)
			roomdb.DropRedacted(change, d)
			bytes, err := rs.redactedBytes(read, d)
			if errors.Is(err, store.ErrNotFound) {
				continue // purged
			}
			if err != nil {
				return err
			}
			roomdb.ReplaceBytes(change, d.Event, bytes)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("redacted events that are due: %w", err)
	}
	if len(replaced) == 0 {
		return 0, nil
	}
	if _, err := rs.store.Commit(ctx, change); err != nil {
		return 0, fmt.Errorf("replace redacted events: %w", err)
	}
	for _, num := range replaced {
		rs.events.pdus.Drop(0, num)
	}
	return len(replaced), nil
}

// redactedBytes is the redacted form of an event.
func (rs redactionJob) redactedBytes(read *store.Read, d roomdb.RedactedEvent) ([]byte, error) {
	row, err := roomdb.RoomByNum(read, d.Room)
	if err != nil {
		return nil, err
	}
	rules, ok := roomversion.Of(row.Version)
	if !ok {
		return nil, fmt.Errorf("%s has the unknown version %q", row.RoomID, row.Version)
	}
	e, err := roomdb.EventByNum(read, d.Event)
	if err != nil {
		return nil, err
	}
	pdu, err := rs.events.Parse(rules, e)
	if err != nil {
		return nil, err
	}
	return pdu.Redacted().Bytes(), nil
}

// redactionJob replaces redacted events in the background.
type redactionJob struct{ *Rooms }
