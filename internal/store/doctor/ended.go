// Checks that nothing is left of deleted devices and deactivated accounts.

package doctor

import (
	"strings"

	"stoa/internal/store"
)

var (
	// orphans are rows of a device that does not exist.
	orphans = eachTable(`SELECT DISTINCT u.user_id, t.device_id FROM users u JOIN TABLE t ON t.user_num = u.num
		WHERE u.num > $1 AND u.num <= $2
		AND NOT EXISTS (SELECT 1 FROM devices d WHERE d.user_num = t.user_num AND d.device_id = t.device_id) LIMIT $3`,
		"access_tokens", "refresh_tokens", "openid_tokens", "device_keys", "one_time_keys", "fallback_keys", "to_device", "dehydrated_devices", "sliding_connections", "sliding_states")
	// leftovers are deactivated accounts with rows in a table that should have none.
	leftovers = eachTable(`SELECT u.user_id, '' FROM users u WHERE u.num > $1 AND u.num <= $2 AND u.deactivated = 1
		AND EXISTS (SELECT 1 FROM TABLE t WHERE t.user_num = u.num) LIMIT $3`,
		"devices", "cross_signing_keys", "key_signatures", "key_backup_sessions", "login_tokens", "openid_tokens", "delayed_events", "account_data", "filters", "presence", "people_words", "dehydrated_devices")
	// members are deactivated accounts that are in a room, or knock, without a job that
	// leaves it.
	members = eachTable(`SELECT u.user_id, '' FROM users u WHERE u.num > $1 AND u.num <= $2 AND u.deactivated = 1
		AND EXISTS (SELECT 1 FROM TABLE m WHERE m.user_num = u.num AND m.membership IN (1, 5))
		AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.kind = 'room.leave_all' AND j.key = u.user_id) LIMIT $3`, "memberships")
)

// eachTable prepares a query for each of some tables.
func eachTable(query string, tables ...string) map[string]*store.Stmt {
	all := make(map[string]*store.Stmt, len(tables))
	for _, table := range tables {
		all[table] = store.Prepare(strings.Replace(query, "TABLE", table, 1))
	}
	return all
}

// ended looks for rows of deleted devices and deactivated accounts, among the users after
// one number up to another.
func (c *checker) ended(r *store.Read, after, upTo store.UserNum) error {
	for _, tables := range []map[string]*store.Stmt{orphans, leftovers, members} {
		for table, stmt := range tables {
			type row struct{ user, device string }
			rows, err := store.Query(r, stmt, func(s *store.Row) row { return row{s.Text(), s.Text()} }, after, upTo, findingsPerCheck)
			if err != nil {
				return err
			}
			for _, f := range rows {
				finding := Finding{Check: "ended-account", User: f.user, Detail: "the account is deactivated and has rows in " + table}
				if f.device != "" {
					finding = Finding{Check: "ended-device", User: f.user, Detail: "the device " + f.device + " is not there and has rows in " + table}
				}
				if err := c.found(finding); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
