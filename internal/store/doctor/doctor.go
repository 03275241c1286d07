// The check of a whole store: numbers, rooms, the stream, users, transactions, readers and jobs.

package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
)

// Finding is a violated invariant.
type Finding struct {
	Check  string // name of the invariant, such as "state-replay"
	Room   string // room ID, if it is about a room
	User   string // user ID, if it is about a user
	Detail string
}

func (f Finding) String() string {
	s := f.Check
	if f.Room != "" {
		s += " room " + f.Room
	}
	if f.User != "" {
		s += " user " + f.User
	}
	return s + ": " + f.Detail
}

// Options configure a check. The zero value makes all checks that need no other package.
type Options struct {
	// Found is called for each finding; an error ends the check.
	Found func(Finding) error
	// Progress is called after each room, user page and stream page.
	Progress func(Progress)
	// Totals compares the totals of two events of a room, the earlier one first. Package
	// room knows their form; nil = no comparison.
	Totals func(before, after []byte) error
	// Room is the only room to check; empty = check everything.
	Room string
}

// Progress is the progress of a check.
type Progress struct {
	Part  string // "rooms", "stream", "users", "transactions", "jobs"
	Done  int64
	Total int64
}

// checkPage bounds the rows in memory.
const checkPage = 2000

// checkSnapshotLimit bounds the life of the snapshot for one room.
const checkSnapshotLimit = 10 * time.Minute

// findingsPerCheck bounds the findings of one check about one room.
const findingsPerCheck = 20

// checker has the data that a check needs across rooms.
type checker struct {
	s       *store.Store
	opt     Options
	numbers map[string]int64 // first unreserved number
}

// Check reads the whole store and reports every violated invariant. It reads each room in
// one snapshot, while a server may be running. Its memory does not grow with the store.
func Check(ctx context.Context, s *store.Store, opt Options) error {
	c := &checker{s: s, opt: opt, numbers: map[string]int64{}}
	if opt.Room != "" {
		if err := c.loadNumbers(ctx); err != nil {
			return err
		}
		var room store.RoomNum
		err := s.Read(ctx, func(r *store.Read) (err error) { room, err = roomdb.RoomNum(r, opt.Room); return err })
		if err != nil {
			return fmt.Errorf("check room %s: %w", opt.Room, err)
		}
		return c.oneRoom(ctx, room)
	}
	for _, part := range []func(context.Context) error{c.loadNumbers, c.rooms, c.stream, c.users, c.transactions, c.readers} {
		if err := part(ctx); err != nil {
			return fmt.Errorf("check store: %w", err)
		}
	}
	return nil
}

func (c *checker) found(f Finding) error {
	if c.opt.Found == nil {
		return nil
	}
	return c.opt.Found(f)
}

func (c *checker) progress(part string, done, total int64) {
	if c.opt.Progress != nil {
		c.opt.Progress(Progress{part, done, total})
	}
}

// snapshot is [store.Store.Read] with a longer life.
func (c *checker) snapshot(ctx context.Context, f func(*store.Read) error) error {
	r, err := c.s.LongSnapshot(ctx, checkSnapshotLimit)
	if err != nil {
		return err
	}
	defer r.Close()
	return f(r)
}

var (
	selectNumbers  = store.Prepare(`SELECT name, next FROM numbers ORDER BY name`)
	countRooms     = store.Prepare(`SELECT COUNT(*) FROM rooms`)
	selectRoomNums = store.Prepare(`SELECT num FROM rooms WHERE num > $1 ORDER BY num LIMIT $2`)
)

// loadNumbers reads the reserved blocks. Rows that are written later have higher numbers.
func (c *checker) loadNumbers(ctx context.Context) error {
	return c.snapshot(ctx, func(r *store.Read) error {
		return store.QueryEach(r, selectNumbers, func(row *store.Row) error {
			c.numbers[row.Text()] = row.Int()
			return nil
		})
	})
}

// outOfBlock reports whether a number was never reserved. It doesn't know numbers that
// were reserved after the check began.
func (c *checker) outOfBlock(r *store.Read, name string, n int64) (bool, error) {
	if n < c.numbers[name] {
		return false, nil
	}
	next, err := r.NextNumber(name)
	if errors.Is(err, store.ErrNotFound) {
		return n > 0, nil
	}
	c.numbers[name] = next
	return n >= next, err
}

