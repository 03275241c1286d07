package store

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Pair is the type and state key of an entry of room state.
type Pair struct {
	Type     string
	StateKey string
}

// interned caches numbers of pairs and users, which never change.
type interned struct {
	keys    *internCache[Pair, KeyNum]
	pairs   *internCache[KeyNum, Pair]
	users   *internCache[string, UserNum]
	userIDs *internCache[UserNum, string]
}

const (
	// internBytes bounds the memory of each of the four caches.
	internBytes = 16 << 20
	// internOverhead is the memory of an entry beside its strings.
	internOverhead = 160
)

func (n *interned) init() {
	n.keys = newInternCache(func(p Pair, _ KeyNum) int { return len(p.Type) + len(p.StateKey) })
	n.pairs = newInternCache(func(_ KeyNum, p Pair) int { return len(p.Type) + len(p.StateKey) })
	n.users = newInternCache(func(u string, _ UserNum) int { return len(u) })
	n.userIDs = newInternCache(func(_ UserNum, u string) int { return len(u) })
}

// internCache is an LRU cache bounded in bytes. Package cache, which is above the store, has more.
type internCache[K, V comparable] struct {
	size func(K, V) int // of the strings

	mu      sync.Mutex // guards all below; nothing is locked after it
	entries *simplelru.LRU[K, V]
	bytes   int
}

func newInternCache[K, V comparable](size func(K, V) int) *internCache[K, V] {
	c := &internCache[K, V]{size: size}
	c.entries, _ = simplelru.NewLRU(internBytes/internOverhead, func(k K, v V) { c.bytes -= internOverhead + size(k, v) }) // fails only for a size below 1
	return c
}

// Get returns the value of a key.
func (c *internCache[K, V]) Get(k K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries.Get(k)
}

// Add adds a value, unless it is there.
func (c *internCache[K, V]) Add(k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.entries.Get(k); ok && old == v {
		return
	}
	c.entries.Remove(k) // the library reports no eviction when it replaces an entry
	c.entries.Add(k, v)
	c.bytes += internOverhead + c.size(k, v)
	for c.bytes > internBytes {
		c.entries.RemoveOldest()
	}
}

// Purge removes all entries.
func (c *internCache[K, V]) Purge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Purge()
}

var (
	selectKey  = Prepare(`SELECT num FROM state_keys WHERE type = $1 AND state_key = $2`)
	insertKey  = Prepare(`INSERT INTO state_keys (num, type, state_key) VALUES ($1, $2, $3) ON CONFLICT (type, state_key) DO NOTHING`)
	selectPair = Prepare(`SELECT type, state_key FROM state_keys WHERE num = $1`)

	selectUserNum = Prepare(`SELECT num FROM users WHERE user_id = $1`)
	insertUser    = Prepare(`INSERT INTO users (num, user_id, local, created_ts) VALUES ($1, $2, $3, $4) ON CONFLICT (user_id) DO NOTHING`)
	selectUserID  = Prepare(`SELECT user_id FROM users WHERE num = $1`)
)

// Intern returns the numbers of (type, state key) pairs, in order. It writes new pairs in
// a transaction of their own, before the event that uses them.
func (s *Store) Intern(ctx context.Context, pairs []Pair) ([]KeyNum, error) {
	return internAll(ctx, s, pairs, s.interned.keys, internSQL[Pair]{
		name: "key",
		order: func(a, b Pair) int {
			return cmp.Or(strings.Compare(a.Type, b.Type), strings.Compare(a.StateKey, b.StateKey))
		},
		find: func(r *Read, p Pair) (int64, error) {
			return QueryOne(r, selectKey, (*Row).Int, p.Type, p.StateKey)
		},
		insert: func(tx *Tx, n int64, p Pair) error {
			_, err := tx.Exec(insertKey, n, p.Type, p.StateKey)
			return err
		},
	}, KeyNum(0))
}

// InternUsers returns the numbers of users, in order, and adds rows for new ones, with
// only their ID. local reports which users belong to this server.
func (s *Store) InternUsers(ctx context.Context, local func(userID string) bool, userIDs ...string) ([]UserNum, error) {
	now := s.Now().UnixMilli()
	return internAll(ctx, s, userIDs, s.interned.users, internSQL[string]{
		name:  "user",
		order: strings.Compare,
		find: func(r *Read, u string) (int64, error) {
			return QueryOne(r, selectUserNum, (*Row).Int, u)
		},
		insert: func(tx *Tx, n int64, u string) error {
			_, err := tx.Exec(insertUser, n, u, local(u), now)
			return err
		},
	}, UserNum(0))
}

