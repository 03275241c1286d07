// Package media keeps what users upload: pictures, files, encrypted attachments.
//
// It owns media IDs, the rules for uploads and quotas, and the tables of package mediadb. The bytes are in package blob;
// package thumbnail makes small images. It never looks into an upload but to make a thumbnail, and it believes no type that
// an upload states.
//
// The invariant that matters: an mxc: address that was given out keeps its content. Bytes are durable before the row that
// names them is committed, and a blob goes only after its last row has gone.
//
// Spec: client-server-api#content-repository
package media

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"stoa/internal/blob"
	"stoa/internal/store"
	"stoa/internal/store/mediadb"
	"stoa/internal/thumbnail"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// Bounds of uploads.
const (
	// PendingTime is how long a created media ID waits for its upload.
	PendingTime = 24 * time.Hour
	// maxPending bounds the media IDs of a user that wait for their upload.
	maxPending = 100
	// maxType and maxName bound what an upload says of itself, in bytes.
	maxType = 255
	maxName = 255
	// pollEvery is how often a request that waits for an upload looks whether another instance has it.
	pollEvery = time.Second
	day       = 24 * time.Hour
)

// Options are what Media needs.
type Options struct {
	Store      *store.Store
	ServerName id.ServerName
	// Folder is where blobs and files under way are.
	Folder string
	// Bucket is where new blobs go instead of the folder, if it is set.
	Bucket blob.Place
	// MaxUpload bounds one upload in bytes, DailyUploads those of a user in 24 hours; 0 = no bound of the latter.
	MaxUpload, DailyUploads int64
	// ThumbnailMemory bounds the memory that images take while they are decoded, in bytes.
	ThumbnailMemory int64
	// Scanner looks for viruses in new content, which is served once it has found none; nil = none.
	Scanner Scanner
	Log     *slog.Logger
	// Retention says how long media is kept, by class; what is missing stays for ever.
	Retention map[mediadb.Class]Retention
	// Disk stands between spool files and the disk; nil = nothing. Tests break disks with it.
	Disk func(io.Writer) io.Writer
}

// Media keeps uploads. All its methods may be called at the same time.
type Media struct {
	store      *store.Store
	server     string
	spools     blob.Spools
	places     map[int]blob.Place
	target     int // number of the place where new blobs go
	maxUpload  int64
	daily      int64
	thumbnails *thumbnail.Maker
	grace      time.Duration
	namedGrace time.Duration
	retention  map[mediadb.Class]Retention
	deleted    atomic.Uint64
	log        *slog.Logger
	storage    storage
	downloads  downloads
	scans      scans
	pending    pendingUploads
}

// pendingUploads are the requests that wait for an upload, by its media ID, or for the scan of content, by scanWaitKey.
type pendingUploads struct {
	mu   sync.Mutex // guards byID
	byID map[string]*pendingUpload
}

// pendingUpload is an address whose upload requests wait for. done is closed when the upload is there.
type pendingUpload struct {
	done    chan struct{}
	waiters int
}

// New makes a Media and its folder.
func New(opt Options) (*Media, error) {
	folder, err := blob.NewFolder(opt.Folder)
	if err != nil {
		return nil, err
	}
	m := &Media{
		store: opt.Store, server: opt.ServerName.String(), spools: blob.Spools{Dir: opt.Folder, Disk: opt.Disk}, maxUpload: opt.MaxUpload, daily: opt.DailyUploads,
		places: map[int]blob.Place{mediadb.PlaceFolder: folder}, target: mediadb.PlaceFolder,
		thumbnails: thumbnail.NewMaker(opt.ThumbnailMemory), grace: usualGrace, namedGrace: namedGrace, log: opt.Log, pending: pendingUploads{byID: map[string]*pendingUpload{}}, retention: opt.Retention,
	}
	if opt.Bucket != nil {
		m.places[mediadb.PlaceBucket], m.target = opt.Bucket, mediadb.PlaceBucket
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.scans.scanner, m.scans.store = opt.Scanner, opt.Store
	m.storage.wake = make(chan struct{}, 1)
	return m, nil
}

// MaxUpload is the greatest size of an upload in bytes.
func (m *Media) MaxUpload() int64 { return m.maxUpload }

// Upload is what a client sends.
type Upload struct {
	Body io.Reader
	Size int64  // -1: not known before it has come
	Type string // as stated; application/octet-stream if empty
	Name string // may be empty
}

// URI is an mxc: address.
type URI struct{ Origin, ID string }

// String is the address as text.
func (u URI) String() string { return "mxc://" + u.Origin + "/" + u.ID }

// ParseURI checks the parts of an address.
//
// Spec: client-server-api#content-repo-security-considerations
func ParseURI(origin, mediaID string) (URI, error) {
	if _, err := id.ParseServerName(origin); err != nil {
		return URI{}, mxerr.NotFound("%q is not a server name", origin)
	}
	if mediaID == "" || len(mediaID) > 255 || strings.ContainsFunc(mediaID, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-')
	}) {
		return URI{}, mxerr.NotFound("%q is not a media ID", mediaID)
	}
	return URI{origin, mediaID}, nil
}

