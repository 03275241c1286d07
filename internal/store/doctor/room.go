// The check of one room.

package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"stoa/matrix/event"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
)

// roomCheck is the check of one room in one snapshot.
type roomCheck struct {
	*checker
	r     *store.Read
	row   store.Room
	found map[string]int // findings so far, by check
}

func (c *roomCheck) finding(check, format string, args ...any) error {
	c.found[check]++
	switch n := c.found[check]; {
	case n > findingsPerCheck:
		return nil
	case n == findingsPerCheck:
		format += " (further findings of this kind in the room are left out)"
	}
	return c.checker.found(Finding{Check: check, Room: c.row.RoomID, Detail: fmt.Sprintf(format, args...)})
}

func (c *roomCheck) ownRow() error {
	for name, n := range map[string]int64{"room": int64(c.row.Num), "head": int64(c.row.Head)} {
		bad, err := c.outOfBlock(c.r, name, n)
		if err == nil && bad {
			err = c.finding("numbers", "%s %d was never given out", name, n)
		}
		if err != nil {
			return err
		}
	}
	if c.row.Head == 0 {
		return c.finding("head", "the room has no head")
	}
	return nil
}

var (
	selectEventPage = store.Prepare(`SELECT slot, off, num, event_id, type, state_key_num, flags, state_before, redacted_by, totals, edges, bytes
		FROM events WHERE room = $1 AND (slot, off) > ($2, $3) ORDER BY slot, off LIMIT $4`)
	countLogSlots = store.Prepare(`SELECT COUNT(DISTINCT slot) FROM state_log WHERE room = $1 AND slot > $2 AND slot < $3`)
	hasVersion    = store.Prepare(`SELECT COUNT(*) FROM state_versions WHERE room = $1 AND num = $2`)
	hasEvent      = store.Prepare(`SELECT COUNT(*) FROM events WHERE num = $1`)
)

// checkedEvent has the columns for the check of an event.
type checkedEvent struct {
	place      roomdb.Place
	num        store.EventNum
	id         string
	evType     string
	key        store.KeyNum
	standing   roomdb.Standing
	before     roomdb.StateRef
	redactedBy store.EventNum
	totals     []byte
	edges      []byte
	bytes      []byte
}

func scanCheckedEvent(row *store.Row) (e checkedEvent) {
	var flags, before int64
	row.Scan(&e.place.Slot, &e.place.Off, &e.num, &e.id, &e.evType, &e.key, &flags, &before, &e.redactedBy, &e.totals, &e.edges, &e.bytes)
	e.standing, e.before = roomdb.Standing(flags), roomdb.StateRef(before)
	return e
}

// events checks all events of the room: first those without a place, then the timeline,
// in which every slot has a live event or a state delta.
func (c *roomCheck) events() error {
	at := roomdb.Place{Slot: -1}
	var live store.Slot // slot of the last live event
	var totals []byte
	for {
		page, err := store.Query(c.r, selectEventPage, scanCheckedEvent, c.row.Num, at.Slot, at.Off, checkPage)
		if err != nil {
			return err
		}
		for _, e := range page {
			if err := c.event(e); err != nil {
				return err
			}
			if e.place.Slot == 0 || e.place.Off != 0 {
				continue
			}
			if err := c.gap(live, e.place.Slot); err != nil {
				return err
			}
			live = e.place.Slot
			if c.opt.Totals != nil {
				if err := c.opt.Totals(totals, e.totals); err != nil {
					if err := c.finding("totals", "%s at slot %d: %v", e.id, e.place.Slot, err); err != nil {
						return err
					}
				}
			}
			totals = e.totals
		}
		if len(page) < checkPage {
			break
		}
		at = page[len(page)-1].place
	}
	if live > c.row.Slot {
		return c.finding("slots", "an event is at slot %d, the room at %d", live, c.row.Slot)
	}
	return c.gap(live, c.row.Slot+1)
}

