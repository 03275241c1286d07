// Deletes what is too old from the tables stream and transactions.

package store

import (
	"context"
	"fmt"
	"time"
)

// Retention says how long the store keeps what is kept for a time only.
type Retention struct {
	Stream       time.Duration // positions; 0 = 30 days
	Transactions time.Duration // transaction IDs; 0 = 7 days
}

// maintainPage bounds the rows deleted in one transaction.
const maintainPage = 1000

// Maintain deletes what has outlived its retention, in bounded pieces between
// groups. Every instance may call it, now and then.
func (s *Store) Maintain(ctx context.Context, keep Retention) error {
	if keep.Stream == 0 {
		keep.Stream = 30 * 24 * time.Hour
	}
	if keep.Transactions == 0 {
		keep.Transactions = 7 * 24 * time.Hour
	}
	now := s.opt.Clock()
	if err := s.trimStream(ctx, Position(now.Add(-keep.Stream).UnixMicro())); err != nil {
		return fmt.Errorf("trim the stream: %w", err)
	}
	if err := s.expireTxns(ctx, now.Add(-keep.Transactions).UnixMilli()); err != nil {
		return fmt.Errorf("expire transaction IDs: %w", err)
	}
	return nil
}

// trimStream deletes rows below a position. The newest row always stays: it is
// the head.
func (s *Store) trimStream(ctx context.Context, below Position) error {
	for {
		var n int64
		err := s.Write(ctx, func(tx *Tx) (err error) {
			n, err = tx.Exec(trimStream, below, maintainPage)
			return err
		})
		if err != nil || n < maintainPage {
			return err
		}
	}
}

var deleteTxns = Prepare(`DELETE FROM transactions WHERE at < $1
	AND (user_num, device, path, txn_id) > ($2, $3, $4, $5) AND (user_num, device, path, txn_id) <= ($6, $7, $8, $9)`)

// expireTxns walks the whole table by its key. An index by time would cost
// every message a write, to save one walk a day.
func (s *Store) expireTxns(ctx context.Context, before int64) error {
	var last Txn
	for {
		var page []Txn
		err := s.Read(ctx, func(r *Read) (err error) {
			page, err = Query(r, selectTxnPage, scanTxn, last.User, last.Device, last.Path, last.ID, maintainPage)
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
			err = s.Write(ctx, func(tx *Tx) error {
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