func newID() string {
	var b [18]byte
	rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Upload keeps an upload under a new address. Errors: M_TOO_LARGE, M_FORBIDDEN over the daily quota, those of the body.
//
// Spec: client-server-api#post_matrixmediav3upload
func (m *Media) Upload(ctx context.Context, user who.User, up Upload) (URI, error) {
	uri := URI{m.server, newID()}
	err := m.receive(ctx, user, up, func(c *store.Change, row mediadb.Media) {
		row.ID = uri.ID
		mediadb.AddMedia(c, row)
	})
	return uri, err
}

// Create reserves an address for an upload that follows.
//
// Spec: client-server-api#post_matrixmediav1create
func (m *Media) Create(ctx context.Context, user who.User) (uri URI, expires time.Time, err error) {
	err = m.store.Read(ctx, func(r *store.Read) error {
		n, err := mediadb.Pending(r, user.UserNum)
		if err == nil && n >= maxPending {
			err = mxerr.LimitExceeded(time.Minute)
		}
		return err
	})
	if err != nil {
		return URI{}, time.Time{}, err
	}
	uri = URI{m.server, newID()}
	c := store.NewChange()
	c.ActiveUser(user.UserNum)
	mediadb.AddPending(c, uri.Origin, uri.ID, user.UserNum, PendingTime.Milliseconds())
	if _, err := m.store.Commit(ctx, c); err != nil {
		return URI{}, time.Time{}, fmt.Errorf("create media: %w", err)
	}
	return uri, m.store.Now().Add(PendingTime), nil
}

// UploadTo keeps an upload under an address that the user has reserved. Errors are those of Upload, M_NOT_FOUND,
// M_FORBIDDEN for somebody else's address and M_CANNOT_OVERWRITE_MEDIA.
//
// Spec: client-server-api#put_matrixmediav3uploadservernamemediaid
func (m *Media) UploadTo(ctx context.Context, user who.User, uri URI, up Upload) error {
	if err := m.takesUpload(ctx, user, uri); err != nil {
		return err
	}
	err := m.receive(ctx, user, up, func(c *store.Change, row mediadb.Media) {
		row.ID = uri.ID
		mediadb.FillPending(c, row)
	})
	if errors.Is(err, mediadb.ErrUploaded) { // by another request meanwhile
		if err := m.takesUpload(ctx, user, uri); err != nil {
			return err
		}
	}
	if err == nil {
		m.pending.end(uri.ID)
	}
	return err
}

func (m *Media) takesUpload(ctx context.Context, user who.User, uri URI) error {
	row, err := m.row(ctx, uri)
	switch {
	case err != nil:
		return err
	case row.User != user.UserNum:
		return mxerr.Forbidden("%s was created by somebody else", uri)
	case row.Hash != nil:
		return mxerr.CannotOverwriteMedia("%s has its content already", uri)
	}
	return nil
}

// row returns the row of an address. It is M_NOT_FOUND once its upload has not come in time, and in quarantine.
func (m *Media) row(ctx context.Context, uri URI) (row mediadb.Media, err error) {
	err = m.store.Read(ctx, func(r *store.Read) (err error) { row, err = mediadb.MediaByID(r, uri.Origin, uri.ID); return err })
	if errors.Is(err, store.ErrNotFound) || err == nil && (row.QuarantinedTS > 0 || row.Hash == nil && row.ExpiresTS <= m.store.Now().UnixMilli()) {
		return row, notThere(uri)
	}
	return row, err
}

func notThere(uri URI) error { return mxerr.NotFound("There is no %s, or it has expired", uri) }

// receive spools an upload and commits its row, which add writes.
func (m *Media) receive(ctx context.Context, user who.User, up Upload, add func(*store.Change, mediadb.Media)) error {
	if up.Size > m.maxUpload {
		return m.tooLarge()
	}
	if up.Type == "" {
		up.Type = "application/octet-stream"
	}
	if len(up.Type) > maxType || !utf8.ValidString(up.Type) {
		return mxerr.InvalidParam("Content-Type has more than %d bytes", maxType)
	}
	if len(up.Name) > maxName || !utf8.ValidString(up.Name) || strings.ContainsRune(up.Name, 0) {
		return mxerr.InvalidParam("filename has more than %d bytes, or is not UTF-8", maxName)
	}
	if err := m.Healthy(); err != nil {
		return err // before the body has come
	}
	left, err := m.quotaLeft(ctx, user)
	if err != nil {
		return err
	}
	if up.Size > left {
		return m.overQuota()
	}
	spool, err := m.spools.New(up.Body, min(m.maxUpload, left))
	if errors.Is(err, blob.ErrTooLarge) {
		if left < m.maxUpload {
			return m.overQuota()
		}
		return m.tooLarge()
	}
	if err != nil {
		return m.storage.see(err)
	}
	defer m.closeSpool(spool)
	row := mediadb.Media{Origin: m.server, User: user.UserNum, Hash: spool.Hash[:], Size: spool.Size, Type: up.Type, Name: up.Name}
	return m.keep(ctx, spool, m.scans.await, func(c *store.Change) {
		c.ActiveUser(user.UserNum)
		add(c, row)
	})
}

func (m *Media) tooLarge() error {
	return mxerr.TooLarge("An upload may have at most %d bytes", m.maxUpload)
}

func (m *Media) overQuota() error {
	return mxerr.Forbidden("You may upload at most %d bytes in 24 hours", m.daily)
}

func (m *Media) quotaLeft(ctx context.Context, user who.User) (left int64, err error) {
	if m.daily == 0 {
		return m.maxUpload, nil
	}
	err = m.store.Read(ctx, func(r *store.Read) error {
		sum, err := mediadb.Uploaded(r, user.UserNum, day.Milliseconds())
		left = max(0, m.daily-sum)
		return err
	})
	return left, err
}

func (m *Media) closeSpool(s *blob.Spool) {
	if err := s.Close(); err != nil {
		m.log.Warn("a file of an upload under way could not be removed", "err", err)
	}
}

// keepTries bounds how often an upload is committed while others keep and delete the same content.
const keepTries = 5

// keep makes the bytes durable and commits the row that add writes with its ref. Content that is kept already is not
// kept twice; isNew is called for other content.
func (m *Media) keep(ctx context.Context, spool *blob.Spool, isNew func(c *store.Change, hash []byte) error, add func(*store.Change)) error {
	hash := spool.Hash[:]
	placed := "" // name of the blob that this call has put
	for range keepTries {
		c := store.NewChange()
		err := m.store.Read(ctx, func(r *store.Read) error {
			_, err := mediadb.BlobByHash(r, hash)
			return err
		})
		switch {
		case err == nil:
			mediadb.AddRef(c, hash)
		case !errors.Is(err, store.ErrNotFound):
			return err
		default:
			if placed == "" {
				placed = blob.NewName(spool.Hash)
				if err := m.places[m.target].Put(ctx, placed, spool); err != nil {
					return m.storage.see(err)
				}
			}
			mediadb.AddBlob(c, mediadb.Blob{Hash: hash, Name: placed, Place: m.target, Size: spool.Size})
			if err := isNew(c, hash); err != nil {
				return err
			}
		}
		isKept := err == nil
		add(c)
		_, err = m.store.Commit(ctx, c)
		if errors.Is(err, mediadb.ErrBlobTaken) || errors.Is(err, mediadb.ErrBlobGone) {
			continue
		}
		unwritten := errors.Is(err, mediadb.ErrUploaded) || errors.Is(err, store.ErrDeactivated)
		if placed != "" && (unwritten || err == nil && isKept) {
			// Another upload came first. If this fails, SweepOrphans finds the bytes.
			if err := m.places[m.target].Delete(ctx, placed); err != nil {
				m.log.Warn("a copy of an upload could not be deleted", "err", err)
			}
		}
		return err
	}
	return mxerr.LimitExceeded(time.Second)
}

// File is a download.
type File struct {
	blob.Content
	Type string // as stated at the upload
	Name string // may be empty
	Hash []byte // SHA-256
	Size int64
	Time time.Time // of the upload
}

// Open gives what an address names. It waits for an upload that has not come yet for some time, at most until ctx ends.
// Errors: M_NOT_FOUND, M_NOT_YET_UPLOADED.
//
// Spec: client-server-api#get_matrixclientv1mediadownloadservernamemediaid
func (m *Media) Open(ctx context.Context, uri URI, wait time.Duration) (*File, error) {
	row, err := m.find(ctx, uri, wait)
	if err != nil {
		return nil, err
	}
	return m.file(ctx, row)
}

// file gives the content of an upload.
func (m *Media) file(ctx context.Context, row mediadb.Media) (f *File, err error) {
	f = &File{Type: row.Type, Name: row.Name, Hash: row.Hash, Size: row.Size, Time: time.UnixMilli(row.CreatedTS)}
	f.Content, err = m.open(ctx, row.Hash)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, blob.ErrNotFound) {
		return nil, fmt.Errorf("%s: its content is missing: %w", URI{row.Origin, row.ID}, err)
	}
	return f, err
}