// gap checks that the slots between two live events have state deltas, unless they were
// purged.
func (c *roomCheck) gap(before, next store.Slot) error {
	before = max(before, c.row.Purged)
	if next <= before+1 {
		return nil
	}
	n, err := store.QueryOne(c.r, countLogSlots, (*store.Row).Int, c.row.Num, before, next)
	if err == nil && n != int64(next-before-1) {
		err = c.finding("slots", "between slots %d and %d there are %d state deltas, and no events", before, next, n)
	}
	return err
}

func (c *roomCheck) event(e checkedEvent) error {
	unplaced := e.standing&(roomdb.Outlier|roomdb.Rejected|roomdb.SoftFailed) != 0
	switch {
	case e.place.Slot == 0 && !unplaced:
		if err := c.finding("place", "%s has no slot, and is neither outlier, rejected nor soft-failed", e.id); err != nil {
			return err
		}
	case e.place.Slot == 0 && e.place.Off != int64(e.num):
		if err := c.finding("place", "%s without a slot is at offset %d, its number is %d", e.id, e.place.Off, e.num); err != nil {
			return err
		}
	case e.place.Slot > 0 && (unplaced || e.place.Off > 0):
		if err := c.finding("place", "%s with standing %d is at slot %d offset %d", e.id, e.standing, e.place.Slot, e.place.Off); err != nil {
			return err
		}
	}
	bad, err := c.outOfBlock(c.r, "event", int64(e.num))
	if err == nil && bad {
		err = c.finding("numbers", "event %d (%s) was never given out", e.num, e.id)
	}
	if err != nil {
		return err
	}
	if slot, ok := e.before.Slot(); ok && slot > c.row.Slot {
		err = c.finding("state-before", "%s was sent into the state after slot %d, the room is at %d", e.id, slot, c.row.Slot)
	} else if v, ok := e.before.Version(); ok {
		err = c.mustHave(hasVersion, "state-before", fmt.Sprintf("%s was sent into version %d", e.id, v), c.row.Num, v)
	}
	if err == nil && e.redactedBy != 0 {
		err = c.mustHave(hasEvent, "redacted-by", fmt.Sprintf("%s is redacted by event %d", e.id, e.redactedBy), e.redactedBy)
	}
	if err != nil {
		return err
	}
	if _, err := roomdb.DecodeEdges(e.edges); err != nil {
		return c.finding("edges", "%s: %v", e.id, err)
	}
	return c.eventBytes(e)
}

// eventBytes checks that the columns agree with the bytes. It does not check hashes and
// signatures.
func (c *roomCheck) eventBytes(e checkedEvent) error {
	var pdu struct {
		Type     string  `json:"type"`
		StateKey *string `json:"state_key"`
	}
	if err := json.Unmarshal(e.bytes, &pdu); err != nil {
		return c.finding("bytes", "%s: %v", e.id, err)
	}
	if pdu.Type != e.evType || pdu.StateKey != nil != (e.key != 0) {
		return c.finding("bytes", "%s is a %s (state key %v), its row says %s (state key %v)",
			e.id, pdu.Type, pdu.StateKey != nil, e.evType, e.key != 0)
	}
	return nil
}

// mustHave reports rows whose reference has no target, by a counting query.
func (c *roomCheck) mustHave(s *store.Stmt, check, refers string, list ...any) error {
	n, err := store.QueryOne(c.r, s, (*store.Row).Int, list...)
	if err == nil && n == 0 {
		err = c.finding(check, "%s, which is not there", refers)
	}
	return err
}

var (
	selectLogPage = store.Prepare(`SELECT key, slot, event, prev_event FROM state_log
		WHERE room = $1 AND (key, slot) > ($2, $3) ORDER BY key, slot LIMIT $4`)
	selectCurrentPage = store.Prepare(`SELECT key, slot, event, membership FROM current_state WHERE room = $1 AND key > $2 ORDER BY key LIMIT $3`)
)

// logRow is a row of state_log, or of current_state.
type logRow struct {
	key         store.KeyNum
	slot        store.Slot
	event, prev store.EventNum
}

