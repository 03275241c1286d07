package slidingsync

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/slidingdb"
	"stoa/internal/token"
	"stoa/internal/who"
	"stoa/matrix/mxerr"
)

// connection is what a client was sent on a connection, as of one answer. It never changes: an answer that adds to it makes another,
// of the next generation. It is the same on every instance.
type connection struct {
	id         int64
	gen, nonce int64
	// from is the generation of the last whole row, rows and bytes the changes behind it.
	from        int64
	rows, bytes int
	// digest stands for the configuration of which everything was sent; see bitSet.
	digest uint64
	// combinations are the sets of state filters that rooms were sent with, each a sorted list of texts.
	combinations [][]string
	// rooms were sent, by number.
	rooms []sentRoom
	// usedAt is when the connection was last noted as used.
	usedAt time.Time
}

// sentRoom is a room that was sent on a connection.
type sentRoom struct {
	num store.RoomNum
	// behind is the position up to which the client knows the room, 0 for that of its pos. It is set while the room has news that the
	// client did not ask for.
	behind store.Position
	// filters is the index of the combination of state filters.
	filters uint16
	// limit is how many of the newest events the client has, if no more came since.
	limit uint16
	flags uint8
}

const (
	sentDM   uint8 = 1 << iota // it is a direct chat
	sentGone                   // it is to be forgotten: the user has left it
	sentPart                   // only stripped state was sent
	sentLeft                   // the client knows that the user is not in it
)

// completeTimeline is the limit of a room of which the client has all events.
const completeTimeline = 1 << 15

func (c *connection) find(num store.RoomNum) (sentRoom, bool) {
	i, ok := slices.BinarySearchFunc(c.rooms, num, func(s sentRoom, n store.RoomNum) int { return cmp.Compare(s.num, n) })
	if !ok {
		return sentRoom{}, false
	}
	return c.rooms[i], true
}

// size estimates the memory of a connection in bytes.
func (c *connection) size() int {
	return 256 + 24*cap(c.rooms) + c.combinationBytes()
}

func (c *connection) combinationBytes() (n int) {
	for _, list := range c.combinations {
		for _, text := range list {
			n += 24 + len(text)
		}
	}
	return n
}

// next is the connection after an answer that has sent some rooms, which are sorted.
func (c *connection) next(changed []sentRoom, combinations [][]string, digest uint64) *connection {
	n := &connection{
		id: c.id, gen: c.gen + 1, nonce: int64(rand.Uint32()), from: c.from, rows: c.rows + 1, bytes: c.bytes,
		digest: digest, combinations: combinations, usedAt: c.usedAt,
	}
	n.rooms = mergeRooms(c.rooms, changed)
	return n
}

// mergeRooms merges changed rooms into others; both are sorted.
func mergeRooms(rooms, changed []sentRoom) []sentRoom {
	out := make([]sentRoom, 0, len(rooms)+len(changed))
	for _, s := range changed {
		for len(rooms) > 0 && rooms[0].num < s.num {
			out, rooms = append(out, rooms[0]), rooms[1:]
		}
		if len(rooms) > 0 && rooms[0].num == s.num {
			rooms = rooms[1:]
		}
		if s.flags&sentGone == 0 {
			out = append(out, s)
		}
	}
	return append(out, rooms...)
}

// The form of a row of sliding_states: the format, the digest, the combinations that are new (all of a whole row), and the rooms that
// have changed (all of a whole row). Numbers are varints, but for the digest.
const stateFormat = '1'

func encodeState(digest uint64, combinations [][]string, rooms []sentRoom) []byte {
	b := binary.BigEndian.AppendUint64([]byte{stateFormat}, digest)
	b = binary.AppendUvarint(b, uint64(len(combinations)))
	for _, list := range combinations {
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, text := range list {
			b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(rooms)))
	last := store.RoomNum(0)
	for _, s := range rooms {
		b = binary.AppendUvarint(b, uint64(s.num-last))
		b = binary.AppendUvarint(b, uint64(s.behind))
		b = binary.AppendUvarint(b, uint64(s.filters))
		b = binary.AppendUvarint(b, uint64(s.limit))
		b = append(b, s.flags)
		last = s.num
	}
	return b
}

var errState = errors.New("malformed state of a connection")

// stateReader reads a row of sliding_states.
type stateReader struct {
	rest []byte
	bad  bool
}

func (r *stateReader) number() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *stateReader) take(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	out := r.rest[:n]
	r.rest = r.rest[n:]
	return out
}

// count reads the length of a list, whose elements have a byte at least.
func (r *stateReader) count() int {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.bad = true
		return 0
	}
	return int(n)
}

