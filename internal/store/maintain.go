package store

import (
	"context"
	"fmt"
	"time"
)

// trimPage bounds the rows of the stream that are deleted in one transaction.
const trimPage = 1000

// TrimStream deletes positions that are older than keep (0 = 30 days), in bounded
// pieces between groups. The newest row always stays: it is the head. Every instance
// may call it, now and then. ErrClocks if ages can't be told.
func (s *Store) TrimStream(ctx context.Context, keep time.Duration) error {
	if keep == 0 {
		keep = 30 * 24 * time.Hour
	}
	if err := s.clock.check(); err != nil {
		return fmt.Errorf("trim the stream: %w", err)
	}
	below := Position(s.Now().Add(-keep).UnixMicro())
	for {
		var n int64
		err := s.Write(ctx, func(tx *Tx) (err error) {
			n, err = tx.Exec(trimStream, below, trimPage)
			return err
		})
		if err != nil {
			return fmt.Errorf("trim the stream: %w", err)
		}
		if n < trimPage {
			return nil
		}
	}
}
