package media_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stoa/internal/media"
	"stoa/internal/server/servertest"
	"stoa/internal/store"
	"stoa/internal/store/mediadb"
	"stoa/internal/store/storetest"
	"stoa/matrix/id"
)

// onServer is a server, its media and the client of one user.
type onServer struct {
	t     *testing.T
	s     *servertest.Server
	media *media.Media // beside the server's, on the same store and folder
	user  string
	token string
	txn   int
}

func eachServer(t *testing.T, f func(*onServer), settings ...string) {
	t.Helper()
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "media")
	servertest.Each(t, func(t *testing.T, s *servertest.Server) {
		server, err := id.ParseServerName(storetest.ServerName)
		if err != nil {
			t.Fatal(err)
		}
		o := &onServer{t: t, s: s}
		o.media, err = media.New(media.Options{Store: s.Store, ServerName: server, Folder: folder, MaxUpload: 1 << 20, ThumbnailMemory: 64 << 20})
		if err != nil {
			t.Fatal(err)
		}
		f(o.register("anna"))
	}, append(settings, "STOA_MEDIA_FOLDER="+folder)...)
}

func (o *onServer) register(name string) *onServer {
	o.t.Helper()
	as := *o
	a := as.do("POST", "/_matrix/client/v3/register", map[string]any{"username": name, "password": "pw of it", "auth": map[string]any{"type": "m.login.dummy"}})
	as.token, _ = a["access_token"].(string)
	as.user, _ = a["user_id"].(string)
	return &as
}

func (o *onServer) try(method, path string, body any) (int, map[string]any) {
	o.t.Helper()
	text, isText := body.(string)
	if !isText && body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			o.t.Fatal(err)
		}
		text = string(b)
	}
	r := httptest.NewRequest(method, path, strings.NewReader(text))
	if o.token != "" {
		r.Header.Set("Authorization", "Bearer "+o.token)
	}
	w := httptest.NewRecorder()
	o.s.Handler.ServeHTTP(w, r)
	var answer map[string]any
	if bytes.HasPrefix(w.Body.Bytes(), []byte("{")) {
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			o.t.Fatalf("%s: %v", w.Body, err)
		}
	}
	return w.Code, answer
}

func (o *onServer) do(method, path string, body any) map[string]any {
	o.t.Helper()
	status, answer := o.try(method, path, body)
	if status != http.StatusOK {
		o.t.Fatalf("%s %s answers %d %v", method, path, status, answer)
	}
	return answer
}

func (o *onServer) upload(content string) string {
	o.t.Helper()
	uri, _ := o.do("POST", "/_matrix/media/v3/upload", content)["content_uri"].(string)
	return uri
}

func (o *onServer) room(body any) string {
	o.t.Helper()
	roomID, _ := o.do("POST", "/_matrix/client/v3/createRoom", body)["room_id"].(string)
	return url.PathEscape(roomID)
}

func (o *onServer) send(room, eventType string, content any) string {
	o.t.Helper()
	o.txn++
	eventID, _ := o.do("PUT", "/_matrix/client/v3/rooms/"+room+"/send/"+eventType+"/"+string(rune('a'+o.txn)), content)["event_id"].(string)
	return url.PathEscape(eventID)
}

func (o *onServer) redact(room, eventID string) {
	o.t.Helper()
	o.txn++
	o.do("PUT", "/_matrix/client/v3/rooms/"+room+"/redact/"+eventID+"/"+string(rune('a'+o.txn)), "{}")
}

// status is that of a download.
func (o *onServer) status(uri string) int {
	o.t.Helper()
	status, _ := o.try("GET", "/_matrix/client/v1/media/download/"+strings.TrimPrefix(uri, "mxc://"), nil)
	return status
}

func (o *onServer) sweep() {
	o.t.Helper()
	if err := o.media.Sweep(o.t.Context()); err != nil {
		o.t.Fatal(err)
	}
}

// want sweeps with no grace and says which media are there.
func (o *onServer) want(there bool, uris ...string) {
	o.t.Helper()
	o.media.SetNamedGrace(-time.Second)
	o.sweep()
	want := http.StatusNotFound
	if there {
		want = http.StatusOK
	}
	for _, uri := range uris {
		if got := o.status(uri); got != want {
			o.t.Errorf("%s answers %d, want %d", uri, got, want)
		}
	}
}

type object = map[string]any