// replay reads the state log and the current state in parallel, by key: each delta must
// begin where the one before ended, and the last one must be current.
func (c *roomCheck) replay() error {
	current := c.currentRows()
	var last logRow
	end := func() error { // of the deltas of one key
		if last.key == 0 {
			return nil
		}
		return c.isCurrent(last, current)
	}
	for at := (logRow{}); ; {
		page, err := store.Query(c.r, selectLogPage, func(row *store.Row) (l logRow) {
			row.Scan(&l.key, &l.slot, &l.event, &l.prev)
			return l
		}, c.row.Num, at.key, at.slot, checkPage)
		if err != nil {
			return err
		}
		for _, l := range page {
			if l.key != last.key {
				if err := end(); err != nil {
					return err
				}
				last = logRow{key: l.key}
			}
			if l.prev != last.event || l.slot > c.row.Slot {
				err := c.finding("state-replay", "key %d at slot %d: from event %d to %d, after event %d; the room is at slot %d",
					l.key, l.slot, l.prev, l.event, last.event, c.row.Slot)
				if err != nil {
					return err
				}
			}
			last = l
		}
		if len(page) < checkPage {
			break
		}
		at = page[len(page)-1]
	}
	if err := end(); err != nil {
		return err
	}
	return c.notLogged(current, 1<<62)
}

// isCurrent compares the last delta of a key with the current state.
func (c *roomCheck) isCurrent(last logRow, current func(upTo store.KeyNum) (logRow, bool, error)) error {
	if err := c.notLogged(current, last.key-1); err != nil {
		return err
	}
	now, ok, err := current(last.key)
	if err != nil {
		return err
	}
	if !ok {
		now = logRow{}
	}
	if now.event != last.event || ok && now.slot != last.slot {
		return c.finding("state-replay", "key %d: the log ends with event %d at slot %d, the current state has event %d of slot %d",
			last.key, last.event, last.slot, now.event, now.slot)
	}
	return nil
}

// notLogged reports entries of the current state up to a key that the log lacks.
func (c *roomCheck) notLogged(current func(store.KeyNum) (logRow, bool, error), upTo store.KeyNum) error {
	for {
		now, ok, err := current(upTo)
		if err != nil || !ok {
			return err
		}
		if err := c.finding("state-replay", "key %d: event %d is current, and not in the log", now.key, now.event); err != nil {
			return err
		}
	}
}

// currentRows iterates over the current state by key. The function returns the next row
// unless its key is above upTo.
func (c *roomCheck) currentRows() func(upTo store.KeyNum) (logRow, bool, error) {
	var page []logRow
	var after store.KeyNum
	done := false
	return func(upTo store.KeyNum) (logRow, bool, error) {
		if len(page) == 0 && !done {
			var err error
			page, err = store.Query(c.r, selectCurrentPage, func(row *store.Row) (l logRow) {
				row.Scan(&l.key, &l.slot, &l.event)
				return l
			}, c.row.Num, after, checkPage)
			if err != nil {
				return logRow{}, false, err
			}
			if done = len(page) < checkPage; len(page) > 0 {
				after = page[len(page)-1].key
			}
		}
		if len(page) == 0 || page[0].key > upTo {
			return logRow{}, false, nil
		}
		l := page[0]
		page = page[1:]
		return l, true, nil
	}
}

var selectBadCurrent = store.Prepare(`SELECT c.key, c.event, COALESCE(e.room, 0), COALESCE(e.state_key_num, 0), COALESCE(e.flags, 0)
	FROM current_state AS c LEFT JOIN events AS e ON e.num = c.event
	WHERE c.room = $1 AND (e.num IS NULL OR e.room <> c.room OR e.state_key_num <> c.key OR (e.flags / 2) % 2 = 1)
	ORDER BY c.key LIMIT $2`)

// currentState checks that its events exist, belong to the room, have the key, and were
// not rejected.
func (c *roomCheck) currentState() error {
	type bad struct {
		key   store.KeyNum
		event store.EventNum
		room  store.RoomNum
		has   store.KeyNum
		flags int64
	}
	list, err := store.Query(c.r, selectBadCurrent, func(row *store.Row) (b bad) {
		row.Scan(&b.key, &b.event, &b.room, &b.has, &b.flags)
		return b
	}, c.row.Num, findingsPerCheck)
	for _, b := range list {
		if err := c.finding("current-event", "key %d is event %d, which has room %d, key %d, standing %d", b.key, b.event, b.room, b.has, b.flags); err != nil {
			return err
		}
	}
	return err
}

