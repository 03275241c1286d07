package store

// Instances of the server and their leases. Written by package cluster. All times are the
// database's, so the clocks of the machines don't matter.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// ErrLeaseLost says that a lease has expired and can't be renewed.
var ErrLeaseLost = errors.New("store: the lease has run out")

// Instance is the published row of an instance.
type Instance struct {
	// Lease is a number that no other lease has ever had; later ones are greater.
	Lease int64
	Name  string
	// Address is the address for other instances: host:port.
	Address string
	// Fingerprint is the SHA-256 of its certificate, in hex.
	Fingerprint string
	Version     string
	// Schema is the number of the newest migration that its program knows.
	Schema    int64
	StartedTS int64 // ms of the database's clock
	ExpiresTS int64 // ms of the database's clock
	Draining  bool
	// Position is the position up to which it has read the stream.
	Position Position
	// Head was the head of the stream at the time.
	Head Position
	// Rooms counts its rooms in memory.
	Rooms int64
	// Bus says that it receives the wake-ups of other instances.
	Bus bool
}

// keepInstances is how long expired rows are kept, in ms.
const keepInstances = 24 * 60 * 60 * 1000

const databaseNow = `FLOOR(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint`

var (
	insertInstance = Prepare(`INSERT INTO instances (lease, name, address, fingerprint, version, schema, started_ts, expires_ts)
		SELECT $1, $2, $3, $4, $5, $6, now.ms, now.ms + $7 FROM (SELECT ` + databaseNow + ` AS ms) now`)
	deleteInstances = Prepare(`DELETE FROM instances WHERE expires_ts < ` + databaseNow + ` - $1`)
	// The main query does not see the rows that the first part writes, hence the union.
	renewInstance = Prepare(`WITH now AS MATERIALIZED (SELECT ` + databaseNow + ` AS ms),
		mine AS (UPDATE instances i SET expires_ts = now.ms + $2, draining = $3, position = $4,
				head = GREATEST($4, (SELECT COALESCE(MAX(pos), 0) FROM stream)), rooms = $5, bus = $6
			FROM now WHERE i.lease = $1 AND i.expires_ts > now.ms
			RETURNING i.lease, i.name, i.address, i.fingerprint, i.version, i.schema, i.started_ts, i.expires_ts, i.draining,
				i.position, i.head, i.rooms, i.bus)
		SELECT * FROM mine UNION ALL
		SELECT i.lease, i.name, i.address, i.fingerprint, i.version, i.schema, i.started_ts, i.expires_ts, i.draining,
			i.position, i.head, i.rooms, i.bus
		FROM instances i, now WHERE i.expires_ts > now.ms AND i.lease <> $1`)
	endInstance     = Prepare(`UPDATE instances SET expires_ts = ` + databaseNow + `, draining = 1 WHERE lease = $1`)
	selectInstances = Prepare(`SELECT i.lease, i.name, i.address, i.fingerprint, i.version, i.schema, i.started_ts, i.expires_ts,
			i.draining, i.position, i.head, i.rooms, i.bus, now.ms
		FROM instances i, (SELECT ` + databaseNow + ` AS ms) now WHERE i.expires_ts > now.ms ORDER BY i.lease LIMIT 1000`)
)

func scanInstance(row *Row) (i Instance) {
	row.Scan(&i.Lease, &i.Name, &i.Address, &i.Fingerprint, &i.Version, &i.Schema, &i.StartedTS, &i.ExpiresTS)
	i.Draining = row.Bool()
	i.Position, i.Head = Num[Position](row), Num[Position](row)
	i.Rooms = row.Int()
	i.Bus = row.Bool()
	return i
}

// LiveInstances returns the instances with unexpired leases, and the database's time in
// ms. On SQLite it returns errors.ErrUnsupported, since there is one instance.
func (s *Store) LiveInstances(ctx context.Context) (live []Instance, now int64, err error) {
	if !s.Shared() {
		return nil, 0, errors.ErrUnsupported
	}
	err = s.Read(ctx, func(r *Read) error {
		return QueryEach(r, selectInstances, func(row *Row) error {
			live = append(live, scanInstance(row))
			now = row.Int()
			return nil
		})
	})
	return live, now, err
}

