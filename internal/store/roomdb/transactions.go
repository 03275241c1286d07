// Table transactions.

package roomdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stoa/internal/store"
)

// ErrTxnTaken says that the transaction ID already has an event.
var ErrTxnTaken = errors.New("store: transaction ID was used")

// Txn is a client's transaction ID, and the event of its request.
type Txn struct {
	User    store.UserNum
	Device  string
	Path    string // of the endpoint, as the spec scopes transaction IDs
	ID      string
	EventID string
	Room    store.RoomNum
	At      int64 // ms
}

var (
	insertTxn = store.Prepare(`INSERT INTO transactions (user_num, device, path, txn_id, event_id, room, at)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (user_num, device, path, txn_id) DO NOTHING`)
	selectTxn = store.Prepare(`SELECT user_num, device, path, txn_id, event_id, room, at FROM transactions
		WHERE user_num = $1 AND device = $2 AND path = $3 AND txn_id = $4`)
	selectTxnPage = store.Prepare(`SELECT user_num, device, path, txn_id, event_id, room, at FROM transactions
		WHERE (user_num, device, path, txn_id) > ($1, $2, $3, $4) ORDER BY user_num, device, path, txn_id LIMIT $5`)
)

// AddTxn writes a transaction ID beside its event. The change fails with ErrTxnTaken if
// it exists.
func AddTxn(c *store.Change, t Txn) {
	c.ExecOne(insertTxn, ErrTxnTaken, t.User, t.Device, t.Path, t.ID, t.EventID, t.Room, t.At)
}

// FindTxn finds a transaction ID.
func FindTxn(r *store.Read, user store.UserNum, device, path, txnID string) (Txn, error) {
	return store.QueryOne(r, selectTxn, scanTxn, user, device, path, txnID)
}

func scanTxn(row *store.Row) (t Txn) {
	row.Scan(&t.User, &t.Device, &t.Path, &t.ID, &t.EventID, &t.Room, &t.At)
	return t
}

// txnPage bounds the transaction IDs that are read, and deleted, at once.
const txnPage = 1000

var deleteTxns = store.Prepare(`DELETE FROM transactions WHERE at < $1
	AND (user_num, device, path, txn_id) > ($2, $3, $4, $5) AND (user_num, device, path, txn_id) <= ($6, $7, $8, $9)`)

// ExpireTxns deletes transaction IDs older than keep (0 = 7 days), in bounded steps
// between groups. Any instance may call it from time to time.
func ExpireTxns(ctx context.Context, s *store.Store, keep time.Duration) error {
	if keep == 0 {
		keep = 7 * 24 * time.Hour
	}
	if err := store.CheckClocks(s); err != nil {
		return fmt.Errorf("expire transaction IDs: %w", err)
	}
	if err := expireTxnsBefore(ctx, s, s.Now().Add(-keep).UnixMilli()); err != nil {
		return fmt.Errorf("expire transaction IDs: %w", err)
	}
	return nil
}

// expireTxnsBefore reads the whole table by its key. An index by time would cost a write
// for every message, to save one scan a day.
func expireTxnsBefore(ctx context.Context, s *store.Store, before int64) error {
	var last Txn
	for {
		var page []Txn
		err := s.Read(ctx, func(r *store.Read) (err error) {
			page, err = store.Query(r, selectTxnPage, scanTxn, last.User, last.Device, last.Path, last.ID, txnPage)
			return err
		})
		if err != nil || len(page) == 0 {
			return err
		}
		end := page[len(page)-1]
		old := false
		for _, t := range page {
			old = old || t.At < before
		}
		if old {
			err = s.Write(ctx, func(tx *store.Tx) error {
				_, err := tx.Exec(deleteTxns, before, last.User, last.Device, last.Path, last.ID, end.User, end.Device, end.Path, end.ID)
				return err
			})
			if err != nil {
				return err
			}
		}
		last = end
	}
}
