package streamcache

import (
	"fmt"
	"runtime"
	"sync"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/timeline"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
)

// Loader reads events for one answer, or for the ring, in few queries: the caller names all events that it wants, Load reads those
// that are not in memory, and Event makes each when it is asked for.
type Loader struct {
	cache *Cache
	read  *store.Read
	Head  store.Position // of the snapshot
	rules map[store.RoomNum]*roomversion.Rules
	// unknownVersions are the rooms of rows whose version is not known.
	unknownVersions map[store.RoomNum]struct{}
	rows            map[store.EventNum]roomdb.SyncEvent // read, not made into events yet
	made            map[store.EventNum]*timeline.Event  // built early, without Replaced
	events          map[store.EventNum]*timeline.Event
	prev            map[store.EventNum]store.EventNum // by the number of a state event, the one that it replaced
	wanted          map[store.EventNum]struct{}
}

func (sc *Cache) Loader(r *store.Read) *Loader {
	return &Loader{
		cache: sc, read: r, Head: r.Head(),
		rules:           map[store.RoomNum]*roomversion.Rules{},
		unknownVersions: map[store.RoomNum]struct{}{},
		rows:            map[store.EventNum]roomdb.SyncEvent{},
		made:            map[store.EventNum]*timeline.Event{},
		events:          map[store.EventNum]*timeline.Event{},
		prev:            map[store.EventNum]store.EventNum{},
		wanted:          map[store.EventNum]struct{}{},
	}
}

// Version sets the version of a room whose events are wanted.
func (l *Loader) Version(num store.RoomNum, version string) {
	rules, _ := roomversion.Of(version)
	l.rules[num] = rules // nil for a version that this release does not know: its events are left out
}

// Known is roomdb.Known: an event that is in memory is taken from there, and not read.
func (l *Loader) Known(num, redactedBy store.EventNum) bool {
	if e := l.events[num]; e != nil {
		return true
	}
	e := l.cache.events.get(num)
	if e == nil || e.IsRedacted() != (redactedBy != 0) {
		return false
	}
	l.events[num] = e
	return true
}

// WantEvents adds rows that were read with Known.
func (l *Loader) WantEvents(rows []roomdb.SyncEvent) {
	for _, row := range rows {
		if row.Bytes == nil {
			continue
		}
		l.rows[row.Num] = row
		if _, known := l.rules[row.Room]; !known {
			l.unknownVersions[row.Room] = struct{}{}
		}
		if row.RedactedBy != 0 {
			l.Want(row.RedactedBy)
		}
	}
}

// Want adds an event.
func (l *Loader) Want(num store.EventNum) {
	if num != 0 && l.events[num] == nil {
		if _, read := l.rows[num]; !read && l.made[num] == nil {
			l.wanted[num] = struct{}{}
		}
	}
}

// WantLog adds the events that the rows of a log replaced, for their prev_content.
func (l *Loader) WantLog(log []roomdb.StateChange) {
	for _, c := range log {
		if c.Event == 0 || c.Prev == 0 {
			continue
		}
		l.prev[c.Event] = c.Prev
		if e := l.events[c.Event]; e == nil || e.Replaced == nil {
			l.Want(c.Prev)
		}
	}
}

// WantChanged adds the events that the rows of a log put into the state.
func (l *Loader) WantChanged(log []roomdb.StateChange) {
	for _, c := range log {
		l.Want(c.Event)
	}
}

// Load reads the wanted events that are not in memory.
func (l *Loader) Load() error {
	for len(l.wanted) > 0 { // once, and once more for redactions
		nums := make([]store.EventNum, 0, len(l.wanted))
		for num := range l.wanted {
			if e := l.cache.events.get(num); e != nil {
				l.events[num] = e
			} else {
				nums = append(nums, num)
			}
		}
		clear(l.wanted)
		if len(nums) == 0 {
			break
		}
		rows, err := roomdb.SyncEvents(l.read, nums, l.Known)
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
		l.WantEvents(rows)
	}
	for num := range l.unknownVersions {
		if err := l.readVersion(num); err != nil {
			return err
		}
	}
	clear(l.unknownVersions)
	l.makeInParallel()
	return nil
}

// many is the number of rows from which events are built on several cores, before they
// are requested.
const many = 128

// makeInParallel makes the events that were read, on several cores if they are many. Redacted ones are left for later.
func (l *Loader) makeInParallel() {
	if len(l.rows) < many {
		return
	}
	rows := make([]roomdb.SyncEvent, 0, len(l.rows))
	for _, row := range l.rows {
		if row.RedactedBy == 0 && l.rules[row.Room] != nil {
			rows = append(rows, row)
		}
	}
	made := make([]*timeline.Event, len(rows))
	var group sync.WaitGroup
	cores := min(runtime.GOMAXPROCS(0), 4)
	for core := range cores {
		group.Go(func() {
			for i := core; i < len(rows); i += cores {
				if pdu := l.parse(rows[i]); pdu != nil {
					made[i] = timeline.New(source(rows[i], pdu))
				}
			}
		})
	}
	group.Wait()
	for i, e := range made {
		if e != nil {
			l.made[rows[i].Num] = e
			delete(l.rows, rows[i].Num)
		}
	}
}

