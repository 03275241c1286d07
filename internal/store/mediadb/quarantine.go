// The quarantine, and lists of media.

package mediadb

import "stoa/internal/store"

const (
	setQuarantine   = `UPDATE blobs SET quarantined_ts = {{now}} WHERE hash = $1 AND quarantined_ts = 0`
	clearQuarantine = `UPDATE blobs SET quarantined_ts = 0 WHERE hash = $1 AND quarantined_ts > 0`
	ofUser          = `SELECT DISTINCT b.hash FROM media AS m JOIN blobs AS b ON b.hash = m.hash WHERE m.user_num = $1 AND `
	ofRoom          = `SELECT DISTINCT b.hash FROM media_names AS n JOIN media AS m ON m.media_id = n.media_id AND m.origin = $2
		JOIN blobs AS b ON b.hash = m.hash WHERE n.kind = 1 AND n.scope = $1 AND `
)

var (
	quarantine       = store.Prepare(setQuarantine)
	release          = store.Prepare(clearQuarantine)
	selectUserServed = store.Prepare(ofUser + `b.quarantined_ts = 0 LIMIT $2`)
	selectUserHidden = store.Prepare(ofUser + `b.quarantined_ts > 0 LIMIT $2`)
	selectRoomServed = store.Prepare(ofRoom + `b.quarantined_ts = 0 LIMIT $3`)
	selectRoomHidden = store.Prepare(ofRoom + `b.quarantined_ts > 0 LIMIT $3`)
	selectUserMedia  = store.Prepare(`SELECT ` + mediaColumns + ` FROM media WHERE user_num = $1 AND (created_ts, media_id) < ($2, $3) AND hash IS NOT NULL
		ORDER BY created_ts DESC, media_id DESC LIMIT $4`)
	selectRoomMedia = store.Prepare(`SELECT n.num, ` + mediaColumns + ` FROM media_names AS n JOIN media ON media.media_id = n.media_id AND media.origin = $2
		WHERE n.kind = 1 AND n.scope = $1 AND (n.num, n.media_id) < ($3, $4) AND media.hash IS NOT NULL ORDER BY n.num DESC, n.media_id DESC LIMIT $5`)
	selectQuarantined = store.Prepare(`SELECT ` + mediaColumns + ` FROM media WHERE hash IN (SELECT b.hash FROM blobs AS b WHERE b.quarantined_ts > 0)
		AND (created_ts, media_id) < ($1, $2) ORDER BY created_ts DESC, media_id DESC LIMIT $3`)
)

// SetQuarantined puts content into quarantine, or releases it. Content that is there already, or not, stays as it is.
func SetQuarantined(c *store.Change, hash []byte, on bool) {
	if on {
		c.Exec(quarantine, hash)
	} else {
		c.Exec(release, hash)
	}
}

// HashesOfUser returns content that a user has uploaded and that is in quarantine, or is not.
func HashesOfUser(r *store.Read, user store.UserNum, quarantined bool, limit int) ([][]byte, error) {
	if quarantined {
		return store.Query(r, selectUserHidden, bytesOf, user, limit)
	}
	return store.Query(r, selectUserServed, bytesOf, user, limit)
}

// HashesOfRoom returns content of this server that readable events of a room name and that is in quarantine, or is not.
func HashesOfRoom(r *store.Read, server string, room store.RoomNum, quarantined bool, limit int) ([][]byte, error) {
	if quarantined {
		return store.Query(r, selectRoomHidden, bytesOf, room, server, limit)
	}
	return store.Query(r, selectRoomServed, bytesOf, room, server, limit)
}

// At is a place in a list of media, newest first. The zero value is its beginning.
type At struct {
	Num     int64 // time in ms, or number of an event
	MediaID string
}

func (a At) orStart() At {
	if a == (At{}) {
		return At{Num: 1<<63 - 1}
	}
	return a
}

// Listed is media in a list.
type Listed struct {
	Media
	At At // continues after it
}

func scanListed(row *store.Row) Listed {
	m := scanMedia(row)
	return Listed{m, At{m.CreatedTS, m.ID}}
}

// MediaOfUser returns uploads of a user, newest first.
func MediaOfUser(r *store.Read, user store.UserNum, after At, limit int) ([]Listed, error) {
	after = after.orStart()
	return store.Query(r, selectUserMedia, scanListed, user, after.Num, after.MediaID, limit)
}

// MediaOfRoom returns media of this server that readable events of a room name, those of the newest events first. Media that several
// events name comes several times.
func MediaOfRoom(r *store.Read, server string, room store.RoomNum, after At, limit int) ([]Listed, error) {
	after = after.orStart()
	return store.Query(r, selectRoomMedia, func(row *store.Row) Listed {
		event := row.Int()
		m := scanMedia(row)
		return Listed{m, At{event, m.ID}}
	}, room, server, after.Num, after.MediaID, limit)
}

// QuarantinedMedia returns media whose content is in quarantine, newest first.
func QuarantinedMedia(r *store.Read, after At, limit int) ([]Listed, error) {
	after = after.orStart()
	return store.Query(r, selectQuarantined, scanListed, after.Num, after.MediaID, limit)
}
