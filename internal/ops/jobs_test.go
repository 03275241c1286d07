package ops

import (
	"errors"
	"strings"
	"testing"
	"time"

	"stoa/internal/reader"
	"stoa/internal/store"
	"stoa/internal/store/readerdb"
	"stoa/internal/store/storetest"
)

// Any instance lists rows and jobs that were set aside, and retries or discards them by
// name.
func TestJobs_shows_what_was_set_aside(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t, "postgres")
	srv := start(t, "STOA_DATABASE="+url)
	if text := printed(t, srv, "jobs", "list"); !strings.Contains(text, "Nothing was set aside") {
		t.Error(text)
	}
	s := storetest.OpenURL(t, url)
	c := store.NewChange()
	for _, key := range []string{"@a:stoa.test", "b \n c"} { // of a kind that the server does not know
		if err := reader.Enqueue(c, reader.Job{Kind: "other", Key: key, Unique: true}); err != nil {
			t.Fatal(err)
		}
		claimed := readerdb.Claim{JobID: readerdb.JobID{Kind: "other", Key: key}, Version: 1}
		readerdb.SetJobAside(c, claimed, "it is burning\nin line 2", errors.New("gone"))
	}
	readerdb.AddAside(c, readerdb.Aside{Name: "push", Shard: 3, Row: store.StreamRow{Pos: 17, OwnerKind: store.OwnerUser, Owner: 1}, Error: "no"})
	if _, err := s.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	text := printed(t, srv, "jobs", "list")
	for _, want := range []string{`"@a:stoa.test"`, `"b \n c"`, "it is burning", "push/3", "17"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if text := printed(t, srv, "cluster", "status"); !strings.Contains(text, "other") || !strings.Contains(text, "room.redacted") {
		t.Error(text)
	}
	printed(t, srv, "jobs", "retry", "other", "@a:stoa.test")
	printed(t, srv, "jobs", "discard", "push/3", "17")
	text = printed(t, srv, "jobs", "list")
	if strings.Contains(text, "@a:stoa.test") || strings.Contains(text, "push/3") {
		t.Error(text)
	}
	for _, args := range [][]string{{"jobs", "retry", "other", "nothing"}, {"jobs", "retry"}, {"jobs", "discard", "push/x", "1"}, {"jobs", "discard", "--all", "a", "b"}} {
		if status, _, stderr := run(srv.environ, "", args...); status == 0 || stderr == "" {
			t.Errorf("stoa %s: %d %s", strings.Join(args, " "), status, stderr)
		}
	}
	printed(t, srv, "jobs", "discard", "--all")
	if text := printed(t, srv, "jobs", "list"); !strings.Contains(text, "Nothing was set aside") {
		t.Error(text)
	}
}

func TestOwners(t *testing.T) {
	t.Parallel()
	names := map[int64]string{7: "one", 9: "two"}
	if got := owners(map[int64]int{7: 30, 9: 33, 5: 1}, names); got != "nobody: 1, one: 30, two: 33" {
		t.Error(got)
	}
	if got := owners(map[int64]int{-time.Now().Unix(): 1}, nil); got != "this instance: 1" {
		t.Error(got)
	}
}
