// When media was read last, and which media has outlived its time.

package mediadb

import "stoa/internal/store"

var (
	updateRead = store.Prepare(`UPDATE media SET read_ts = {{now}} WHERE origin = $1 AND {{intext media_id $2}}`)
	// The media of a profile, and of the current state of a room, is in use.
	selectOutlived = store.Prepare(`SELECT ` + mediaColumns + ` FROM media WHERE class = $1 AND (created_ts, media_id) > ($4, $5) AND hash IS NOT NULL
		AND ($2 > 0 AND created_ts < {{now}} - $2 OR $3 > 0 AND created_ts < {{now}} - $3 AND read_ts < {{now}} - $3)
		AND created_ts < {{now}} - $6 AND ` + notQuarantined + `
		AND NOT EXISTS (SELECT 1 FROM media_names AS n WHERE n.media_id = media.media_id AND n.kind > 1)
		AND NOT EXISTS (SELECT 1 FROM media_names AS n JOIN events AS e ON e.num = n.num JOIN current_state AS s ON s.room = e.room AND s.key = e.state_key_num
			AND s.event = e.num WHERE n.media_id = media.media_id AND n.kind = 1)
		ORDER BY created_ts, media_id LIMIT $7`)
)

// SetRead records that media was downloaded now.
func SetRead(c *store.Change, origin string, mediaIDs []string) { c.Exec(updateRead, origin, mediaIDs) }

// Outlived returns media of a class that was uploaded more than some ms ago, or was neither uploaded nor downloaded for some
// ms, oldest first; 0 = never. It leaves out what a profile, account data or the current state of a room shows, and what is
// in quarantine.
func Outlived(r *store.Read, class Class, ageMS, unusedMS int64, after At, limit int) ([]Listed, error) {
	if ageMS <= 0 && unusedMS <= 0 {
		return nil, nil
	}
	shortest := ageMS
	if shortest <= 0 || unusedMS > 0 && unusedMS < shortest {
		shortest = unusedMS
	}
	return store.Query(r, selectOutlived, scanListed, int64(class), ageMS, unusedMS, after.Num, after.MediaID, shortest, limit)
}
