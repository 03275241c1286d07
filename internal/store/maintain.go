package store

import (
	"context"
	"fmt"
	"time"
)

// trimPage bounds the rows of the stream that are deleted in one transaction.
const trimPage = 1000

// TrimStream deletes positions older than keep (0 = 30 days), in bounded steps between
// groups. The newest row always stays, since it is the head. Any instance may call it
// from time to time. It returns ErrClocks if ages are unreliable.
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
