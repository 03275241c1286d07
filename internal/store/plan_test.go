package store_test

import (
	"regexp"
	"strings"
	"testing"

	_ "stoa/internal/store/readerdb" // its statements are looked at too
	"stoa/internal/store/storetest"
	_ "stoa/internal/store/storetest/tables" // all statements
)

// How many statements there were when this was written, and how many of them have a
// plan (inserts of values have none). With fewer, a test that looks at all of them
// looks past a package: see storetest/tables. Where statements went for good, write
// the lower number.
const (
	statements = 414
	planned    = 341
)

// scans are the statements that may read a whole table or index, and why.
var scans = map[string]string{
	"SELECT COUNT(*) FROM rooms":              "of the check",
	"SELECT COUNT(*) FROM users":              "of the check",
	"SELECT COUNT(*) FROM stream":             "of the check",
	"SELECT name, next FROM numbers":          "a row per name of numbers",
	"FROM signing_keys":                       "a few rows",
	"SELECT name FROM migrations":             "a few rows, read at the start",
	"FROM registration_tokens ORDER BY name":  "an admin's list, with a limit",
	"DELETE FROM login_tokens WHERE user_num": "tokens live for minutes",
	"FROM users WHERE account = 1 LIMIT 1":    "stops at the first",
	"ORDER BY active_ts DESC LIMIT":           "reads the index up to the limit",
	"FROM reader_cursors c ORDER BY":          "1 or 64 rows a reader, of a status",
	"FROM mail_bounces ORDER BY last_ts":      "an admin's list, with a limit",
	"SELECT COUNT(*) FROM mail_bounces":       "of a status",
	"FROM reader_cursors WHERE shard < 0":     "1 or 64 rows a reader, of the check",
	"FROM reader_aside a WHERE NOT EXISTS":    "what failed for good, of the check",
	"FROM reader_aside WHERE (name, shard":    "a list for an operator, with a limit",
	"FROM reader_aside GROUP BY":              "what failed for good, of a status",
	"DELETE FROM reader_aside WHERE aside_ts": "what failed for good, once a day",
	"FROM jobs j GROUP BY":                    "of a status",
	"FROM search_index WHERE":                 "the full-text index looks rows up by number or word itself",
	"FROM ( SELECT message FROM to_device":    "a list with a limit, found by its key",
	"DELETE FROM delayed_events WHERE delay":  "a list of one user, found by its key",
}

var (
	scanOf  = regexp.MustCompile(`^SCAN (\w+)`)
	noTable = regexp.MustCompile(`^(json_each|own|part|v|CONSTANT)$`)
	// a prefix that says nothing: half of the stream
	wideSearch = regexp.MustCompile(`stream_owner \(owner_kind=\?\)$`)
)

// TestPlans: no statement reads a whole table, whatever it is for. (SQLite's
// plans; PostgreSQL has the same indexes.)
func TestPlans(t *testing.T) {
	t.Parallel()
	s := storetest.SQLite(t)
	plans, err := s.Plans(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(plans) < planned {
		t.Errorf("%d statements have a plan, there were %d: is a package missing from storetest/tables?", len(plans), planned)
	}
	for text, plan := range plans {
		text = strings.Join(strings.Fields(text), " ")
		for _, line := range plan {
			scan := scanOf.FindStringSubmatch(line)
			if (scan == nil || noTable.MatchString(scan[1])) && !wideSearch.MatchString(line) {
				continue
			}
			if !allowed(text) {
				t.Errorf("%s\n\t%s\n\tgive it an index, or a reason in scans", text, line)
			}
		}
	}
}

// TestPlans_of_the_state_log: one entry of a state is found by its key, however
// many changes the room has had. (Read from the newest change on, it would cost
// each join of a room more than the one before.)
func TestPlans_of_the_state_log(t *testing.T) {
	t.Parallel()
	s := storetest.SQLite(t)
	plans, err := s.Plans(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for text, plan := range plans {
		if !strings.Contains(text, "FROM state_log WHERE room = $1 AND key = $2") {
			continue
		}
		found++
		if got := strings.Join(plan, "; "); !strings.Contains(got, "COVERING INDEX state_log_key (room=? AND key=?") {
			t.Errorf("%s\n\t%s", text, got)
		}
	}
	if found != 2 {
		t.Errorf("%d statements read one entry of the log, the test knows 2", found)
	}
}

// TestPlans_of_members_with_pushers: what a message costs does not depend on the members without pushers.
func TestPlans_of_members_with_pushers(t *testing.T) {
	t.Parallel()
	s := storetest.SQLite(t)
	plans, err := s.Plans(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for text, plan := range plans {
		if strings.Contains(text, "m.pushes = 1") {
			found = true
			if got := strings.Join(plan, "; "); !strings.Contains(got, "USING INDEX memberships_pushes (room=? AND user_num>?)") {
				t.Errorf("%s\n\t%s", text, got)
			}
		}
	}
	if !found {
		t.Error("no statement reads them")
	}
}

func allowed(text string) bool {
	for part := range scans {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}
