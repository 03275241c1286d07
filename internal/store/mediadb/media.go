// Tables blobs, media and thumbnails. Written by package media.

package mediadb

import (
	"errors"

	"stoa/internal/store"
)

var (
	// ErrBlobTaken says that a blob of the hash is there already.
	ErrBlobTaken = errors.New("store: there is a blob of this content")
	// ErrBlobGone says that the blob has been deleted meanwhile.
	ErrBlobGone = errors.New("store: the blob has gone")
	// ErrUploaded says that the media ID has its content, or has expired, or is somebody else's.
	ErrUploaded = errors.New("store: the media ID takes no upload")
)

// Place numbers of the table blobs. They are in the database.
const (
	PlaceFolder = 1
	PlaceBucket = 2
)

// Blob is a row of the table blobs.
type Blob struct {
	Hash      []byte
	Name      string
	Place     int
	Size      int64
	Refs      int64
	CreatedTS int64
	// QuarantinedTS is since when no address serves it, in ms; 0 = it is served.
	QuarantinedTS int64
}

// Media is a row of the table media.
type Media struct {
	Origin, ID string
	User       store.UserNum
	Hash       []byte // nil: not uploaded yet
	Size       int64
	Type, Name string
	CreatedTS  int64
	ExpiresTS  int64
	Class      Class // 0 = ClassLocal
	ReadTS     int64 // of the last download, to the day
	// QuarantinedTS is that of its content.
	QuarantinedTS int64
	// UnscannedTS is since when its content waits for the scanner, in ms; 0 = it does not.
	UnscannedTS int64
}

// Class says why media is here. Classes are in the database.
type Class int

// The classes of media.
const (
	ClassLocal   Class = 1 // uploaded by users of this server
	ClassRemote  Class = 2 // fetched from other servers
	ClassPreview Class = 3 // pictures of link previews
)

// Thumbnail is a row of the table thumbnails.
type Thumbnail struct {
	Image []byte
	Spec  string
	Hash  []byte
	Type  string
}

const (
	blobColumns  = `hash, name, place, size, refs, created_ts, quarantined_ts`
	mediaColumns = `media.origin, media.media_id, media.user_num, media.hash, media.size, media.type, media.file_name, media.created_ts,
		media.expires_ts, media.class, media.read_ts,
		COALESCE((SELECT b.quarantined_ts FROM blobs AS b WHERE b.hash = media.hash), 0),
		COALESCE((SELECT b.unscanned_ts FROM blobs AS b WHERE b.hash = media.hash), 0)`
	notQuarantined = `NOT EXISTS (SELECT 1 FROM blobs AS b WHERE b.hash = media.hash AND b.quarantined_ts > 0)`
)

var (
	selectBlob  = store.Prepare(`SELECT ` + blobColumns + ` FROM blobs WHERE hash = $1`)
	selectNames = store.Prepare(`SELECT name FROM blobs WHERE {{intext name $1}}`)
	insertBlob  = store.Prepare(`INSERT INTO blobs (hash, name, place, size, refs, created_ts) VALUES ($1, $2, $3, $4, 1, {{now}})
		ON CONFLICT (hash) DO NOTHING`)
	addRef       = store.Prepare(`UPDATE blobs SET refs = refs + 1 WHERE hash = $1`)
	dropRef      = store.Prepare(`UPDATE blobs SET refs = refs - 1, unused_ts = {{now}} WHERE hash = $1 AND refs > 0`)
	selectUnused = store.Prepare(`SELECT ` + blobColumns + ` FROM blobs WHERE refs = 0 AND unused_ts < {{now}} - $1 AND quarantined_ts = 0 ORDER BY unused_ts LIMIT $2`)
	deleteUnused = store.Prepare(`DELETE FROM blobs WHERE hash = $1 AND refs = 0 AND quarantined_ts = 0`)

	selectMedia = store.Prepare(`SELECT ` + mediaColumns + ` FROM media WHERE origin = $1 AND media_id = $2`)
	insertMedia = store.Prepare(`INSERT INTO media (origin, media_id, user_num, hash, size, type, file_name, created_ts, class, unnamed_ts)
		VALUES ($1, $2, $3, $4, $5, $6, $7, {{now}}, $8, 0)`)
	insertPending = store.Prepare(`INSERT INTO media (origin, media_id, user_num, created_ts, expires_ts, unnamed_ts) VALUES ($1, $2, $3, {{now}}, {{now}} + $4, 0)`)
	fillPending   = store.Prepare(`UPDATE media SET hash = $4, size = $5, type = $6, file_name = $7, expires_ts = 0
		WHERE origin = $1 AND media_id = $2 AND user_num = $3 AND hash IS NULL AND expires_ts > {{now}}`)
	countPending  = store.Prepare(`SELECT COUNT(*) FROM media WHERE user_num = $1 AND hash IS NULL AND expires_ts > {{now}}`)
	sumUploads    = store.Prepare(`SELECT COALESCE(SUM(size), 0) FROM media WHERE user_num = $1 AND created_ts > {{now}} - $2`)
	deletePending = store.Prepare(`DELETE FROM media WHERE hash IS NULL AND expires_ts < {{now}} - $1`)
	deleteMedia   = store.Prepare(`DELETE FROM media WHERE origin = $1 AND media_id = $2 AND hash = $3`)

	selectThumbnail  = store.Prepare(`SELECT image, spec, hash, type FROM thumbnails WHERE image = $1 AND spec = $2`)
	selectThumbnails = store.Prepare(`SELECT image, spec, hash, type FROM thumbnails WHERE image = $1 ORDER BY spec LIMIT 1000`)
	insertThumbnail  = store.Prepare(`INSERT INTO thumbnails (image, spec, hash, type) VALUES ($1, $2, $3, $4) ON CONFLICT (image, spec) DO NOTHING`)
	deleteThumbnail  = store.Prepare(`DELETE FROM thumbnails WHERE image = $1 AND spec = $2`)
)