var selectMemberPage = store.Prepare(`SELECT c.key, c.membership, k.type, k.state_key, e.bytes
	FROM current_state AS c JOIN state_keys AS k ON k.num = c.key LEFT JOIN events AS e ON e.num = c.event
	WHERE c.room = $1 AND c.key > $2 AND (c.membership <> 0 OR k.type = 'm.room.member') ORDER BY c.key LIMIT $3`)

// storedMemberships are the stored forms of the memberships.
var storedMemberships = map[string]roomdb.Membership{"join": roomdb.Join, "invite": roomdb.Invite, "leave": roomdb.Leave, "ban": roomdb.Ban, "knock": roomdb.Knock}

// members compares the column membership with the events, and the counts of the room and
// its servers with the members.
func (c *roomCheck) members() error {
	var counts [6]int64
	servers := map[string]int64{}
	var after store.KeyNum
	for {
		type member struct {
			key          store.KeyNum
			membership   int64
			evType, user string
			bytes        []byte
		}
		page, err := store.Query(c.r, selectMemberPage, func(row *store.Row) (m member) {
			row.Scan(&m.key, &m.membership, &m.evType, &m.user, &m.bytes)
			return m
		}, c.row.Num, after, checkPage)
		if err != nil {
			return err
		}
		for _, m := range page {
			var pdu struct {
				Content struct {
					Membership string `json:"membership"`
				} `json:"content"`
			}
			err := json.Unmarshal(m.bytes, &pdu)
			if err != nil || m.evType != event.TypeMember || roomdb.Membership(m.membership) != storedMemberships[pdu.Content.Membership] {
				err = c.finding("membership", "%s %s is stored as membership %d, its event says %q", m.evType, m.user, m.membership, pdu.Content.Membership)
			}
			if err != nil {
				return err
			}
			if m.membership >= 0 && m.membership < int64(len(counts)) {
				counts[m.membership]++
			}
			if roomdb.Membership(m.membership) == roomdb.Join {
				_, server, _ := strings.Cut(m.user, ":")
				servers[server]++
			}
		}
		if len(page) < checkPage {
			break
		}
		after = page[len(page)-1].key
	}
	if counts[roomdb.Join] != c.row.Joined || counts[roomdb.Invite] != c.row.Invited {
		if err := c.finding("counts", "%d joined and %d invited, the room's row says %d and %d",
			counts[roomdb.Join], counts[roomdb.Invite], c.row.Joined, c.row.Invited); err != nil {
			return err
		}
	}
	return c.serverCounts(servers)
}

var selectServerCounts = store.Prepare(`SELECT server, joined FROM room_servers WHERE room = $1`)

func (c *roomCheck) serverCounts(want map[string]int64) error {
	type server struct {
		name   string
		joined int64
	}
	list, err := store.Query(c.r, selectServerCounts, func(row *store.Row) (s server) { row.Scan(&s.name, &s.joined); return s }, c.row.Num)
	if err != nil {
		return err
	}
	for _, s := range list {
		if s.joined != want[s.name] {
			if err := c.finding("servers", "%s has %d joined members, its row says %d", s.name, want[s.name], s.joined); err != nil {
				return err
			}
		}
		delete(want, s.name)
	}
	for name, joined := range want {
		if err := c.finding("servers", "%s has %d joined members and no row", name, joined); err != nil {
			return err
		}
	}
	return nil
}

