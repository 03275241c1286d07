package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// The floor of bare inserts: the rows that a message adds (the event, its
// transaction ID, its row of the stream), in transactions as large as a group of
// 64 senders, from one connection that does nothing else. No request, no JSON, no
// hash, no signature, no heads.
var bareInserts = [...]string{
	`INSERT INTO events (room, slot, off, num, event_id, type, state_key_num, sender, depth, origin_server_ts, received_ts, flags,
		state_before, redacted_by, totals, edges, txn_device, txn_id, bytes)
		VALUES ($1, $2, 0, $3, $4, 'm.room.message', 0, $5, $6, $7, $8, 0, 0, 0, $9, $10, $11, $12, $13)`,
	`INSERT INTO transactions (user_num, device, path, txn_id, event_id, room, at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
	`INSERT INTO stream (pos, owner_kind, owner, kind, first_slot, last_slot) VALUES ($1, 1, $2, 1, $3, $4)`,
}

const (
	insertGroup = 64
	insertRooms = 100
	// insertBase is above all numbers and below all positions that the server gives.
	insertBase = 1 << 40
)

// insertSpec writes for some time into a database that has the server's tables
// and no server.
type insertSpec struct {
	Database string
	Seconds  float64
}

type insertResult struct{ PerSecond float64 } // messages

func loadInsert(spec insertSpec) (r insertResult, err error) {
	ctx := context.Background()
	open := openLiteInserter
	if isPostgres(spec.Database) {
		open = openPostgresInserter
	}
	in, err := open(ctx, spec.Database)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, in.close(ctx)) }()
	begin := time.Now()
	n := 0
	for time.Since(begin).Seconds() < spec.Seconds {
		var rows [insertGroup][len(bareInserts)][]any
		for i := range rows {
			rows[i] = bareMessage(n)
			n++
		}
		if err := in.commit(ctx, rows[:]); err != nil {
			return r, err
		}
	}
	return insertResult{PerSecond: float64(n) / time.Since(begin).Seconds()}, nil
}

// bareEvent is as long as the event of a message with a content of 200 bytes: with
// its hash, its signature and the events before it. The other values are as long
// as those of such a message, too.
var bareEvent = bytes.Repeat([]byte("x"), 733)

const barePath = "/rooms/!xwuDj3SIQ10Ll1Oeshwpzj6yL6OiF5wHIAuqVM5_sJY/send/m.room.message"

// bareMessage are the values of a message's rows.
func bareMessage(n int) [len(bareInserts)][]any {
	room, slot, num := int64(insertBase+n%insertRooms), int64(n/insertRooms), int64(insertBase+n)
	eventID := fmt.Sprintf("$%016x%s", uint64(n)*0x9e3779b97f4a7c15, strings.Repeat("A", 27)) // in no order, as hashes are
	sender := n % insertGroup
	user, txn, now := fmt.Sprintf("@user%d:%s", sender, serverName), fmt.Sprintf("b1.%d.%d", sender, n), time.Now().UnixMilli()
	return [...][]any{
		{room, slot, num, eventID, user, slot, now, now, bareEvent[:7], bareEvent[:9], "BENCH", txn, bareEvent},
		{int64(insertBase + sender), "BENCH", barePath, txn, eventID, room, now},
		{num, room, slot, slot},
	}
}

// inserter writes the rows of some messages in one transaction.
type inserter interface {
	commit(ctx context.Context, rows [][len(bareInserts)][]any) error
	close(ctx context.Context) error
}

func isPostgres(database string) bool {
	return strings.HasPrefix(database, "postgres://") || strings.HasPrefix(database, "postgresql://")
}

// liteInserter has the settings of the server's writing connection.
type liteInserter struct {
	c       *sqlite.Conn
	inserts [len(bareInserts)]*sqlite.Stmt
}

func openLiteInserter(_ context.Context, database string) (inserter, error) {
	c, err := sqlite.OpenConn(database, sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	in := &liteInserter{c: c}
	for _, pragma := range []string{"synchronous = FULL", "wal_autocheckpoint = 16000", "cache_size = -65536", "temp_store = MEMORY"} {
		if err := sqlitex.ExecuteTransient(c, "PRAGMA "+pragma, nil); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	for i, text := range bareInserts {
		if in.inserts[i], err = c.Prepare(text); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return in, nil
}

func (in *liteInserter) commit(_ context.Context, rows [][len(bareInserts)][]any) (err error) {
	end, err := sqlitex.ImmediateTransaction(in.c)
	if err != nil {
		return err
	}
	defer end(&err)
	for _, message := range rows {
		for i, values := range message {
			s := in.inserts[i]
			for at, value := range values {
				switch v := value.(type) {
				case int64:
					s.BindInt64(at+1, v)
				case string:
					s.BindText(at+1, v)
				case []byte:
					s.BindBytes(at+1, v)
				}
			}
			if _, err := s.Step(); err != nil {
				return err
			}
			if err := s.Reset(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (in *liteInserter) close(context.Context) error { return in.c.Close() }

type postgresInserter struct{ c *pgx.Conn }

func openPostgresInserter(ctx context.Context, database string) (inserter, error) {
	c, err := pgx.Connect(ctx, database)
	return &postgresInserter{c}, err
}

// commit sends all at once; a pipeline without BEGIN is one transaction.
func (in *postgresInserter) commit(ctx context.Context, rows [][len(bareInserts)][]any) error {
	var batch pgx.Batch
	for _, message := range rows {
		for i, values := range message {
			batch.Queue(bareInserts[i], values...)
		}
	}
	return in.c.SendBatch(ctx, &batch).Close()
}

// close takes the rows away: the server's data set is in the same database.
func (in *postgresInserter) close(ctx context.Context) error {
	for _, text := range []string{"DELETE FROM events WHERE room >= $1", "DELETE FROM transactions WHERE room >= $1",
		"DELETE FROM stream WHERE owner_kind = 1 AND owner >= $1"} {
		if _, err := in.c.Exec(ctx, text, int64(insertBase)); err != nil {
			return errors.Join(err, in.c.Close(ctx))
		}
	}
	return in.c.Close(ctx)
}

// insertFloor measures bare inserts into a database that has the server's tables.
func (b *bench) insertFloor(name, database string) (perSecond float64, err error) {
	var r insertResult
	client, err := runLoadProcess("insert", insertSpec{Database: database, Seconds: b.seconds / 2}, &r)
	if err != nil {
		return 0, err
	}
	figure{name, r.PerSecond, "messages/s", r.PerSecond / b.durable, none, client}.print()
	return r.PerSecond, nil
}