// Leases is the table of instances on a connection of its own, so that a lease can be
// renewed however busy the other connections are.
type Leases struct {
	engine *postgresEngine
	store  *Store

	mu sync.Mutex // guards c, and is held while it is used
	c  *pgConn
}

// Leases opens the table of instances. It connects at the first use. The caller must
// close it. On SQLite it returns errors.ErrUnsupported.
func (s *Store) Leases() (*Leases, error) {
	e, ok := s.engine.(*postgresEngine)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return &Leases{engine: e, store: s}, nil
}

// Take adds a row for an instance and returns its lease.
func (l *Leases) Take(ctx context.Context, i Instance, term time.Duration) (lease int64, err error) {
	err = l.store.Write(ctx, func(tx *Tx) error {
		if _, err := tx.Exec(deleteInstances, keepInstances); err != nil {
			return err
		}
		after, err := tx.reserve("lease", 1)
		if err != nil {
			return err
		}
		lease = after - 1
		_, err = tx.Exec(insertInstance, lease, i.Name, i.Address, i.Fingerprint, i.Version, i.Schema, term.Milliseconds())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("take a lease: %w", err)
	}
	return lease, nil
}

// Renew renews the lease of an instance, updates its row, and returns all live instances,
// in one statement. An expired lease gives ErrLeaseLost, together with the instances.
func (l *Leases) Renew(ctx context.Context, i Instance, term time.Duration) (live []Instance, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.c == nil || l.c.pc.IsClosed() {
		config := l.engine.config.Config.Copy()
		// A renewal has no time to wait for the cancellation of a query.
		config.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
			return &pgconn.DeadlineContextWatcherHandler{Conn: c.Conn()}
		}
		c, err := pgconn.ConnectConfig(ctx, config)
		if l.engine.outage.see(unreachable(err)) != nil {
			return nil, fmt.Errorf("renew the lease: %w", unreachable(err))
		}
		l.c = newPgConn(c)
	}
	l.c.ctx = ctx
	live, err = Query(&Read{ctx: ctx, conn: l.c}, renewInstance, scanInstance,
		i.Lease, term.Milliseconds(), i.Draining, i.Position, i.Rooms, i.Bus)
	if l.engine.outage.see(err) != nil {
		l.drop()
		return nil, fmt.Errorf("renew the lease: %w", err)
	}
	if err := l.store.clock.ask(&Read{ctx: ctx, conn: l.c}); err != nil {
		l.drop()
		return nil, err
	}
	for _, other := range live {
		if other.Lease == i.Lease {
			return live, nil
		}
	}
	return live, ErrLeaseLost
}

// End ends a lease at once.
func (l *Leases) End(ctx context.Context, lease int64) error {
	err := l.store.Write(ctx, func(tx *Tx) error {
		_, err := tx.Exec(endInstance, lease)
		return err
	})
	if err != nil {
		return fmt.Errorf("end the lease: %w", err)
	}
	return nil
}

// Close closes the connection. The leases stay.
func (l *Leases) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop()
}

func (l *Leases) drop() {
	if l.c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := l.c.pc.Close(ctx); err != nil {
		l.engine.opt.Log.Debug("close connection", "err", err)
	}
	l.c = nil
}

// LocalAddress is the address of this machine that reaches the database: loopback if the
// database is on this machine.
func (l *Leases) LocalAddress() (string, error) {
	host := l.engine.config.Host
	if host == "" || strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") {
		return "127.0.0.1", nil
	}
	// This sends nothing: the kernel only chooses a route.
	c, err := net.Dial("udp", net.JoinHostPort(host, strconv.Itoa(int(l.engine.config.Port))))
	if err != nil {
		return "", fmt.Errorf("find the address that reaches the database: %w", err)
	}
	from, _, err := net.SplitHostPort(c.LocalAddr().String())
	return from, errors.Join(err, c.Close())
}