func bytesOf(row *store.Row) []byte { return append([]byte(nil), row.Bytes()...) }

func scanBlob(row *store.Row) (b Blob) {
	b.Hash = bytesOf(row)
	row.Scan(&b.Name, &b.Place, &b.Size, &b.Refs, &b.CreatedTS, &b.QuarantinedTS)
	return b
}

func scanMedia(row *store.Row) (m Media) {
	row.Scan(&m.Origin, &m.ID, &m.User)
	m.Hash = bytesOf(row)
	var class int64
	row.Scan(&m.Size, &m.Type, &m.Name, &m.CreatedTS, &m.ExpiresTS, &class, &m.ReadTS, &m.QuarantinedTS, &m.UnscannedTS)
	m.Class = Class(class)
	return m
}

func scanThumbnail(row *store.Row) (t Thumbnail) {
	t.Image = bytesOf(row)
	row.Scan(&t.Spec)
	t.Hash = bytesOf(row)
	row.Scan(&t.Type)
	return t
}

// BlobByHash returns a blob, or store.ErrNotFound.
func BlobByHash(r *store.Read, hash []byte) (Blob, error) {
	return store.QueryOne(r, selectBlob, scanBlob, hash)
}

// KnownNames returns those of some names that blobs have.
func KnownNames(r *store.Read, names []string) ([]string, error) {
	return store.Query(r, selectNames, (*store.Row).Text, names)
}

// AddBlob writes a blob with one ref, that of the row which the change adds beside it. The change fails with ErrBlobTaken if
// there is one of the hash.
func AddBlob(c *store.Change, b Blob) {
	c.ExecOne(insertBlob, ErrBlobTaken, b.Hash, b.Name, b.Place, b.Size)
}

// AddRef counts one more row that has a blob. The change fails with ErrBlobGone if it is not there.
func AddRef(c *store.Change, hash []byte) { c.ExecOne(addRef, ErrBlobGone, hash) }

// Unused returns blobs that nothing has had for some ms, the longest unused first.
func Unused(r *store.Read, forMS int64, limit int) ([]Blob, error) {
	return store.Query(r, selectUnused, scanBlob, forMS, limit)
}

// DropUnused deletes the row of a blob. The change fails with ErrBlobTaken if something has it again.
func DropUnused(c *store.Change, hash []byte) { c.ExecOne(deleteUnused, ErrBlobTaken, hash) }

// MediaByID returns what an mxc: address names, uploaded or not; store.ErrNotFound.
func MediaByID(r *store.Read, origin, mediaID string) (Media, error) {
	return store.QueryOne(r, selectMedia, scanMedia, origin, mediaID)
}

// AddMedia writes media with its content, whose ref the caller adds.
func AddMedia(c *store.Change, m Media) {
	c.Exec(insertMedia, m.Origin, m.ID, m.User, m.Hash, m.Size, m.Type, m.Name, int64(max(m.Class, ClassLocal)))
}

// AddPending writes a media ID that waits for its upload for some ms.
func AddPending(c *store.Change, origin, mediaID string, user store.UserNum, forMS int64) {
	c.Exec(insertPending, origin, mediaID, user, forMS)
}

// FillPending gives a media ID its content, whose ref the caller adds. The change fails with ErrUploaded if it is not the
// user's, has its content or has expired.
func FillPending(c *store.Change, m Media) {
	c.ExecOne(fillPending, ErrUploaded, m.Origin, m.ID, m.User, m.Hash, m.Size, m.Type, m.Name)
}

// Pending counts the media IDs of a user that wait for their upload.
func Pending(r *store.Read, user store.UserNum) (int64, error) {
	return store.QueryOne(r, countPending, (*store.Row).Int, user)
}

// Uploaded sums the bytes that a user has uploaded within some ms.
func Uploaded(r *store.Read, user store.UserNum, withinMS int64) (int64, error) {
	return store.QueryOne(r, sumUploads, (*store.Row).Int, user, withinMS)
}

// DropExpired deletes the media IDs whose upload has not come, some ms after they have expired.
func DropExpired(c *store.Change, afterMS int64) { c.Exec(deletePending, afterMS) }

// DropMedia deletes media and its ref of the blob. The change fails with store.ErrNotFound if it is not there.
func DropMedia(c *store.Change, m Media) {
	c.ExecOne(deleteMedia, store.ErrNotFound, m.Origin, m.ID, m.Hash)
	c.ExecOne(dropRef, ErrBlobGone, m.Hash)
}

// ThumbnailOf returns a thumbnail of an image, or store.ErrNotFound.
func ThumbnailOf(r *store.Read, image []byte, spec string) (Thumbnail, error) {
	return store.QueryOne(r, selectThumbnail, scanThumbnail, image, spec)
}

// ThumbnailsOf returns all thumbnails of an image.
func ThumbnailsOf(r *store.Read, image []byte) ([]Thumbnail, error) {
	return store.Query(r, selectThumbnails, scanThumbnail, image)
}

// AddThumbnail writes a thumbnail, whose ref the caller adds. The change fails with ErrUploaded if one of its spec is there.
func AddThumbnail(c *store.Change, t Thumbnail) {
	c.ExecOne(insertThumbnail, ErrUploaded, t.Image, t.Spec, t.Hash, t.Type)
}

// DropThumbnail deletes a thumbnail and its ref of the blob.
func DropThumbnail(c *store.Change, t Thumbnail) {
	c.ExecOne(deleteThumbnail, store.ErrNotFound, t.Image, t.Spec)
	c.ExecOne(dropRef, ErrBlobGone, t.Hash)
}
