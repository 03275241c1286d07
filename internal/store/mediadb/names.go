// Table media_names. Written by packages room, account and userdata beside what names media, and by package media.

package mediadb

import (
	"bytes"
	"errors"

	"stoa/internal/store"
)

// maxNames bounds the media IDs that are recorded of one source. An event of 64 KiB has room for fewer real ones.
const maxNames = 1000

// maxMediaID bounds a media ID in bytes.
const maxMediaID = 255

// ErrNamed says that something names the media.
var ErrNamed = errors.New("store: the media is named")

// Kinds of sources. They are in the database.
const (
	kindEvent       = 1
	kindProfile     = 2
	kindAccountData = 3
)

// Source is what names media.
type Source struct {
	kind, scope, num int64
	part             string
}

// EventSource is an event of a room.
func EventSource(room store.RoomNum, event store.EventNum) Source {
	return Source{kind: kindEvent, scope: int64(room), num: int64(event)}
}

// ProfileSource is a field of a user's profile.
func ProfileSource(user store.UserNum, field string) Source {
	return Source{kind: kindProfile, scope: int64(user), part: field}
}

// AccountDataSource is an entry of a user's account data.
func AccountDataSource(user store.UserNum, roomID, dataType string) Source {
	return Source{kind: kindAccountData, scope: int64(user), part: roomID + " " + dataType}
}

var (
	insertNames = store.Prepare(`INSERT INTO media_names (media_id, kind, scope, num, part) SELECT media_id, $3, $4, $5, $6 FROM media
		WHERE origin = $1 AND {{intext media_id $2}} ON CONFLICT (media_id, kind, scope, num, part) DO NOTHING`)
	markUnnamed = store.Prepare(`UPDATE media SET unnamed_ts = {{now}} WHERE origin = $1 AND unnamed_ts >= 0 AND media_id IN
		(SELECT n.media_id FROM media_names AS n WHERE n.kind = $2 AND n.scope = $3 AND n.num = $4 AND n.part = $5)`)
	deleteNames = store.Prepare(`DELETE FROM media_names WHERE kind = $1 AND scope = $2 AND num = $3 AND part = $4`)
	// Of all fields, or of all entries of account data.
	markUnnamedByUser = store.Prepare(`UPDATE media SET unnamed_ts = {{now}} WHERE origin = $1 AND unnamed_ts >= 0 AND media_id IN
		(SELECT n.media_id FROM media_names AS n WHERE n.kind = $2 AND n.scope = $3)`)
	deleteNamesByUser = store.Prepare(`DELETE FROM media_names WHERE kind = $1 AND scope = $2`)

	// A mark only says that a name has gone: there may be others.
	clearNamed    = store.Prepare(`UPDATE media SET unnamed_ts = 0 WHERE unnamed_ts > 0 AND EXISTS (SELECT 1 FROM media_names AS n WHERE n.media_id = media.media_id)`)
	selectUnnamed = store.Prepare(`SELECT ` + mediaColumns + ` FROM media WHERE unnamed_ts > 0 AND unnamed_ts < {{now}} - $1 AND hash IS NOT NULL
		AND ` + notQuarantined + ` ORDER BY unnamed_ts LIMIT $2`)
	deleteUnnamed = store.Prepare(`DELETE FROM media WHERE origin = $1 AND media_id = $2 AND hash = $3 AND unnamed_ts > 0
		AND NOT EXISTS (SELECT 1 FROM media_names AS n WHERE n.media_id = media.media_id)`)
)

// AddNames records the media of this server that a source names in its JSON. Most sources name none, and cost nothing.
func AddNames(c *store.Change, server string, s Source, content []byte) {
	if ids := mediaIDs(server, content); len(ids) > 0 {
		c.Exec(insertNames, server, ids, s.kind, s.scope, s.num, s.part)
	}
}

// DropNames deletes what AddNames has recorded of a source and its content.
func DropNames(c *store.Change, server string, s Source, content []byte) {
	if len(mediaIDs(server, content)) == 0 {
		return
	}
	c.Exec(markUnnamed, server, s.kind, s.scope, s.num, s.part)
	c.Exec(deleteNames, s.kind, s.scope, s.num, s.part)
}

// ReplaceNames records what the new content of a source names, in place of the old one's; nil = none.
func ReplaceNames(c *store.Change, server string, s Source, before, after []byte) {
	DropNames(c, server, s, before)
	AddNames(c, server, s, after)
}

// DropNamesByUser deletes what the account data of a user names, and with profile what their profile does.
func DropNamesByUser(c *store.Change, server string, user store.UserNum, profile bool) {
	kinds := []int64{kindAccountData}
	if profile {
		kinds = append(kinds, kindProfile)
	}
	for _, kind := range kinds {
		c.Exec(markUnnamedByUser, server, kind, user)
		c.Exec(deleteNamesByUser, kind, user)
	}
}

// mediaIDs finds the media IDs of a server in JSON, each once, whichever keys they are under.
func mediaIDs(server string, content []byte) (ids []string) {
	if !bytes.Contains(content, []byte("mxc:")) {
		return nil
	}
	if bytes.Contains(content, []byte(`\/`)) { // another way to write a slash
		content = bytes.ReplaceAll(content, []byte(`\/`), []byte("/"))
	}
	prefix := []byte("mxc://" + server + "/")
	seen := map[string]bool{}
	for len(ids) < maxNames {
		at := bytes.Index(content, prefix)
		if at < 0 {
			break
		}
		content = content[at+len(prefix):]
		n := 0
		for n < len(content) && isMediaIDByte(content[n]) {
			n++
		}
		if mediaID := string(content[:n]); n > 0 && n <= maxMediaID && !seen[mediaID] {
			seen[mediaID] = true
			ids = append(ids, mediaID)
		}
	}
	return ids
}

func isMediaIDByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// ClearNamed takes the marks from media that something names after all.
func ClearNamed(c *store.Change) { c.Exec(clearNamed) }

// Unnamed returns media that lost its last name more than some ms ago, the longest ago first.
func Unnamed(r *store.Read, forMS int64, limit int) ([]Media, error) {
	return store.Query(r, selectUnnamed, scanMedia, forMS, limit)
}

// DropUnnamed deletes media and its ref of the blob. The change fails with ErrNamed if something names it again.
func DropUnnamed(c *store.Change, m Media) {
	c.ExecOne(deleteUnnamed, ErrNamed, m.Origin, m.ID, m.Hash)
	c.ExecOne(dropRef, ErrBlobGone, m.Hash)
}