var (
	selectBadMemberships = store.Prepare(`SELECT u.user_id, m.membership, COALESCE(c.membership, 0)
		FROM memberships AS m JOIN users AS u ON u.num = m.user_num
			LEFT JOIN state_keys AS k ON k.type = 'm.room.member' AND k.state_key = u.user_id
			LEFT JOIN current_state AS c ON c.room = m.room AND c.key = k.num
		WHERE m.room = $1 AND m.membership <> COALESCE(c.membership, 3) LIMIT $2`)
	selectNoMemberships = store.Prepare(`SELECT u.user_id, 0, c.membership
		FROM current_state AS c JOIN state_keys AS k ON k.num = c.key JOIN users AS u ON u.user_id = k.state_key AND u.local = 1
			LEFT JOIN memberships AS m ON m.user_num = u.num AND m.room = c.room
		WHERE c.room = $1 AND c.membership <> 0 AND m.user_num IS NULL LIMIT $2`)
	countLocalJoined = store.Prepare(`SELECT COUNT(*) FROM memberships WHERE room = $1 AND membership = 1`)
)

// memberships compares local users' rows with the current state. They may differ in a
// room that is not resident, or whose state is incomplete.
func (c *roomCheck) memberships() error {
	if !c.row.Resident || c.row.Partial {
		return nil
	}
	type bad struct {
		user     string
		row, now int64
	}
	for _, s := range []*store.Stmt{selectBadMemberships, selectNoMemberships} {
		list, err := store.Query(c.r, s, func(row *store.Row) (b bad) { row.Scan(&b.user, &b.row, &b.now); return b }, c.row.Num, findingsPerCheck)
		if err != nil {
			return err
		}
		for _, b := range list {
			if err := c.finding("memberships", "%s has membership %d, in the current state %d", b.user, b.row, b.now); err != nil {
				return err
			}
		}
	}
	n, err := store.QueryOne(c.r, countLocalJoined, (*store.Row).Int, c.row.Num)
	if err == nil && n != c.row.LocalJoined {
		err = c.finding("counts", "%d local users joined, the room's row says %d", n, c.row.LocalJoined)
	}
	return err
}

// extremities checks that the forward extremities are events of the room.
func (c *roomCheck) extremities() error {
	var depth int64
	for _, n := range c.row.Extremities {
		e, err := roomdb.EventByNum(c.r, n)
		switch {
		case errors.Is(err, store.ErrNotFound):
			err = c.finding("extremities", "event %d is not there", n)
		case err == nil && (e.Room != c.row.Num || e.Standing&(roomdb.Rejected|roomdb.Outlier) != 0):
			err = c.finding("extremities", "%s is of room number %d with standing %d", e.EventID, e.Room, e.Standing)
		}
		if err != nil {
			return err
		}
		depth = max(depth, e.Depth)
	}
	if len(c.row.Extremities) > 0 && depth != c.row.Depth {
		return c.finding("extremities", "greatest depth is %d, the room's row says %d", depth, c.row.Depth)
	}
	return nil
}

var selectVersionPage = store.Prepare(`SELECT v.num, v.base_slot, v.base_version, v.depth, v.delta, COALESCE(w.base_slot, -1), COALESCE(w.depth, 0)
	FROM state_versions AS v LEFT JOIN state_versions AS w ON w.room = v.room AND w.num = v.base_version
	WHERE v.room = $1 AND v.num > $2 ORDER BY v.num LIMIT $3`)

// versions checks that chains of deltas end at a slot of the room.
func (c *roomCheck) versions() error {
	type version struct {
		num, base          store.VersionNum
		root, baseRoot     store.Slot
		depth, depthOfBase int
		delta              []byte
	}
	var after store.VersionNum
	for {
		page, err := store.Query(c.r, selectVersionPage, func(row *store.Row) (v version) {
			row.Scan(&v.num, &v.root, &v.base, &v.depth, &v.delta, &v.baseRoot, &v.depthOfBase)
			return v
		}, c.row.Num, after, checkPage)
		if err != nil {
			return err
		}
		for _, v := range page {
			var err error
			_, decodeErr := roomdb.DecodeEntries(v.delta)
			switch {
			case decodeErr != nil:
				err = c.finding("versions", "version %d: %v", v.num, decodeErr)
			case v.root > c.row.Slot:
				err = c.finding("versions", "version %d begins after slot %d, the room is at %d", v.num, v.root, c.row.Slot)
			case v.base != 0 && v.baseRoot != v.root, v.depth != v.depthOfBase+1, v.depth > roomdb.VersionDepth:
				err = c.finding("versions", "version %d of depth %d after slot %d is based on version %d of depth %d after slot %d",
					v.num, v.depth, v.root, v.base, v.depthOfBase, v.baseRoot)
			}
			if err != nil {
				return err
			}
		}
		if len(page) < checkPage {
			return nil
		}
		after = page[len(page)-1].num
	}
}

