package ops

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// post sends a request to a running server and returns a field of its answer.
func post(t *testing.T, srv *running, path, token, body, field string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer map[string]any
	if err := json.Unmarshal(text, &answer); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s answers %d %s", path, res.StatusCode, text)
	}
	value, _ := answer[field].(string)
	return value
}

func TestMediaCommands(t *testing.T) {
	t.Parallel()
	srv := start(t, "STOA_REGISTRATION=open")
	token := post(t, srv, "/_matrix/client/v3/register", "", `{"username":"anna","password":"correct horse","auth":{"type":"m.login.dummy"}}`, "access_token")
	if text := printed(t, srv, "media", "list", "--user", "anna"); !strings.Contains(text, "There are none") {
		t.Error(text)
	}
	uri := post(t, srv, "/_matrix/media/v3/upload?filename=a.txt", token, "hello", "content_uri")
	if text := printed(t, srv, "media", "list", "--user", "anna"); !strings.Contains(text, uri) || !strings.Contains(text, `"a.txt"`) || strings.Contains(text, "quarantined") {
		t.Error(text)
	}
	if text := printed(t, srv, "media", "quarantine", uri); !strings.Contains(text, "Quarantined 1 file") {
		t.Error(text)
	}
	if text := printed(t, srv, "media", "list", "--quarantined"); !strings.Contains(text, uri) || !strings.Contains(text, "quarantined") {
		t.Error(text)
	}
	if text := printed(t, srv, "media", "release", "--user", "@anna:stoa.test"); !strings.Contains(text, "Released 1 file") {
		t.Error(text)
	}
	room := post(t, srv, "/_matrix/client/v3/createRoom", token, `{"initial_state":[{"type":"m.room.avatar","content":{"url":"`+uri+`"}}]}`, "room_id")
	if text := printed(t, srv, "media", "list", "--room", room); !strings.Contains(text, uri) {
		t.Error(text)
	}
	for _, args := range [][]string{
		{"list"}, {"list", "--user", "a", "--quarantined"}, {"list", "--user", "nobody"}, {"list", "--room", "x"}, {"quarantine"}, {"quarantine", "x"},
		{"quarantine", "mxc://stoa.test/none"}, {"quarantine", uri, "--user", "anna"}, {"release", "--user", "anna", "--room", room},
	} {
		if status, _, stderr := run(srv.environ, "", append([]string{"media"}, args...)...); status == 0 || stderr == "" {
			t.Errorf("stoa media %s: %d %s", strings.Join(args, " "), status, stderr)
		}
	}
}