// apply adds a row of sliding_states to a connection.
func (c *connection) apply(row slidingdb.State) error {
	r := stateReader{rest: row.Data}
	if format := r.take(1); len(format) == 0 || format[0] != stateFormat {
		return errState
	}
	if digest := r.take(8); len(digest) == 8 {
		c.digest = binary.BigEndian.Uint64(digest)
	}
	if row.Whole {
		c.combinations, c.rooms, c.from, c.rows, c.bytes = nil, nil, row.Gen, 0, 0
	} else {
		c.rows, c.bytes = c.rows+1, c.bytes+len(row.Data)
	}
	combinations := slices.Clone(c.combinations)
	for range r.count() {
		var list []string
		for range r.count() {
			list = append(list, string(r.take(r.number())))
		}
		combinations = append(combinations, list)
	}
	n := r.count()
	changed := make([]sentRoom, 0, n)
	last := store.RoomNum(0)
	for range n {
		s := sentRoom{num: last + store.RoomNum(r.number()), behind: store.Position(r.number()), filters: uint16(r.number()), limit: uint16(r.number())}
		if flags := r.take(1); len(flags) == 1 {
			s.flags = flags[0]
		}
		last = s.num
		changed = append(changed, s)
	}
	if r.bad || len(r.rest) > 0 {
		return errState
	}
	c.combinations, c.rooms = combinations, mergeRooms(c.rooms, changed)
	c.gen, c.nonce = row.Gen, row.Nonce
	return nil
}

const (
	// maxConnections bounds the connections of a device: clients have two or three.
	maxConnections = 8
	// maxRows is after how many changes a whole row is written.
	maxRows = 50
	// noteUse is how often a connection that writes nothing is noted as used.
	noteUse = 24 * time.Hour
	// MaxUnused is for how long a connection that is not used is kept. Its pos is not accepted after that.
	MaxUnused = 30 * 24 * time.Hour
)

// connectionKey names a connection as of one answer.
type connectionKey struct {
	user           store.UserNum
	device         string
	id, gen, nonce int64
}

func keyOf(v who.Device, c *connection) connectionKey {
	return connectionKey{v.UserNum, v.DeviceID.String(), c.id, c.gen, c.nonce}
}

func errUnknownPos() *mxerr.Error {
	return mxerr.UnknownPos("This pos is not known, or no longer: start again without one")
}

// connectionOf returns the connection of a device that a pos names.
func (r *Renderer) connectionOf(ctx context.Context, v who.Device, pos token.Sliding) (*connection, error) {
	key := connectionKey{v.UserNum, v.DeviceID.String(), pos.Conn, pos.Gen, pos.Nonce}
	if c, ok := r.connections.Get(key); ok && r.clock().Sub(c.usedAt) < noteUse {
		return c, nil
	}
	of := slidingdb.Connection{User: v.UserNum, DeviceID: v.DeviceID.String(), Conn: pos.Conn}
	var rows []slidingdb.State
	var unused time.Duration
	err := r.store.Read(ctx, func(read *store.Read) (err error) {
		rows, unused, err = slidingdb.States(read, of, pos.Gen)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, errUnknownPos()
	}
	if err != nil {
		return nil, fmt.Errorf("read a connection of %s %s: %w", v.UserID, v.DeviceID, err)
	}
	c := &connection{id: pos.Conn, usedAt: r.clock().Add(-unused)}
	for _, row := range rows {
		if row.Whole || c.gen != 0 && row.Gen == c.gen+1 {
			if err := c.apply(row); err != nil {
				return nil, fmt.Errorf("connection of %s %s: %w", v.UserID, v.DeviceID, err)
			}
		}
	}
	if c.gen != pos.Gen || c.nonce != pos.Nonce {
		return nil, errUnknownPos()
	}
	if unused >= noteUse {
		change := store.NewChange()
		slidingdb.Use(change, of)
		if _, err := r.store.Commit(ctx, change); err != nil {
			return nil, fmt.Errorf("note a connection of %s %s as used: %w", v.UserID, v.DeviceID, err)
		}
		c.usedAt = r.clock()
	}
	r.connections.Add(key, c)
	return c, nil
}

// save writes the difference between two generations of a connection. The first of a connection is written whole.
func (r *Renderer) save(ctx context.Context, v who.Device, connID string, was, is *connection, changed []sentRoom) error {
	of := slidingdb.Connection{User: v.UserNum, DeviceID: v.DeviceID.String(), Conn: is.id}
	row := slidingdb.State{Gen: is.gen, Nonce: is.nonce}
	row.Whole = was.gen == 0 || is.rows > maxRows || is.bytes > 4096+12*len(is.rooms)
	if row.Whole {
		is.compact()
		row.Data = encodeState(is.digest, is.combinations, is.rooms)
		is.from, is.rows, is.bytes = is.gen, 0, 0
	} else {
		row.Data = encodeState(is.digest, is.combinations[len(was.combinations):], changed)
		is.bytes += len(row.Data)
	}
	c := store.NewChange()
	if was.gen == 0 {
		slidingdb.Begin(c, of, connID, maxConnections, row)
	} else {
		slidingdb.AddState(c, of, row, was.from)
	}
	if _, err := r.store.Commit(ctx, c); errors.Is(err, slidingdb.ErrEnded) {
		return errUnknownPos()
	} else if err != nil {
		return fmt.Errorf("write a connection of %s %s: %w", v.UserID, v.DeviceID, err)
	}
	is.usedAt = r.clock()
	r.connections.Add(keyOf(v, is), is)
	r.metrics.saved.Inc()
	return nil
}

// compact drops the combinations that no room has.
func (c *connection) compact() {
	moved := make(map[uint16]uint16, len(c.combinations))
	var kept [][]string
	for i := range c.rooms {
		s := &c.rooms[i]
		to, ok := moved[s.filters]
		if !ok {
			to = uint16(len(kept))
			moved[s.filters] = to
			kept = append(kept, c.combinations[s.filters])
		}
		s.filters = to
	}
	c.combinations = kept
}
