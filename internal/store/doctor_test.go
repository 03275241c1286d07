package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"stoa/internal/store"
	"stoa/internal/store/doctor"
	"stoa/internal/store/readerdb"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
)

// soundRoom fills a store with one room in which everything refers to something:
// three members, a fork with a version, a thread, receipts, a highlight.
func soundRoom(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	local := func(u string) bool { return u != "@c:other.test" }
	users, err := s.InternUsers(ctx, local, "@a:stoa.test", "@b:stoa.test", "@c:other.test")
	must(err)
	pairs := []store.Pair{
		{Type: "m.room.create"}, {Type: "m.room.member", StateKey: "@a:stoa.test"},
		{Type: "m.room.member", StateKey: "@b:stoa.test"}, {Type: "m.room.member", StateKey: "@c:other.test"}, {Type: "m.room.topic"},
	}
	keys, err := s.Intern(ctx, pairs)
	must(err)
	room, head := newRoom(t, s, "!sound:stoa.test")
	var last store.EventNum
	row := store.Room{Num: room, Resident: true, Joined: 2, Invited: 1, LocalJoined: 1}
	add := func(c *store.Change, slot store.Slot, key int, membership roomdb.Membership, more func(*roomdb.Event)) {
		n, err := s.NextEvent(ctx)
		must(err)
		last = n
		e := roomdb.Event{Room: room, Place: roomdb.Place{Slot: slot}, Num: n, EventID: fmt.Sprintf("$%d", n), Type: "m.room.message",
			Depth: int64(slot), StateBefore: roomdb.AfterSlot(slot - 1), Totals: fmt.Appendf(nil, "%03d", slot), Bytes: []byte(`{"type":"m.room.message"}`)}
		if key >= 0 {
			e.Type, e.Key = pairs[key].Type, keys[key]
			word := map[roomdb.Membership]string{roomdb.Join: "join", roomdb.Invite: "invite", roomdb.Leave: "leave"}[membership]
			e.Bytes = fmt.Appendf(nil, `{"type":%q,"state_key":%q,"content":{"membership":%q}}`, e.Type, pairs[key].StateKey, word)
			if slot != 0 {
				roomdb.SetState(c, room, slot, roomdb.StateDelta{Key: keys[key], Event: n, Membership: membership})
			}
		}
		if more != nil {
			more(&e)
		}
		roomdb.AddEvent(c, e)
	}
	var outlier store.EventNum
	for slot := store.Slot(1); slot <= 8; slot++ {
		c, next := slotChange(t, s, room, head, slot)
		head = next
		switch slot {
		case 1:
			add(c, 1, 0, 0, nil)
		case 2:
			add(c, 2, 1, roomdb.Join, nil)
			roomdb.SetMembership(c, roomdb.RoomMembership{User: users[0], Room: room, Membership: roomdb.Join, Slot: 2, Event: last})
			roomdb.CountServer(c, room, "stoa.test", 1)
		case 3:
			add(c, 3, 2, roomdb.Invite, nil)
			roomdb.SetMembership(c, roomdb.RoomMembership{User: users[1], Room: room, Membership: roomdb.Invite, Slot: 3, Event: last})
		case 4:
			add(c, 4, 3, roomdb.Join, nil)
			roomdb.CountServer(c, room, "other.test", 1)
		case 5:
			add(c, 5, -1, 0, func(e *roomdb.Event) { e.TxnID = "t" })
			roomdb.AddTxn(c, roomdb.Txn{User: users[0], Device: "D", Path: "send", ID: "t", EventID: fmt.Sprintf("$%d", last), Room: room})
			roomdb.PutReceipt(c, roomdb.Receipt{Room: room, User: users[0], Kind: roomdb.ReceiptRead, Slot: 5, EventID: fmt.Sprintf("$%d", last)})
			roomdb.AddHighlight(c, roomdb.Highlight{Room: room, User: users[1], Slot: 5, Kind: roomdb.CountsAsHighlight, Event: last})
			roomdb.AddRelation(c, roomdb.Relation{Room: room, Target: "$1", RelType: "m.thread", Place: roomdb.Place{Slot: 5}, Event: last})
		case 6: // a delta that no event carries, from an outlier
			add(c, 0, 4, 0, func(e *roomdb.Event) { e.Standing = roomdb.Outlier; e.StateBefore = 0 })
			outlier = last
			roomdb.SetState(c, room, 6, roomdb.StateDelta{Key: keys[4], Event: outlier})
		case 7:
			v, err := s.NextVersion(ctx)
			must(err)
			roomdb.AddVersion(c, roomdb.Derive(room, v, nil, 3, []roomdb.StateEntry{{Key: keys[4], Event: outlier}}))
			add(c, 7, -1, 0, func(e *roomdb.Event) { e.StateBefore = roomdb.OfVersion(v) })
		case 8:
			add(c, 8, -1, 0, nil)
			roomdb.SetRedactedBy(c, room, last-1, last)
		}
		row.Extremities, row.Depth = []store.EventNum{last}, int64(slot)
		if slot == 6 {
			row.Depth = 0
		}
		c.SetRoom(row)
		_, err := s.Commit(ctx, c)
		must(err)
	}
}

