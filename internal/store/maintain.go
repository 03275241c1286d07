package store

import (
	"context"
	"fmt"
	"time"
)

// trimPage bounds the rows of the stream that are deleted in one transaction.
const trimPage = 1000

// TrimStream deletes positions that are older than keep (0 = 30 days), in bounded
// pieces between groups. Every instance may call it, now and then.
func (s *Store) TrimStream(ctx context.Context, keep time.Duration) error {
	if keep == 0 {
		keep = 30 * 24 * time.Hour
	}
	if err := s.trimStream(ctx, Position(s.Now().Add(-keep).UnixMicro())); err != nil {
		return fmt.Errorf("trim the stream: %w", err)
	}
	return nil
}

// trimStream deletes rows below a position. The newest row always stays: it is
// the head.
func (s *Store) trimStream(ctx context.Context, below Position) error {
	for {
		var n int64
		err := s.Write(ctx, func(tx *Tx) (err error) {
			n, err = tx.Exec(trimStream, below, trimPage)
			return err
		})
		if err != nil || n < trimPage {
			return err
		}
	}
}

// txnPage bounds the transaction IDs that are looked at, and deleted, at once.
const txnPage = 1000

var deleteTxns = Prepare(`DELETE FROM transactions WHERE at < $1
	AND (user_num, device, path, txn_id) > ($2, $3, $4, $5) AND (user_num, device, path, txn_id) <= ($6, $7, $8, $9)`)

// ExpireTxns deletes transaction IDs that are older than keep (0 = 7 days), in
// bounded pieces between groups. Every instance may call it, now and then.
func (s *Store) ExpireTxns(ctx context.Context, keep time.Duration) error {
	if keep == 0 {
		keep = 7 * 24 * time.Hour
	}
	if err := s.expireTxns(ctx, s.Now().Add(-keep).UnixMilli()); err != nil {
		return fmt.Errorf("expire transaction IDs: %w", err)
	}
	return nil
}

// expireTxns walks the whole table by its key. An index by time would cost
// every message a write, to save one walk a day.
func (s *Store) expireTxns(ctx context.Context, before int64) error {
	var last Txn
	for {
		var page []Txn
		err := s.Read(ctx, func(r *Read) (err error) {
			page, err = Query(r, selectTxnPage, scanTxn, last.User, last.Device, last.Path, last.ID, txnPage)
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