func (m *Media) open(ctx context.Context, hash []byte) (blob.Content, error) {
	var b mediadb.Blob
	err := m.store.Read(ctx, func(r *store.Read) (err error) { b, err = mediadb.BlobByHash(r, hash); return err })
	if err != nil {
		return nil, err
	}
	place := m.places[b.Place]
	if place == nil {
		return nil, fmt.Errorf("media is in a bucket, and none is set (media_bucket)")
	}
	content, err := place.Open(ctx, b.Name)
	if err != nil {
		return nil, m.storage.see(err)
	}
	return &watched{Content: content, m: m}, nil
}

// find gives the row of an address, once its content is there.
func (m *Media) find(ctx context.Context, uri URI, wait time.Duration) (mediadb.Media, error) {
	if uri.Origin != m.server {
		return mediadb.Media{}, mxerr.NotFound("%s is on another server, and this one does not exchange media with others", uri)
	}
	until := time.NewTimer(wait)
	defer until.Stop()
	key := uri.ID // of what this waits for
	for {
		pending := m.pending.join(key) // before the look, so that nothing falls between
		row, err := m.row(ctx, uri)
		// The row has the verdict of the scanner too: read later, it might say that an infected file was scanned.
		unscanned := err == nil && row.UnscannedTS > 0 && m.scans.scanner != nil
		waits := unscanned || err == nil && row.Hash == nil
		if unscanned && key == uri.ID {
			m.pending.leave(key, pending)
			key = scanWaitKey(row.Hash)
			continue
		}
		switch {
		case unscanned && wait <= 0:
			err = mxerr.NotYetUploaded("%s is not scanned for viruses yet", uri)
		case waits && wait <= 0:
			err = mxerr.NotYetUploaded("%s is not uploaded yet", uri)
		case waits:
			poll := time.NewTimer(pollEvery)
			select {
			case <-pending.done:
			case <-poll.C:
			case <-until.C:
				wait = 0
			case <-ctx.Done():
				err = ctx.Err()
			}
			poll.Stop()
			if err == nil {
				m.pending.leave(key, pending)
				continue
			}
		}
		m.pending.leave(key, pending)
		if err == nil {
			m.downloads.note(row, m.store.Now())
		}
		return row, err
	}
}