func TestMedia_goes_with_the_last_event_that_names_it(t *testing.T) {
	eachServer(t, func(o *onServer) {
		room := o.room(object{})
		file, small, twice, never := o.upload("file"), o.upload("small"), o.upload("twice"), o.upload("never named")
		picture := o.send(room, "m.room.message", object{
			"msgtype": "m.image", "body": "a picture", "url": file, "info": object{"thumbnail_url": small},
		})
		first := o.send(room, "m.sticker", object{"body": "x", "url": twice, "info": object{}})
		second := o.send(room, "m.room.message", object{"msgtype": "m.text", "body": "x", "format": "org.matrix.custom.html", "formatted_body": "<img src=\"" + twice + "\">"})
		o.send(room, "m.room.encrypted", object{"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "abc"})
		o.want(true, file, small, twice, never)
		o.redact(room, picture)
		o.redact(room, first)
		o.media.SetNamedGrace(time.Hour)
		o.sweep()
		for _, uri := range []string{file, small} {
			if o.status(uri) != http.StatusOK {
				o.t.Errorf("%s went before its time", uri)
			}
		}
		o.want(false, file, small)
		o.want(true, twice, never)
		o.redact(room, second)
		again := o.send(room, "m.room.message", object{"msgtype": "m.image", "body": "x", "url": twice})
		o.want(true, twice) // named again within the grace
		o.redact(room, again)
		o.want(false, twice)
		o.want(true, never)
	})
}

func TestMedia_of_profiles_rooms_and_account_data_stays_while_it_is_named(t *testing.T) {
	eachServer(t, func(o *onServer) {
		profile := "/_matrix/client/v3/profile/" + url.PathEscape(o.user) + "/avatar_url"
		first, second, picture, sticker, other := o.upload("first"), o.upload("second"), o.upload("picture"), o.upload("sticker"), o.upload("other")
		o.do("PUT", profile, object{"avatar_url": first})
		o.room(object{"initial_state": []object{{"type": "m.room.avatar", "content": object{"url": picture}}}})
		o.want(true, first, picture)
		o.do("PUT", profile, object{"avatar_url": second}) // member events of the past name the first
		o.want(true, first, second)

		account := "/_matrix/client/v3/user/" + url.PathEscape(o.user) + "/account_data/im.ponies.user_emotes"
		o.do("PUT", account, `{"images":{"a":{"url":"`+strings.ReplaceAll(sticker, "/", `\/`)+`"},"b":{"url":"`+other+`"}}}`)
		o.want(true, sticker, other)
		o.do("PUT", account, object{"images": object{"b": object{"url": other}}})
		o.want(false, sticker)
		o.want(true, other)

		ben := o.register("ben")
		third := ben.upload("of a profile only")
		field := "/_matrix/client/v3/profile/" + url.PathEscape(ben.user) + "/avatar_url"
		ben.do("PUT", field, object{"avatar_url": third})
		o.want(true, third)
		ben.do("DELETE", field, nil)
		o.want(false, third)

		fourth := ben.upload("of a profile that goes")
		ben.do("PUT", field, object{"avatar_url": fourth})
		ben.do("POST", "/_matrix/client/v3/account/deactivate", object{"erase": true, "auth": object{"type": "m.login.password", "user": ben.user, "password": "pw of it"}})
		o.want(false, fourth)
		o.want(true, picture, other)
	})
}

// What a message costs does not change because media is recorded.
func TestNames_cost_one_statement_and_only_where_there_are_some(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]int{
		`{"body":"hello"}`:                     0,
		`{"url":"mxc://elsewhere.test/abc"}`:   0,
		`{"url":"mxc://stoa.test/"}`:           0,
		`{"url":"mxc://stoa.test/abc"}`:        1,
		`{"algorithm":"x","ciphertext":"mxc"}`: 0,
		`{"a":"mxc://stoa.test/abc","b":["mxc://stoa.test/d","mxc:\/\/stoa.test\/e"]}`: 1,
		`{"a":"` + strings.Repeat("mxc://stoa.test/abc ", 5000) + `"}`:                 1,
	} {
		c := store.NewChange()
		mediadb.AddNames(c, storetest.ServerName, mediadb.EventSource(1, 2), []byte(content))
		if c.Writes() != want {
			t.Errorf("%.100s: %d statements", content, c.Writes())
		}
	}
}