var selectBadReceipts = store.Prepare(`SELECT x.event_id, x.slot, x.off, x.seq, COALESCE(e.num, 0) FROM receipts AS x
	LEFT JOIN events AS e ON e.room = x.room AND e.slot = x.slot AND e.off = x.off AND e.event_id = x.event_id
	WHERE x.room = $1 AND (x.seq > $2 OR x.slot > $3 AND e.num IS NULL) LIMIT $4`)

// receipts checks that receipts refer to events (unless purged) and have slots that the
// room has assigned.
func (c *roomCheck) receipts() error {
	type bad struct {
		event string
		place roomdb.Place
		seq   store.Slot
		num   store.EventNum
	}
	list, err := store.Query(c.r, selectBadReceipts, func(row *store.Row) (b bad) {
		row.Scan(&b.event, &b.place.Slot, &b.place.Off, &b.seq, &b.num)
		return b
	}, c.row.Num, c.row.ReceiptSlot, c.row.Purged, findingsPerCheck)
	for _, b := range list {
		err := c.finding("receipts", "receipt %d is at slot %d offset %d for %s (event %d); the room's last receipt is %d",
			b.seq, b.place.Slot, b.place.Off, b.event, b.num, c.row.ReceiptSlot)
		if err != nil {
			return err
		}
	}
	return err
}

var (
	selectBadRelations = store.Prepare(`SELECT x.event, x.slot, x.off FROM relations AS x
		LEFT JOIN events AS e ON e.num = x.event AND e.slot = x.slot AND e.off = x.off
		WHERE x.room = $1 AND e.num IS NULL LIMIT $2`)
	selectBadHighlights = store.Prepare(`SELECT x.event, x.slot, 0 FROM highlights AS x
		LEFT JOIN events AS e ON e.num = x.event AND e.slot = x.slot
		WHERE x.room = $1 AND e.num IS NULL LIMIT $2`)
)

// relations checks that relations and highlights agree with the places of their events.
func (c *roomCheck) relations() error {
	type bad struct {
		event store.EventNum
		place roomdb.Place
	}
	for check, s := range map[string]*store.Stmt{"relations": selectBadRelations, "highlights": selectBadHighlights} {
		list, err := store.Query(c.r, s, func(row *store.Row) (b bad) {
			row.Scan(&b.event, &b.place.Slot, &b.place.Off)
			return b
		}, c.row.Num, findingsPerCheck)
		if err != nil {
			return err
		}
		for _, b := range list {
			if err := c.finding(check, "event %d is not at slot %d offset %d", b.event, b.place.Slot, b.place.Off); err != nil {
				return err
			}
		}
	}
	return nil
}

var selectBadVerdicts = store.Prepare(`SELECT v.event, COALESCE(e.flags, 0) FROM verdicts AS v
	LEFT JOIN events AS e ON e.num = v.event AND e.room = v.room
	WHERE v.room = $1 AND (e.num IS NULL OR (e.flags / 2) % 4 = 0) LIMIT $2`)

// verdicts checks that only rejected or soft-failed events have a reason.
func (c *roomCheck) verdicts() error {
	type bad struct {
		event    store.EventNum
		standing int64
	}
	list, err := store.Query(c.r, selectBadVerdicts, func(row *store.Row) (b bad) {
		row.Scan(&b.event, &b.standing)
		return b
	}, c.row.Num, findingsPerCheck)
	for _, b := range list {
		if err := c.finding("verdicts", "event %d has the reason of a refusal, and standing %d", b.event, b.standing); err != nil {
			return err
		}
	}
	return err
}
