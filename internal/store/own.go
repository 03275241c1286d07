package store

import (
	"strconv"
	"sync"
)

// ownGroups bounds the groups that are remembered.
const ownGroups = 1024

// ownXIDs are the IDs of the transactions of this instance's newest groups, including
// those that are being committed. A reader of the stream uses them to tell this
// instance's rows from others: it may read a row before the writer knows that its commit
// succeeded.
type ownXIDs struct {
	mu   sync.Mutex // guards the fields below; nothing is locked under it
	has  map[uint32]struct{}
	ring [ownGroups]uint32
	next int
}

// lowXID is the part of a transaction ID that rows contain; 0 is not a transaction.
func lowXID(text string) uint32 {
	xid, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return uint32(xid)
}

func (o *ownXIDs) add(xid uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.has == nil {
		o.has = make(map[uint32]struct{}, ownGroups)
	}
	delete(o.has, o.ring[o.next])
	o.has[xid] = struct{}{}
	o.ring[o.next] = xid
	o.next = (o.next + 1) % ownGroups
}

// forget treats the rows of a transaction as those of another instance, since this one
// does not know whether it was committed.
func (o *ownXIDs) forget(xid uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.has, xid)
}

func (o *ownXIDs) own(xid uint32) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.has[xid]
	return ok
}

var (
	selectStreamWithOrigin = Prepare(`SELECT pos, owner_kind, owner, kind, first_slot, last_slot, xmin::text FROM stream
		WHERE pos > $1 AND pos <= $2 ORDER BY pos LIMIT $3`)
	selectRowsFrom = Prepare(`SELECT pos, owner_kind, owner, kind, first_slot, last_slot, xmin::text FROM stream
		WHERE pos >= $1 ORDER BY pos LIMIT $2`)
)

// StreamWithOrigin is [Read.Stream] with StreamRow.Own set for the rows that this
// instance wrote.
func (s *Store) StreamWithOrigin(r *Read, after, upTo Position, limit int) ([]StreamRow, error) {
	e, ok := s.engine.(*postgresEngine)
	if !ok {
		return r.Stream(after, upTo, limit)
	}
	return Query(r, selectStreamWithOrigin, e.scanRowWithOrigin, after, upTo, limit)
}
