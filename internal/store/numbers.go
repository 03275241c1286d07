package store

import (
	"context"
	"fmt"
	"sync"
)

// numbers assigns numbers from blocks that this instance has reserved. It reserves a
// block before it assigns any of its numbers, so that none is ever assigned twice. The
// unused rest of a block is lost at the end.
type numbers struct {
	mu     sync.Mutex // guards the map only
	blocks map[string]*block
}

type block struct {
	mu         sync.Mutex // held during the reservation
	next, last int64      // next > last: used up
}

// blockSizes of the numbers that are used most; others get defaultBlock.
var blockSizes = map[string]int64{"event": 10_000, "head": 10_000}

const defaultBlock = 1_000

var reserveBlock = Prepare(`UPDATE numbers SET next = next + $2 WHERE name = $1`)

var selectBlock = Prepare(`SELECT next FROM numbers WHERE name = $1`)

var insertBlock = Prepare(`INSERT INTO numbers (name, next) VALUES ($1, 1) ON CONFLICT (name) DO NOTHING`)

// Next returns the next number of a name. Each number is returned once in the life of the
// database, over all instances. The first use creates the name.
func (s *Store) Next(ctx context.Context, name string) (int64, error) {
	s.numbers.mu.Lock()
	b := s.numbers.blocks[name]
	if b == nil {
		if s.numbers.blocks == nil {
			s.numbers.blocks = map[string]*block{}
		}
		b = &block{next: 1}
		s.numbers.blocks[name] = b
	}
	s.numbers.mu.Unlock()

	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next > b.last {
		size := blockSizes[name]
		if size == 0 {
			size = defaultBlock
		}
		after, err := reserve(ctx, s, name, size)
		if err != nil {
			return 0, err
		}
		b.next, b.last = after-size, after-1
	}
	n := b.next
	b.next++
	return n, nil
}

func reserve(ctx context.Context, s *Store, name string, size int64) (after int64, err error) {
	err = writeLazily(ctx, s, func(tx *Tx) error {
		after, err = tx.reserve(name, size)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("reserve numbers %s: %w", name, err)
	}
	return after, nil
}

// NextNumber is the first unreserved number of a name; ErrNotFound if the name was never
// used.
func (r *Read) NextNumber(name string) (int64, error) {
	return QueryOne(r, selectBlock, (*Row).Int, name)
}

// reserve takes size numbers; after is the first number after them.
func (tx *Tx) reserve(name string, size int64) (after int64, err error) {
	if _, err := tx.Exec(insertBlock, name); err != nil {
		return 0, err
	}
	if _, err := tx.Exec(reserveBlock, name, size); err != nil {
		return 0, err
	}
	return tx.NextNumber(name)
}

// NextEvent returns a new event number.
func (s *Store) NextEvent(ctx context.Context) (EventNum, error) {
	n, err := s.Next(ctx, "event")
	return EventNum(n), err
}

// NextRoom returns a new room number.
func (s *Store) NextRoom(ctx context.Context) (RoomNum, error) {
	n, err := s.Next(ctx, "room")
	return RoomNum(n), err
}

// NextHead returns a new head of a room or user.
func (s *Store) NextHead(ctx context.Context) (Head, error) {
	n, err := s.Next(ctx, "head")
	return Head(n), err
}

// NextVersion returns a new number of a state version.
func (s *Store) NextVersion(ctx context.Context) (VersionNum, error) {
	n, err := s.Next(ctx, "version")
	return VersionNum(n), err
}