func (p *pendingUploads) join(mediaID string) *pendingUpload {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.byID[mediaID]
	if u == nil {
		u = &pendingUpload{done: make(chan struct{})}
		p.byID[mediaID] = u
	}
	u.waiters++
	return u
}

func (p *pendingUploads) leave(mediaID string, u *pendingUpload) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u.waiters--; u.waiters == 0 && p.byID[mediaID] == u {
		delete(p.byID, mediaID)
	}
}

// end wakes the requests that wait for an upload on this instance.
func (p *pendingUploads) end(mediaID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.byID[mediaID]; u != nil {
		delete(p.byID, mediaID)
		close(u.done)
	}
}

// Thumbnail gives a thumbnail of an image, or the image itself if it is not larger than what was asked for. Errors are
// those of Open, M_UNKNOWN for what is no image, and M_TOO_LARGE.
//
// Spec: client-server-api#get_matrixclientv1mediathumbnailservernamemediaid
func (m *Media) Thumbnail(ctx context.Context, uri URI, width, height int, method thumbnail.Method, animated bool, wait time.Duration) (*File, error) {
	row, err := m.find(ctx, uri, wait)
	if err != nil {
		return nil, err
	}
	spec, ok := thumbnail.NewSpec(width, height, method, animated)
	if !ok {
		return m.file(ctx, row)
	}
	f := &File{Time: time.UnixMilli(row.CreatedTS)}
	var t mediadb.Thumbnail
	err = m.store.Read(ctx, func(r *store.Read) (err error) {
		t, err = mediadb.ThumbnailOf(r, row.Hash, spec.String())
		return err
	})
	if err == nil {
		f.Type, f.Hash = t.Type, t.Hash
		f.Content, err = m.open(ctx, t.Hash)
		return f, err
	}
	if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	src, err := m.open(ctx, row.Hash)
	if err != nil {
		return nil, err
	}
	made, err := m.thumbnails.Make(ctx, src, spec)
	if broken := src.(*watched).err; broken != nil {
		err = broken // not a fault of the image
	}
	err = errors.Join(err, src.Close())
	switch {
	case errors.Is(err, thumbnail.ErrSmall):
		return m.file(ctx, row)
	case errors.Is(err, thumbnail.ErrTooLarge):
		return nil, mxerr.TooLarge("The image has too many pixels for a thumbnail")
	case errors.Is(err, thumbnail.ErrNoImage):
		return nil, mxerr.InvalidParam("This is no image of which a thumbnail can be made")
	case err != nil:
		return nil, err
	}
	f.Type, f.Size = made.Type, int64(len(made.Bytes))
	f.Content = readNopCloser{bytes.NewReader(made.Bytes)}
	f.Hash, err = m.keepThumbnail(ctx, row.Hash, spec, made)
	return f, err
}

type readNopCloser struct{ *bytes.Reader }

func (readNopCloser) Close() error { return nil }

// keepThumbnail keeps a thumbnail for others who ask for it.
func (m *Media) keepThumbnail(ctx context.Context, image []byte, spec thumbnail.Spec, made thumbnail.Result) (hash []byte, err error) {
	spool, err := m.spools.New(bytes.NewReader(made.Bytes), int64(len(made.Bytes)))
	if err != nil {
		return nil, err
	}
	defer m.closeSpool(spool)
	hash = bytes.Clone(spool.Hash[:])
	t := mediadb.Thumbnail{Image: image, Spec: spec.String(), Hash: hash, Type: made.Type}
	notScanned := func(*store.Change, []byte) error { return nil } // it was made here, of an image that was
	err = m.keep(ctx, spool, notScanned, func(c *store.Change) { mediadb.AddThumbnail(c, t) })
	if errors.Is(err, mediadb.ErrUploaded) { // another request has made the same
		return hash, nil
	}
	return hash, err
}
