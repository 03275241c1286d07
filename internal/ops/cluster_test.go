package ops

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"stoa/internal/cluster"
	"stoa/internal/store/storetest"
)

func TestClusterStatus_lists_the_instances_on_one_database(t *testing.T) {
	t.Parallel()
	database := "STOA_DATABASE=" + storetest.URL(t, "postgres")
	a := start(t, database, "STOA_INSTANCE=a")
	b := start(t, database, "STOA_INSTANCE=b")
	var status cluster.Status
	if err := json.Unmarshal([]byte(printed(t, a, "cluster", "status", "--json")), &status); err != nil {
		t.Fatal(err)
	}
	if !status.Shared || len(status.Instances) != 2 || status.Instances[0].Name != "a" || status.Instances[1].Name != "b" {
		t.Errorf("%+v", status)
	}
	if text := printed(t, b, "cluster", "status"); !strings.Contains(text, "\na ") || !strings.Contains(text, "\nb ") || !strings.Contains(text, "serving") {
		t.Errorf("the table is\n%s", text)
	}
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	status = cluster.Status{}
	if err := json.Unmarshal([]byte(printed(t, a, "cluster", "status", "--json")), &status); err != nil {
		t.Fatal(err)
	}
	if len(status.Instances) != 1 {
		t.Errorf("an instance that has stopped is listed: %+v", status)
	}
}

func TestClusterStatus_says_that_SQLite_has_one_instance(t *testing.T) {
	t.Parallel()
	a := start(t)
	if text := printed(t, a, "cluster", "status"); !strings.Contains(text, "SQLite") {
		t.Error(text)
	}
}

// TestInstances_serve_for_each_other: the room's home writes, whichever instance gets the
// request.
func TestInstances_serve_for_each_other(t *testing.T) {
	t.Parallel()
	settings := []string{"STOA_DATABASE=" + storetest.URL(t, "postgres"), "STOA_REGISTRATION=open", "STOA_RATE_LIMITS=off"}
	a := start(t, append(settings, "STOA_INSTANCE=a")...)
	b := start(t, append(settings, "STOA_INSTANCE=b")...)
	var account struct {
		AccessToken string `json:"access_token"`
	}
	ask(t, "POST", a.url+"/_matrix/client/v3/register", "", `{"username":"u","password":"correct horse battery","auth":{"type":"m.login.dummy"}}`, &account)
	var room struct {
		RoomID string `json:"room_id"`
	}
	ask(t, "POST", a.url+"/_matrix/client/v3/createRoom", account.AccessToken, `{}`, &room)
	end := time.Now().Add(10 * time.Second)
	for n := 0; ; n++ {
		path := "/_matrix/client/v3/rooms/" + room.RoomID + "/send/m.room.message/"
		one := ask(t, "PUT", fmt.Sprint(a.url, path, "a", n), account.AccessToken, `{"body":"x"}`, nil)
		two := ask(t, "PUT", fmt.Sprint(b.url, path, "b", n), account.AccessToken, `{"body":"x"}`, nil)
		if one.Get("X-Stoa-Instance") != "a" || two.Get("X-Stoa-Instance") != "b" {
			t.Fatalf("served by %s and %s", one.Get("X-Stoa-Instance"), two.Get("X-Stoa-Instance"))
		}
		// They see each other after a moment.
		if one.Get("X-Stoa-Home") == two.Get("X-Stoa-Home") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the homes are %s and %s", one.Get("X-Stoa-Home"), two.Get("X-Stoa-Home"))
		}
	}
}

// printed is the output of a command beside a server.
func printed(t *testing.T, srv *running, args ...string) string {
	t.Helper()
	status, out, stderr := run(srv.environ, "", args...)
	if status != 0 {
		t.Fatalf("stoa %s: %s", strings.Join(args, " "), stderr)
	}
	return out
}

// ask sends a request that must succeed, and returns the headers of its answer.
func ask(t *testing.T, method, url, token, body string, answer any) http.Header {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s %s, %v", method, url, res.Status, text, err)
	}
	if answer != nil {
		if err := json.Unmarshal(text, answer); err != nil {
			t.Fatal(err)
		}
	}
	return res.Header
}