// Event returns a wanted event; nil if the store does not have it, or it can't be parsed.
func (l *Loader) Event(num store.EventNum) *timeline.Event {
	e := l.events[num]
	if e != nil && (e.Replaced != nil || l.prev[num] == 0) {
		return e
	}
	if e == nil {
		if e = l.make(num); e == nil {
			return nil
		}
	}
	if prev := l.prev[num]; prev != 0 && e.Replaced == nil {
		p := l.events[prev]
		if p == nil {
			p = l.make(prev)
		}
		if p != nil {
			e = e.WithReplaced(p)
		}
	}
	l.events[num] = e
	l.cache.events.add(e, l.Head)
	return e
}

// make builds an event from its row.
func (l *Loader) make(num store.EventNum) *timeline.Event {
	if e := l.made[num]; e != nil {
		return e
	}
	row, ok := l.rows[num]
	if !ok || l.rules[row.Room] == nil {
		return nil
	}
	pdu := l.parse(row)
	if pdu == nil {
		return nil
	}
	s := source(row, pdu)
	if row.RedactedBy != 0 {
		s.PDU, s.Because = pdu.Redacted(), l.redaction(row.RedactedBy)
	}
	return timeline.New(s)
}

func source(row roomdb.SyncEvent, pdu *event.PDU) timeline.Source {
	s := timeline.Source{
		Num: row.Num, Slot: row.Place.Slot, Off: row.Place.Off, PDU: pdu, TxnDevice: row.TxnDevice, TxnID: row.TxnID,
	}
	if row.TxnID != "" {
		s.TxnUser = pdu.Sender()
	}
	return s
}

// redaction returns the redaction of an event, which may be redacted itself; nil if it is
// unknown.
func (l *Loader) redaction(num store.EventNum) *timeline.Event {
	if e := l.events[num]; e != nil {
		return e
	}
	if e := l.made[num]; e != nil {
		return e
	}
	row, ok := l.rows[num]
	if !ok || l.rules[row.Room] == nil {
		return nil
	}
	pdu := l.parse(row)
	if pdu == nil {
		return nil
	}
	if row.RedactedBy != 0 {
		pdu = pdu.Redacted()
	}
	return timeline.New(source(row, pdu))
}

// Stored reads the PDU of an event of which memory has the client form only.
func (l *Loader) Stored(num store.EventNum) (*event.PDU, error) {
	rows, err := roomdb.SyncEvents(l.read, []store.EventNum{num}, nil)
	if err != nil {
		return nil, fmt.Errorf("read event number %d: %w", num, err)
	}
	for _, row := range rows {
		if err := l.readVersion(row.Room); err != nil {
			return nil, err
		}
		if l.rules[row.Room] == nil {
			break
		}
		pdu := l.parse(row)
		if pdu != nil && row.RedactedBy != 0 {
			pdu = pdu.Redacted()
		}
		if pdu != nil {
			return pdu, nil
		}
	}
	return nil, fmt.Errorf("read event number %d: %w", num, store.ErrNotFound)
}

// readVersion reads the version of a room of which only events were named.
func (l *Loader) readVersion(num store.RoomNum) error {
	if _, ok := l.rules[num]; ok {
		return nil
	}
	if rules, ok := l.cache.rules.Get(num); ok {
		l.rules[num] = rules
		return nil
	}
	r, err := roomdb.RoomByNum(l.read, num)
	if err != nil {
		return fmt.Errorf("read room number %d: %w", num, err)
	}
	l.Version(num, r.Version)
	l.cache.rules.Add(num, l.rules[num])
	return nil
}

// parse reads the stored bytes of an event of a room whose rules are known; nil if they can't be read.
func (l *Loader) parse(row roomdb.SyncEvent) *event.PDU {
	eventID, err := id.ParseEventID(row.EventID)
	if err != nil {
		l.unreadable(row, err)
		return nil
	}
	pdu, err := event.Load(l.rules[row.Room], eventID, row.Bytes)
	if err != nil {
		l.unreadable(row, err)
		return nil
	}
	return pdu
}

// unreadable logs a stored event that can't be parsed: a fault of the store, which must not keep anybody from syncing.
func (l *Loader) unreadable(row roomdb.SyncEvent, err error) {
	l.cache.log.Error("stored event can't be read", "event_id", row.EventID, "err", err)
}
