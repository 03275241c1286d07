package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// The rooms of the measure of a start with many rooms.
const fewRooms, copiedRooms = 10, 1_000_000

// startMillion measures the start with a million rooms in the store, and with few.
// The two start in turn, so that both see the same machine.
func (b *bench) startMillion(ctx context.Context, name string, databases [2]string) error {
	var sets [2]*dataset
	for i := range sets {
		var err error
		sets[i], err = b.seeded(ctx, name, databases[i], func(d *dataset) error {
			if err := d.addUsers(ctx, 1); err != nil {
				return err
			}
			_, err := d.addRooms(ctx, fewRooms, 0, func(int) []int { return []int{0} })
			return err
		})
		if err != nil {
			return err
		}
	}
	begin := time.Now()
	if err := multiplyRooms(ctx, sets[1].database); err != nil {
		return fmt.Errorf("multiply a room: %w", err)
	}
	progress("%s: %d rooms written in %.1fs", name, copiedRooms, time.Since(begin).Seconds())
	took, _, err := b.starts(sets[:]...)
	if err != nil {
		return err
	}
	few, many := took[0], took[1]
	figure{name + ".floor", few, "ms", 1, none, 0}.print()
	figure{name, many, "ms", many / few, metIf(many <= 1.2*few || many-few < 5), 0}.print()
	return nil
}

// startRounds is how often each data set is started; the first doesn't count.
const startRounds = 16

// starts starts the server on data sets in turn. It gives the median time of each
// until the first 200, in ms, and the most memory that was resident then in MiB.
func (b *bench) starts(sets ...*dataset) (medians []float64, memory float64, err error) {
	took := make([][]time.Duration, len(sets))
	for round := range startRounds {
		for i, d := range sets {
			begin := time.Now()
			p, err := b.serve(d)
			if err != nil {
				return nil, 0, err
			}
			if round > 0 {
				took[i] = append(took[i], time.Since(begin))
			}
			resident, err := p.resident()
			p.Stop()
			if err != nil {
				return nil, 0, err
			}
			memory = max(memory, float64(resident)/(1<<20))
		}
	}
	for _, t := range took {
		p50, _ := quantiles(t)
		medians = append(medians, p50)
	}
	return medians, memory, nil
}

// multiplied are the statements that write the million: each room as one is that
// its creator has just come into, with the rows of the first two slots (the event
// that makes it, and the creator's join) of the newest room that is there. In the
// stream they lie before what is there, so that a start finds the same at its end.
var multiplied = func() []string {
	const (
		first   = "1000000"       // number of the first copy, less 1; all have as many digits, so they sort as texts do
		events  = "1000000000000" // events of the copies
		earlier = "10000000000"   // µs
	)
	series := fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)", copiedRooms)
	of := func(slot string) string { return events + " + 2 * n.i + " + slot }
	from := func(table string) string {
		return ` FROM n, ` + table + ` AS x WHERE x.room = (SELECT MAX(num) FROM rooms WHERE num < ` + first + `)`
	}
	return []string{
		`INSERT INTO events (room, slot, off, num, event_id, type, state_key_num, sender, depth, origin_server_ts, received_ts,
			flags, state_before, redacted_by, totals, edges, txn_device, txn_id, bytes) ` + series + `
			SELECT ` + first + ` + n.i, x.slot, x.off, ` + of("x.slot") + `, '$' || (` + of("x.slot") + `) || substr(x.event_id, 14), x.type,
			x.state_key_num, x.sender, x.depth, x.origin_server_ts, x.received_ts, x.flags, x.state_before, x.redacted_by, x.totals,
			x.edges, x.txn_device, x.txn_id, x.bytes` + from("events") + ` AND x.slot IN (1, 2)`,
		`INSERT INTO current_state (room, key, event, slot, membership) ` + series + `
			SELECT ` + first + ` + n.i, x.key, ` + of("x.slot") + `, x.slot, x.membership` + from("current_state") + ` AND x.slot IN (1, 2)`,
		`INSERT INTO state_log (room, slot, key, event, prev_event) ` + series + `
			SELECT ` + first + ` + n.i, x.slot, x.key, ` + of("x.slot") + `, 0` + from("state_log") + ` AND x.slot IN (1, 2)`,
		`INSERT INTO room_servers (room, server, joined) ` + series + `
			SELECT ` + first + ` + n.i, x.server, x.joined` + from("room_servers"),
		`INSERT INTO memberships (user_num, room, membership, slot, event, forgotten, user_slot, stripped) ` + series + `
			SELECT x.user_num, ` + first + ` + n.i, x.membership, x.slot, ` + of("x.slot") + `, x.forgotten, x.user_slot, x.stripped` +
			from("memberships") + ` AND x.slot = 2`,
		`INSERT INTO stream (pos, owner_kind, owner, kind, first_slot, last_slot) ` + series + `
			SELECT (SELECT MIN(pos) FROM stream) - ` + earlier + ` + n.i, 1, ` + first + ` + n.i, 1, 1, 2 FROM n`,
		`INSERT INTO rooms (num, room_id, version, head, slot, receipt_slot, resident, partial, extremities, depth, joined, invited,
			local_joined, published, created_ts, totals, purged, blocked) ` + series + `
			SELECT ` + first + ` + n.i, '!' || (` + first + ` + n.i) || substr(x.room_id, 9), x.version, x.head, 2, 0, x.resident, x.partial,
			'[' || (` + of("2") + `) || ']', 2, x.joined, x.invited, x.local_joined, x.published, x.created_ts,
			(SELECT totals FROM events AS e WHERE e.room = x.num AND e.slot = 2), x.purged, x.blocked
			FROM n, rooms AS x WHERE x.num = (SELECT MAX(num) FROM rooms WHERE num < ` + first + `)`,
		`UPDATE numbers SET next = 3000000 WHERE name = 'room'`,
	}
}()

