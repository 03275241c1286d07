// Tables sliding_connections and sliding_states. Written by package slidingsync.

package slidingdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stoa/internal/store"
)

// ErrEnded says that a connection is there no longer: its device has begun another, has too many, or was deleted.
var ErrEnded = errors.New("store: the connection has ended")

// Connection names a connection of a device.
type Connection struct {
	User     store.UserNum
	DeviceID string
	// Conn is its number, which is never used again.
	Conn int64
}

// State is a row of the table sliding_states.
type State struct {
	Gen, Nonce int64
	Whole      bool
	Data       []byte
}

var (
	upsertConnection = store.Prepare(`INSERT INTO sliding_connections (user_num, device_id, conn_id, conn, used_ts)
		SELECT user_num, device_id, $3, $4, {{now}} FROM devices WHERE user_num = $1 AND device_id = $2
		ON CONFLICT (user_num, device_id, conn_id) DO UPDATE SET conn = excluded.conn, used_ts = excluded.used_ts`)
	trimConnections = store.Prepare(`DELETE FROM sliding_connections WHERE user_num = $1 AND device_id = $2 AND conn_id NOT IN (
		SELECT conn_id FROM sliding_connections WHERE user_num = $1 AND device_id = $2 ORDER BY used_ts DESC, conn = $3 DESC LIMIT $4)`)
	trimStates = store.Prepare(`DELETE FROM sliding_states WHERE user_num = $1 AND device_id = $2 AND conn NOT IN (
		SELECT conn FROM sliding_connections WHERE user_num = $1 AND device_id = $2)`)
	useConnection = store.Prepare(`UPDATE sliding_connections SET used_ts = {{now}} WHERE user_num = $1 AND device_id = $2 AND conn = $3`)
	insertState   = store.Prepare(`INSERT INTO sliding_states (user_num, device_id, conn, gen, nonce, whole, data) VALUES ($1, $2, $3, $4, $5, $6, $7)`)
	dropStates    = store.Prepare(`DELETE FROM sliding_states WHERE user_num = $1 AND device_id = $2 AND conn = $3 AND (gen < $4 OR gen >= $5)`)
	selectStates  = store.Prepare(`SELECT gen, nonce, whole, data FROM sliding_states
		WHERE user_num = $1 AND device_id = $2 AND conn = $3 AND gen <= $4 ORDER BY gen LIMIT $5`)
	selectUsed = store.Prepare(`SELECT {{now}} - used_ts FROM sliding_connections WHERE user_num = $1 AND device_id = $2 AND conn = $3`)

	selectUnused = store.Prepare(`SELECT user_num, device_id, conn FROM sliding_connections WHERE used_ts < {{now}} - $1 ORDER BY used_ts LIMIT $2`)
	deleteUnused = store.Prepare(`DELETE FROM sliding_connections WHERE user_num = $1 AND device_id = $2 AND conn = $3 AND used_ts < {{now}} - $4`)

	deleteConnectionsOfDevice = store.Prepare(`DELETE FROM sliding_connections WHERE user_num = $1 AND device_id = $2`)
	deleteStatesOfDevice      = store.Prepare(`DELETE FROM sliding_states WHERE user_num = $1 AND device_id = $2`)
	deleteConnectionsOfUser   = store.Prepare(`DELETE FROM sliding_connections WHERE user_num = $1`)
	deleteStatesOfUser        = store.Prepare(`DELETE FROM sliding_states WHERE user_num = $1`)
)

// statesLimit bounds the rows of one connection that are read. Its writer keeps fewer.
const statesLimit = 1000

// Begin begins a connection with its first state, in the place of another with its conn_id. Of a device's connections only those used
// last are kept, at most limit. The change fails with ErrEnded if the device has gone.
func Begin(c *store.Change, of Connection, connID string, limit int, first State) {
	c.ExecOne(upsertConnection, ErrEnded, of.User, of.DeviceID, connID, of.Conn)
	c.Exec(trimConnections, of.User, of.DeviceID, of.Conn, limit)
	c.Exec(trimStates, of.User, of.DeviceID)
	c.Exec(insertState, of.User, of.DeviceID, of.Conn, first.Gen, first.Nonce, first.Whole, first.Data)
}

// AddState adds a state to a connection, in the place of other attempts at its gen or later. States before the gen from are dropped.
// The change fails with ErrEnded if the connection has ended.
func AddState(c *store.Change, of Connection, s State, from int64) {
	c.ExecOne(useConnection, ErrEnded, of.User, of.DeviceID, of.Conn)
	c.Exec(dropStates, of.User, of.DeviceID, of.Conn, from, s.Gen)
	c.Exec(insertState, of.User, of.DeviceID, of.Conn, s.Gen, s.Nonce, s.Whole, s.Data)
}

// Use notes that a connection is in use.
func Use(c *store.Change, of Connection) { c.Exec(useConnection, of.User, of.DeviceID, of.Conn) }

// States returns the states of a connection up to a gen, oldest first, and for how long it has not been noted as used.
// ErrNotFound if it has ended.
func States(r *store.Read, of Connection, gen int64) (states []State, unused time.Duration, err error) {
	ms, err := store.QueryOne(r, selectUsed, (*store.Row).Int, of.User, of.DeviceID, of.Conn)
	if err != nil {
		return nil, 0, err
	}
	states, err = store.Query(r, selectStates, func(row *store.Row) (s State) {
		row.Scan(&s.Gen, &s.Nonce, &s.Whole)
		s.Data = append([]byte(nil), row.Bytes()...)
		return s
	}, of.User, of.DeviceID, of.Conn, gen, statesLimit)
	return states, time.Duration(ms) * time.Millisecond, err
}

// expirePiece is how many connections one change deletes.
const expirePiece = 200

// Expire deletes the connections that were not used for a time.
func Expire(ctx context.Context, s *store.Store, after time.Duration) error {
	for {
		var old []Connection
		err := s.Read(ctx, func(r *store.Read) (err error) {
			old, err = store.Query(r, selectUnused, func(row *store.Row) (c Connection) {
				row.Scan(&c.User, &c.DeviceID, &c.Conn)
				return c
			}, after.Milliseconds(), expirePiece)
			return err
		})
		if err != nil || len(old) == 0 {
			return err
		}
		c := store.NewChange()
		c.LowPriority = true
		for _, of := range old {
			c.Exec(deleteUnused, of.User, of.DeviceID, of.Conn, after.Milliseconds())
			c.Exec(trimStates, of.User, of.DeviceID)
		}
		if _, err := s.Commit(ctx, c); err != nil {
			return fmt.Errorf("delete unused connections: %w", err)
		}
		if len(old) < expirePiece {
			return nil
		}
	}
}

// DeleteOfDevice deletes the connections of a device. It is part of deleting the device.
func DeleteOfDevice(c *store.Change, user store.UserNum, deviceID string) {
	c.Exec(deleteConnectionsOfDevice, user, deviceID)
	c.Exec(deleteStatesOfDevice, user, deviceID)
}

// DeleteOfUser deletes the connections of a deactivated account.
func DeleteOfUser(c *store.Change, user store.UserNum) {
	c.Exec(deleteConnectionsOfUser, user)
	c.Exec(deleteStatesOfUser, user)
}