func (c *checker) rooms(ctx context.Context) error {
	var total, done int64
	var after store.RoomNum
	for {
		var page []store.RoomNum
		err := c.snapshot(ctx, func(r *store.Read) (err error) {
			if total, err = store.QueryOne(r, countRooms, (*store.Row).Int); err != nil {
				return err
			}
			page, err = store.Query(r, selectRoomNums, store.Num[store.RoomNum], after, checkPage)
			return err
		})
		if err != nil || len(page) == 0 {
			return err
		}
		for _, room := range page {
			if err := c.oneRoom(ctx, room); err != nil {
				return err
			}
			done++
			c.progress("rooms", done, total)
		}
		after = page[len(page)-1]
	}
}

var (
	selectStreamOwners = store.Prepare(`SELECT s.pos, s.owner_kind, s.owner, s.kind, s.first_slot, s.last_slot,
			COALESCE(r.num, u.num, 0), COALESCE(r.slot, u.slot, 0), COALESCE(r.receipt_slot, 0), COALESCE(r.room_id, ''), COALESCE(u.user_id, '')
		FROM stream AS s LEFT JOIN rooms AS r ON s.owner_kind = 1 AND r.num = s.owner
			LEFT JOIN users AS u ON s.owner_kind = 2 AND u.num = s.owner
		WHERE s.pos > $1 ORDER BY s.pos LIMIT $2`)
	selectStreamBefore = store.Prepare(`SELECT last_slot FROM stream WHERE owner_kind = $1 AND owner = $2 AND kind = $3 AND pos < $4
		ORDER BY pos DESC LIMIT 1`)
	countStream = store.Prepare(`SELECT COUNT(*) FROM stream`)
)

// streamOwner is a stream row with its owner's counters.
type streamOwner struct {
	store.StreamRow
	found          int64
	slot, receipts store.Slot
	roomID, userID string
}

func scanStreamOwner(row *store.Row) (s streamOwner) {
	s.StreamRow = store.ScanStreamRow(row)
	row.Scan(&s.found, &s.slot, &s.receipts, &s.roomID, &s.userID)
	return s
}

