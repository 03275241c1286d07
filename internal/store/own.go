package store

import (
	"strconv"
	"sync"
)

// ownGroups is how many of this instance's newest groups are remembered.
const ownGroups = 1024

// ownXIDs are the transactions of this instance's newest groups, those on their way
// into the database too. Whoever reads the stream knows by them which rows others
// wrote: a row may be read before its own writer knows that it is there.
type ownXIDs struct {
	mu   sync.Mutex // guards what follows; nothing is locked under it
	has  map[uint32]struct{}
	ring [ownGroups]uint32
	next int
}

// lowXID is the part of a transaction ID that rows carry; 0 is no transaction's.
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

// disown has the rows of a transaction taken for those of another instance: here
// nobody knows whether it was committed.
func (o *ownXIDs) disown(xid uint32) {
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
	selectNews = Prepare(`SELECT pos, owner_kind, owner, kind, first_slot, last_slot, xmin::text FROM stream
		WHERE pos > $1 AND pos <= $2 ORDER BY pos LIMIT $3`)
	selectGlance = Prepare(`SELECT pos, owner_kind, owner, kind, first_slot, last_slot, xmin::text FROM stream
		WHERE pos >= $1 ORDER BY pos LIMIT $2`)
)

// News is Read.Stream for the one who follows what other instances write: its rows
// say whether they are Own.
func (s *Store) News(r *Read, after, upTo Position, limit int) ([]StreamRow, error) {
	e, ok := s.engine.(*postgresEngine)
	if !ok {
		return r.Stream(after, upTo, limit)
	}
	return Query(r, selectNews, e.scanNews, after, upTo, limit)
}