type internSQL[K comparable] struct {
	name string
	// order is the order of inserts. It is the same for all, so that two transactions
	// that insert the same rows can't deadlock.
	order  func(K, K) int
	find   func(*Read, K) (int64, error)
	insert func(*Tx, int64, K) error
}

func internAll[K comparable, N ~int64](ctx context.Context, s *Store, keys []K, cache *internCache[K, N], sql internSQL[K], _ N) ([]N, error) {
	out := make([]N, len(keys))
	missing := 0
	for i, k := range keys {
		out[i], _ = cache.Get(k)
		if out[i] == 0 {
			missing++
		}
	}
	if missing == 0 {
		return out, nil
	}
	err := s.ReadCommitted(ctx, func(r *Read) error { // numbers never change
		missing = 0
		for i, k := range keys {
			if out[i] != 0 {
				continue
			}
			n, err := sql.find(r, k)
			switch err {
			case nil:
				out[i] = N(n)
				cache.Add(k, N(n))
			case ErrNotFound:
				missing++
			default:
				return err
			}
		}
		return nil
	})
	if err != nil || missing == 0 {
		return out, err
	}
	fresh := make([]int64, len(keys))
	var places []int // of keys without a number
	for i := range keys {
		if out[i] == 0 {
			if fresh[i], err = s.Next(ctx, sql.name); err != nil {
				return nil, err
			}
			places = append(places, i)
		}
	}
	slices.SortFunc(places, func(a, b int) int { return sql.order(keys[a], keys[b]) })
	err = writeLazily(ctx, s, func(tx *Tx) error {
		for _, i := range places {
			k := keys[i]
			if err := sql.insert(tx, fresh[i], k); err != nil {
				return err
			}
			n, err := sql.find(&tx.Read, k)
			if err != nil {
				return err
			}
			out[i] = N(n)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, k := range keys {
		cache.Add(k, out[i])
	}
	return out, nil
}

// KeyNums returns the numbers of pairs, 0 for those that are not interned, which are in
// no room's state.
func (s *Store) KeyNums(r *Read, pairs []Pair) ([]KeyNum, error) {
	out := make([]KeyNum, len(pairs))
	for i, p := range pairs {
		if n, ok := s.interned.keys.Get(p); ok {
			out[i] = n
			continue
		}
		n, err := QueryOne(r, selectKey, Num[KeyNum], p.Type, p.StateKey)
		if err != nil && err != ErrNotFound {
			return nil, err
		}
		if out[i] = n; n != 0 {
			s.interned.keys.Add(p, n)
		}
	}
	return out, nil
}

// Pairs returns the pairs of interned numbers, in order.
func (s *Store) Pairs(r *Read, nums []KeyNum) ([]Pair, error) {
	out := make([]Pair, len(nums))
	for i, n := range nums {
		p, ok := s.interned.pairs.Get(n)
		if !ok {
			var err error
			p, err = QueryOne(r, selectPair, scanPair, n)
			if err != nil {
				return nil, err
			}
			s.interned.pairs.Add(n, p)
		}
		out[i] = p
	}
	return out, nil
}

func scanPair(row *Row) (p Pair) {
	row.Scan(&p.Type, &p.StateKey)
	return p
}

// UserNum returns the number of a user, or ErrNotFound.
func (s *Store) UserNum(r *Read, userID string) (UserNum, error) {
	if n, ok := s.interned.users.Get(userID); ok {
		return n, nil
	}
	n, err := QueryOne(r, selectUserNum, Num[UserNum], userID)
	if err == nil {
		s.interned.users.Add(userID, n)
	}
	return n, err
}

// NoteUser caches the number of a user that another query has read.
func (s *Store) NoteUser(userID string, n UserNum) { s.interned.users.Add(userID, n) }

// UserIDs returns the IDs of users by their numbers, in order.
func (s *Store) UserIDs(r *Read, nums []UserNum) ([]string, error) {
	out := make([]string, len(nums))
	for i, n := range nums {
		u, ok := s.interned.userIDs.Get(n)
		if !ok {
			var err error
			u, err = QueryOne(r, selectUserID, (*Row).Text, n)
			if err != nil {
				return nil, err
			}
			s.interned.userIDs.Add(n, u)
		}
		out[i] = u
	}
	return out, nil
}

// Forget drops all knowledge of a database that was restored to an earlier state, whose
// head is given: interned numbers, reserved numbers, the head.
func (s *Store) Forget(head Position) {
	s.interned.keys.Purge()
	s.interned.pairs.Purge()
	s.interned.users.Purge()
	s.interned.userIDs.Purge()
	s.numbers.mu.Lock()
	s.numbers.blocks = nil
	s.numbers.mu.Unlock()
	s.head.Store(int64(head))
	s.committed.Store(0)
}