// multiplyRooms runs them on a database without a server.
func multiplyRooms(ctx context.Context, database string) error {
	if isPostgres(database) {
		return multiplyOnPostgres(ctx, database)
	}
	c, err := sqlite.OpenConn(database, sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	// Nobody needs to survive a crash of this; the server turns its log on again.
	for _, text := range append([]string{"PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", "PRAGMA cache_size = -500000"}, multiplied...) {
		if err := sqlitex.ExecuteTransient(c, text, nil); err != nil {
			return errors.Join(fmt.Errorf("%w: %s", err, text), c.Close())
		}
	}
	if err := c.Close(); err != nil {
		return err
	}
	f, err := os.OpenFile(database, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close()) // so that it is not written while a start is measured
}

func multiplyOnPostgres(ctx context.Context, database string) error {
	c, err := pgx.Connect(ctx, database)
	if err != nil {
		return err
	}
	for _, text := range slices.Concat([]string{"SET synchronous_commit = off"}, multiplied, []string{"VACUUM (ANALYZE)"}) {
		if _, err := c.Exec(ctx, text); err != nil {
			return errors.Join(fmt.Errorf("%w: %s", err, text), c.Close(ctx))
		}
	}
	return c.Close(ctx)
}

// fewSchema holds a second data set in the PostgreSQL database.
const fewSchema = "few"

// inFewSchema is the URL of the database with that schema.
func (b *bench) inFewSchema() string {
	separator := "?"
	if strings.Contains(b.postgres, "?") {
		separator = "&"
	}
	return b.postgres + separator + "search_path=" + fewSchema
}

// clearPostgres makes the PostgreSQL database empty for the next data sets. It must
// be so before the first: what somebody else has in it is not ours to delete.
func (b *bench) clearPostgres(ctx context.Context) (err error) {
	c, err := pgx.Connect(ctx, b.postgres)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	if b.postgresIsOurs {
		_, err = c.Exec(ctx, "DROP SCHEMA public, "+fewSchema+" CASCADE; CREATE SCHEMA public; CREATE SCHEMA "+fewSchema)
		return err
	}
	var tables int
	if err := c.QueryRow(ctx, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").Scan(&tables); err != nil {
		return err
	}
	if tables > 0 {
		return fmt.Errorf("the PostgreSQL database has %d tables; make an empty one for the measurement", tables)
	}
	b.postgresIsOurs = true
	_, err = c.Exec(ctx, "CREATE SCHEMA "+fewSchema)
	return err
}
