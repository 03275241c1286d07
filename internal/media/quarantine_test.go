package media_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"stoa/internal/media"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

func (o *onServer) quarantine(s media.Selection, on bool, want int) {
	o.t.Helper()
	if n, err := o.media.Quarantine(o.t.Context(), s, on); err != nil || n != want {
		o.t.Errorf("%d contents changed, %v; want %d", n, err, want)
	}
}

func (o *onServer) selectURI(uri string) media.Selection {
	o.t.Helper()
	origin, mediaID, _ := strings.Cut(strings.TrimPrefix(uri, "mxc://"), "/")
	parsed, err := media.ParseURI(origin, mediaID)
	if err != nil {
		o.t.Fatal(err)
	}
	return media.Selection{URI: parsed}
}

func (o *onServer) selectUser() media.Selection {
	o.t.Helper()
	user, err := id.ParseUserID(o.user)
	if err != nil {
		o.t.Fatal(err)
	}
	return media.Selection{User: user}
}

func (o *onServer) selectRoom(escaped string) media.Selection {
	o.t.Helper()
	text, err := url.PathUnescape(escaped)
	if err != nil {
		o.t.Fatal(err)
	}
	roomID, err := id.ParseRoomID(text)
	if err != nil {
		o.t.Fatal(err)
	}
	return media.Selection{Room: roomID}
}

// list gives all addresses, page by page.
func (o *onServer) list(s media.Selection) (uris []string) {
	o.t.Helper()
	var at media.At
	for {
		page, next, err := o.media.List(o.t.Context(), s, at, 2)
		if err != nil {
			o.t.Fatal(err)
		}
		for _, l := range page {
			uris = append(uris, l.URI.String())
		}
		if at = next; at == (media.At{}) {
			return uris
		}
	}
}

func (o *onServer) wantStatus(want int, uris ...string) {
	o.t.Helper()
	for _, uri := range uris {
		if got := o.status(uri); got != want {
			o.t.Errorf("%s answers %d, want %d", uri, got, want)
		}
	}
}

func TestQuarantined_media_is_not_served_and_kept(t *testing.T) {
	eachServer(t, func(o *onServer) {
		ben := o.register("ben")
		bad, other := o.upload("bad"), o.upload("other")
		same := ben.upload("bad")
		o.quarantine(o.selectURI(bad), true, 1)
		o.quarantine(o.selectURI(bad), true, 0)
		o.wantStatus(http.StatusNotFound, bad, same, ben.upload("bad"))
		o.wantStatus(http.StatusOK, other)
		small, _ := o.try("GET", "/_matrix/client/v1/media/thumbnail/"+strings.TrimPrefix(bad, "mxc://")+"?width=32&height=32", nil)
		old, _ := o.try("GET", "/_matrix/media/v3/download/"+strings.TrimPrefix(bad, "mxc://"), nil)
		if small != http.StatusNotFound || old != http.StatusNotFound {
			o.t.Errorf("a thumbnail answers %d, the old address %d", small, old)
		}
		if got := o.list(media.Selection{Quarantined: true}); len(got) != 3 {
			o.t.Errorf("in quarantine are %v", got)
		}
		o.quarantine(o.selectURI(bad), false, 1)
		o.wantStatus(http.StatusOK, bad, same)

		// What the sweep deletes otherwise is kept.
		room := o.room(object{})
		event := o.send(room, "m.room.message", object{"msgtype": "m.file", "body": "x", "url": other})
		o.quarantine(o.selectURI(other), true, 1)
		o.redact(room, event)
		o.media.SetNamedGrace(-time.Second)
		o.media.SetGrace(-time.Second)
		o.sweep()
		o.quarantine(o.selectURI(other), false, 1)
		o.wantStatus(http.StatusOK, other)
		o.sweep()
		o.wantStatus(http.StatusNotFound, other)
		if _, err := o.media.Quarantine(o.t.Context(), o.selectURI(other), true); !mxerr.Is(err, mxerr.CodeNotFound) {
			o.t.Errorf("what is not there is quarantined: %v", err)
		}
	})
}

func TestQuarantine_and_list_of_a_user_and_of_a_room(t *testing.T) {
	eachServer(t, func(o *onServer) {
		ben := o.register("ben")
		var mine []string
		for i := range 5 {
			mine = append(mine, o.upload(fmt.Sprint("file ", i)))
		}
		his := ben.upload("his")
		room, elsewhere := o.room(object{}), o.room(object{})
		for _, uri := range []string{mine[0], his, mine[1], mine[0]} {
			o.send(room, "m.room.message", object{"msgtype": "m.file", "body": "x", "url": uri})
		}
		o.send(elsewhere, "m.room.message", object{"msgtype": "m.file", "body": "x", "url": mine[2]})

		if got := o.list(o.selectUser()); len(got) != 5 || got[0] == his {
			o.t.Errorf("the uploads of a user are %v", got)
		}
		got := o.list(o.selectRoom(room))
		seen := map[string]bool{}
		for _, uri := range got {
			seen[uri] = true
		}
		if len(seen) != 3 || !seen[his] || seen[mine[2]] || got[0] != mine[0] {
			o.t.Errorf("the room names %v", got)
		}
		o.quarantine(o.selectRoom(room), true, 3)
		o.wantStatus(http.StatusNotFound, mine[0], mine[1], his)
		o.wantStatus(http.StatusOK, mine[2:]...)
		o.quarantine(o.selectUser(), true, 3)
		o.wantStatus(http.StatusNotFound, mine...)
		o.quarantine(o.selectUser(), false, 5)
		o.wantStatus(http.StatusOK, mine...)
		o.wantStatus(http.StatusNotFound, his)
		o.quarantine(o.selectRoom(room), false, 1)
		o.wantStatus(http.StatusOK, his)
		nobody := o.selectUser()
		nobody.User, _ = id.ParseUserID("@nobody:stoa.test")
		if _, _, err := o.media.List(o.t.Context(), nobody, media.At{}, 10); !mxerr.Is(err, mxerr.CodeNotFound) {
			o.t.Errorf("the uploads of nobody: %v", err)
		}
	})
}