// stream checks that every row refers to slots that its owner has assigned, and that a
// room's rows are consecutive. (The check of the room tests whether each slot has its
// events or state.)
func (c *checker) stream(ctx context.Context) error {
	var after store.Position
	var done, total int64
	for {
		var page []streamOwner
		err := c.snapshot(ctx, func(r *store.Read) (err error) {
			if total, err = store.QueryOne(r, countStream, (*store.Row).Int); err != nil {
				return err
			}
			if page, err = store.Query(r, selectStreamOwners, scanStreamOwner, after, checkPage); err != nil {
				return err
			}
			for _, s := range page {
				detail, err := c.streamRow(r, s)
				if err != nil {
					return err
				}
				if detail != "" {
					detail = fmt.Sprintf("position %d, kind %d, slots %d to %d: %s", s.Pos, s.Kind, s.First, s.Last, detail)
					if err := c.found(Finding{Check: "stream-target", Room: s.roomID, User: s.userID, Detail: detail}); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil || len(page) == 0 {
			return err
		}
		after = page[len(page)-1].Pos
		done += int64(len(page))
		c.progress("stream", done, total)
	}
}

// streamRow describes an error in a row of the stream, "" = none.
func (c *checker) streamRow(r *store.Read, s streamOwner) (string, error) {
	last := s.slot
	if s.Kind == store.KindReceipts {
		last = s.receipts
	}
	switch {
	case s.found == 0:
		return fmt.Sprintf("owner %d of kind %d is not there", s.Owner, s.OwnerKind), nil
	case s.First > s.Last || s.First < 0:
		return "slots in the wrong order", nil
	case s.Last > last:
		return fmt.Sprintf("owner has given no slot above %d", last), nil
	case s.Kind != store.KindTimeline && s.Kind != store.KindReceipts:
		return "", nil
	}
	before, err := store.QueryOne(r, selectStreamBefore, store.Num[store.Slot], s.OwnerKind, s.Owner, s.Kind, s.Pos)
	if errors.Is(err, store.ErrNotFound) { // the first, or the ones before were trimmed
		return "", nil
	}
	if err == nil && s.First != before+1 {
		return fmt.Sprintf("the row before ends at slot %d", before), nil
	}
	return "", err
}

var (
	countUsers     = store.Prepare(`SELECT COUNT(*) FROM users`)
	selectUserPage = store.Prepare(`SELECT num, user_id, head, slot FROM users WHERE num > $1 ORDER BY num LIMIT $2`)
)

// users checks the numbers and heads of users.
func (c *checker) users(ctx context.Context) error {
	type user struct {
		num  store.UserNum
		id   string
		head store.Head
		slot store.Slot
	}
	var after store.UserNum
	var done, total int64
	for {
		var page []user
		err := c.snapshot(ctx, func(r *store.Read) (err error) {
			if total, err = store.QueryOne(r, countUsers, (*store.Row).Int); err != nil {
				return err
			}
			page, err = store.Query(r, selectUserPage, func(row *store.Row) (u user) {
				row.Scan(&u.num, &u.id, &u.head, &u.slot)
				return u
			}, after, checkPage)
			if err != nil {
				return err
			}
			for _, u := range page {
				for name, n := range map[string]int64{"user": int64(u.num), "head": int64(u.head)} {
					bad, err := c.outOfBlock(r, name, n)
					if err == nil && bad {
						err = c.found(Finding{Check: "numbers", User: u.id, Detail: fmt.Sprintf("%s %d was never given out", name, n)})
					}
					if err != nil {
						return err
					}
				}
			}
			if len(page) > 0 {
				return c.ended(r, after, page[len(page)-1].num)
			}
			return nil
		})
		if err != nil || len(page) == 0 {
			return err
		}
		after = page[len(page)-1].num
		done += int64(len(page))
		c.progress("users", done, total)
	}
}

var selectTxnEvents = store.Prepare(`SELECT t.user_num, t.device, t.path, t.txn_id, t.event_id, COALESCE(e.num, 0) + COALESCE(r.purged, 0)
	FROM transactions AS t LEFT JOIN events AS e ON e.event_id = t.event_id LEFT JOIN rooms AS r ON r.num = t.room
	WHERE (t.user_num, t.device, t.path, t.txn_id) > ($1, $2, $3, $4) ORDER BY t.user_num, t.device, t.path, t.txn_id LIMIT $5`)

// transactions checks that every transaction ID refers to an event, or to a room with
// purged events.
func (c *checker) transactions(ctx context.Context) error {
	type txn struct {
		roomdb.Txn
		event store.EventNum
	}
	var last roomdb.Txn
	var done int64
	for {
		var page []txn
		err := c.snapshot(ctx, func(r *store.Read) (err error) {
			page, err = store.Query(r, selectTxnEvents, func(row *store.Row) (t txn) {
				row.Scan(&t.User, &t.Device, &t.Path, &t.ID, &t.EventID, &t.event)
				return t
			}, last.User, last.Device, last.Path, last.ID, checkPage)
			return err
		})
		if err != nil || len(page) == 0 {
			return err
		}
		for _, t := range page {
			if t.event != 0 || t.EventID == "" {
				continue
			}
			detail := fmt.Sprintf("transaction %q of device %q leads to %s, which is not there", t.ID, t.Device, t.EventID)
			if err := c.found(Finding{Check: "transaction-event", Detail: detail}); err != nil {
				return err
			}
		}
		last = page[len(page)-1].Txn
		done += int64(len(page))
		c.progress("transactions", done, 0)
	}
}

// Findings checks the store and returns its findings, at most limit.
func Findings(ctx context.Context, s *store.Store, opt Options, limit int) ([]Finding, error) {
	var list []Finding
	opt.Found = func(f Finding) error {
		if len(list) == limit {
			return errEnough
		}
		list = append(list, f)
		return nil
	}
	err := Check(ctx, s, opt)
	if errors.Is(err, errEnough) {
		err = nil
	}
	slices.SortStableFunc(list, func(a, b Finding) int { return strings.Compare(a.Check, b.Check) })
	return list, err
}

var errEnough = errors.New("enough findings")

// oneRoom checks one room. A room that was deleted in the meantime is not a finding.
func (c *checker) oneRoom(ctx context.Context, room store.RoomNum) error {
	return c.snapshot(ctx, func(r *store.Read) error {
		row, err := roomdb.RoomByNum(r, room)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if row.Purged >= row.Slot && row.Slot > 0 && !row.Resident {
			return nil // deleted, perhaps only in part
		}
		rc := &roomCheck{checker: c, r: r, row: row, found: map[string]int{}}
		for _, check := range []func() error{rc.ownRow, rc.events, rc.replay, rc.currentState, rc.members,
			rc.memberships, rc.extremities, rc.versions, rc.receipts, rc.relations, rc.verdicts} {
			if err := check(); err != nil {
				return fmt.Errorf("room %s: %w", row.RoomID, err)
			}
		}
		return nil
	})
}