var errShrunk = errors.New("totals shrank")

func findings(t *testing.T, s *store.Store) []string {
	t.Helper()
	progress := 0
	list, err := doctor.Findings(t.Context(), s, doctor.Options{
		Progress: func(doctor.Progress) { progress++ },
		Totals: func(before, after []byte) error {
			if string(after) < string(before) {
				return errShrunk
			}
			return nil
		},
	}, 100)
	if err != nil {
		t.Fatal(err)
	}
	if progress < 4 {
		t.Errorf("progress was told %d times", progress)
	}
	var checks []string
	for _, f := range list {
		t.Log(f)
		checks = append(checks, f.Check)
	}
	return slices.Compact(checks)
}

// TestCheck: a sound store has no findings, and each kind of break is found.
func TestCheck(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		soundRoom(t, s)
		if got := findings(t, s); len(got) > 0 {
			t.Fatalf("a sound store has findings: %v", got)
		}
		for _, tc := range []struct{ name, damage, repair, want string }{
			{"an event is lost", `UPDATE events SET slot = 99 WHERE event_id = '$8'`, `UPDATE events SET slot = 8 WHERE event_id = '$8'`, "slots"},
			{"a delta of nobody", `UPDATE state_log SET prev_event = 77 WHERE slot = 4`, `UPDATE state_log SET prev_event = 0 WHERE slot = 4`, "state-replay"},
			{"current state differs from the log", `UPDATE current_state SET slot = 3 WHERE slot = 2`,
				`UPDATE current_state SET slot = 2 WHERE event = 2`, "state-replay"},
			{"current state without a log", `INSERT INTO current_state VALUES (1, 999, 1, 1, 0)`, `DELETE FROM current_state WHERE key = 999`, "state-replay"},
			{"membership column", `UPDATE current_state SET membership = 4 WHERE event = 4`, `UPDATE current_state SET membership = 1 WHERE event = 4`, "membership"},
			{"membership of a local user", `UPDATE memberships SET membership = 1 WHERE membership = 2`,
				`UPDATE memberships SET membership = 2 WHERE slot = 3`, "memberships"},
			{"counts", `UPDATE rooms SET joined = 7`, `UPDATE rooms SET joined = 2`, "counts"},
			{"servers", `UPDATE room_servers SET joined = 7 WHERE server = 'other.test'`, `UPDATE room_servers SET joined = 1`, "servers"},
			{"totals", `UPDATE events SET totals = NULL WHERE slot = 7`, `UPDATE events SET totals = CAST('007' AS {{blob}}) WHERE slot = 7`, "totals"},
			{"transaction", `UPDATE transactions SET event_id = '$gone'`, `UPDATE transactions SET event_id = '$5'`, "transaction-event"},
			{"extremity", `UPDATE rooms SET extremities = '[99]', depth = 0`, `UPDATE rooms SET extremities = '[8]', depth = 8`, "extremities"},
			{"version", `UPDATE state_versions SET depth = 9`, `UPDATE state_versions SET depth = 1`, "versions"},
			{"version of an event", `UPDATE events SET state_before = 55 WHERE slot = 7`, `UPDATE events SET state_before = 1 WHERE slot = 7`, "state-before"},
			{"redaction", `UPDATE events SET redacted_by = 55 WHERE slot = 7`, `UPDATE events SET redacted_by = 8 WHERE slot = 7`, "redacted-by"},
			{"receipt", `UPDATE receipts SET slot = 4`, `UPDATE receipts SET slot = 5`, "receipts"},
			{"relation", `UPDATE relations SET slot = 4`, `UPDATE relations SET slot = 5`, "relations"},
			{"highlight", `UPDATE highlights SET slot = 4`, `UPDATE highlights SET slot = 5`, "highlights"},
			{"stream beyond the room", `UPDATE rooms SET receipt_slot = 0`, `UPDATE rooms SET receipt_slot = 1`, "receipts stream-target"},
			{"bytes", `UPDATE events SET type = 'm.other' WHERE slot = 7`, `UPDATE events SET type = 'm.room.message' WHERE slot = 7`, "bytes"},
			{"standing", `UPDATE events SET flags = 2 WHERE slot = 7`, `UPDATE events SET flags = 0 WHERE slot = 7`, "place"},
			{"verdict of an accepted event", `INSERT INTO verdicts VALUES (1, 7, '', 'no')`, `DELETE FROM verdicts`, "verdicts"},
			{"cursor beyond the stream", `INSERT INTO reader_cursors VALUES ('r', 0, 4611686018427387904, 0)`, `DELETE FROM reader_cursors`, "reader-cursor"},
			{"cursor of no shard", `INSERT INTO reader_cursors VALUES ('r', 64, 0, 0)`, `DELETE FROM reader_cursors`, "reader-cursor"},
			{"cursor behind what was trimmed", `INSERT INTO reader_cursors VALUES ('r', 0, -1, 0)`, `DELETE FROM reader_cursors`, "reader-cursor"},
			{"set aside before it was read", `INSERT INTO reader_cursors VALUES ('r', 0, 1, 0);
				INSERT INTO reader_aside VALUES ('r', 0, 2, 1, 1, 1, 1, 1, 3, '', 0, 0)`, `DELETE FROM reader_aside; DELETE FROM reader_cursors`, "reader-aside"},
			{"set aside by no reader", `INSERT INTO reader_aside VALUES ('r', 0, 2, 1, 1, 1, 1, 1, 3, '', 0, 0)`, `DELETE FROM reader_aside`, "reader-aside"},
			{"job in the shard of another", `INSERT INTO jobs (kind, key, seq, shard, due, enqueued_ts) VALUES ('leave', '@a:stoa.test', 0, -1, 1, 1)`,
				`DELETE FROM jobs`, "job"},
			{"job set aside at no time", `INSERT INTO jobs (kind, key, seq, shard, due, enqueued_ts, aside_ts)
				VALUES ('leave', '@a:stoa.test', 0, ` + strconv.Itoa(readerdb.JobShard("leave", "@a:stoa.test")) + `, 1, 1, 5)`, `DELETE FROM jobs`, "job"},
			{"number of no block", `UPDATE users SET head = 123456789`, `UPDATE users SET head = 0`, "numbers"},
		} {
			if err := s.Script(t.Context(), tc.damage); err != nil {
				t.Fatalf("%s: %v", tc.name, err)
			}
			if got := findings(t, s); !slices.Contains(got, firstWord(tc.want)) {
				t.Errorf("%s: found %v, want %s", tc.name, got, tc.want)
			}
			if err := s.Script(t.Context(), tc.repair); err != nil {
				t.Fatalf("%s: %v", tc.name, err)
			}
			if got := findings(t, s); len(got) > 0 {
				t.Fatalf("%s: after the repair found %v", tc.name, got)
			}
		}
	})
}

func firstWord(s string) string {
	var word string
	fmt.Sscan(s, &word)
	return word
}

// TestResolve finds the rows of a group whose connection was lost after its
// commit.
func TestResolve(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, "postgres")
	room, head := newRoom(t, s, "!a:stoa.test")
	c, head := slotChange(t, s, room, head, 1)
	before, err := s.Commit(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	c, _ = slotChange(t, s, room, head, 2)
	c.ReceiptSlot(room)
	last, err := s.Commit(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	prev, rows, err := s.ResolveLast()
	if err != nil {
		t.Fatal(err)
	}
	if prev != before || len(rows) != 2 || rows[1].Pos != last || rows[0].Pos != last-1 {
		t.Errorf("found %v after %d, want two rows up to %d after %d", rows, prev, last, before)
	}
}
