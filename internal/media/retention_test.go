package media_test

import (
	"net/http"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"stoa/internal/media"
	"stoa/internal/store"
	"stoa/internal/store/mediadb"
)

const testDay = 24 * time.Hour

var backdate = store.Prepare(`UPDATE media SET created_ts = created_ts - $1, read_ts = CASE WHEN read_ts > 0 THEN read_ts - $1 ELSE 0 END`)

// passDays makes all media older.
func (o *onServer) passDays(n int) {
	o.t.Helper()
	c := store.NewChange()
	c.Exec(backdate, int64(n)*testDay.Milliseconds())
	if _, err := o.s.Store.Commit(o.t.Context(), c); err != nil {
		o.t.Fatal(err)
	}
}

// retain deletes what a retention of local media does.
func (o *onServer) retain(keep media.Retention) {
	o.t.Helper()
	m, err := media.New(media.Options{
		Store: o.s.Store, ServerName: o.selectUser().User.ServerName(), Folder: filepath.Join(o.t.TempDir(), "other"),
		MaxUpload: 1, ThumbnailMemory: 1, Retention: map[mediadb.Class]media.Retention{mediadb.ClassLocal: keep},
	})
	if err != nil {
		o.t.Fatal(err)
	}
	if err := m.Retain(o.t.Context()); err != nil {
		o.t.Fatal(err)
	}
}

// read downloads, and has it recorded.
func (o *onServer) read(uri string) {
	o.t.Helper()
	file, err := o.media.Open(o.t.Context(), o.selectURI(uri).URI, 0)
	if err == nil {
		err = file.Close()
	}
	if err == nil {
		err = o.media.WriteReads(o.t.Context())
	}
	if err != nil {
		o.t.Fatal(err)
	}
}

func TestRetention_by_age_and_by_last_download(t *testing.T) {
	eachServer(t, func(o *onServer) {
		old, read := o.upload("old"), o.upload("read")
		o.passDays(6)
		o.read(read)
		o.passDays(5)
		young := o.upload("young")
		o.retain(media.Retention{})
		o.wantStatus(http.StatusOK, young) // the others would count as downloaded
		o.retain(media.Retention{Age: 12 * testDay, Unused: 11*testDay + time.Hour})
		if got := o.list(o.selectUser()); len(got) != 3 {
			o.t.Errorf("before their time, %v are left", got)
		}
		o.retain(media.Retention{Unused: 10 * testDay})
		if got := o.list(o.selectUser()); len(got) != 2 || got[0] != young || got[1] != read {
			o.t.Errorf("of %s, %s, %s, there are %v", old, read, young, got)
		}
		o.retain(media.Retention{Age: 10 * testDay})
		if got := o.list(o.selectUser()); len(got) != 1 || got[0] != young {
			o.t.Errorf("then there are %v", got)
		}
		o.wantStatus(http.StatusNotFound, old, read)
	})
}

func TestRetention_keeps_what_is_shown_and_what_is_quarantined(t *testing.T) {
	eachServer(t, func(o *onServer) {
		avatar, picture, sent, bad := o.upload("avatar"), o.upload("picture"), o.upload("sent"), o.upload("bad")
		o.do("PUT", "/_matrix/client/v3/profile/"+url.PathEscape(o.user)+"/avatar_url", object{"avatar_url": avatar})
		room := o.room(object{"initial_state": []object{{"type": "m.room.avatar", "content": object{"url": picture}}}})
		o.send(room, "m.room.message", object{"msgtype": "m.file", "body": "x", "url": sent})
		o.quarantine(o.selectURI(bad), true, 1)
		for range 101 { // more than one page, which the kept ones begin
			o.upload("more")
		}
		o.passDays(10)
		o.retain(media.Retention{Age: testDay})
		if got := o.list(o.selectUser()); len(got) != 3 {
			o.t.Errorf("%v are left", got)
		}
		o.quarantine(o.selectURI(bad), false, 1)
		o.wantStatus(http.StatusOK, avatar, picture, bad)
		o.wantStatus(http.StatusNotFound, sent)
	})
}
