package media

import (
	"bytes"
	"context"
	"io"

	"stoa/internal/store"
	"stoa/internal/store/mediadb"
	"stoa/internal/thumbnail"
	"stoa/matrix/mxerr"
)

// KeepPicture keeps an image that the server itself has fetched, of at most limit bytes, under a media ID that no user owns.
// If the media ID before has the same content, it is given again. The row is committed in the change that write fills, which
// may be called again with another change. Errors: thumbnail.ErrNoImage and ErrTooLarge, blob.ErrTooLarge, those of src and of
// the change.
func (m *Media) KeepPicture(ctx context.Context, src io.Reader, limit int64, before string, write func(c *store.Change, mediaID string, size int64, p thumbnail.Picture)) error {
	if err := m.Healthy(); err != nil {
		return err
	}
	spool, err := m.spools.New(src, limit)
	if err != nil {
		return m.storage.see(err)
	}
	defer m.closeSpool(spool)
	var p thumbnail.Picture
	if err := spool.Read(func(r io.ReadSeeker) (err error) { p, err = m.thumbnails.Inspect(r); return err }); err != nil {
		return err
	}
	if before != "" {
		row, err := m.row(ctx, URI{m.server, before})
		if err == nil && bytes.Equal(row.Hash, spool.Hash[:]) {
			c := store.NewChange()
			write(c, before, spool.Size, p)
			_, err = m.store.Commit(ctx, c)
			return err
		}
		if err != nil && !mxerr.Is(err, mxerr.CodeNotFound) {
			return err
		}
	}
	row := mediadb.Media{Origin: m.server, ID: newID(), Hash: spool.Hash[:], Size: spool.Size, Type: p.Type, Class: mediadb.ClassPreview}
	return m.keep(ctx, spool, m.scans.await, func(c *store.Change) {
		mediadb.AddMedia(c, row)
		write(c, row.ID, spool.Size, p)
	})
}

// DropPicture deletes what KeepPicture has kept, if it is there, in the change that write fills.
func (m *Media) DropPicture(ctx context.Context, mediaID string, write func(*store.Change)) error {
	row, err := m.row(ctx, URI{m.server, mediaID})
	c := store.NewChange()
	switch {
	case err == nil:
		mediadb.DropMedia(c, row)
	case !mxerr.Is(err, mxerr.CodeNotFound):
		return err
	}
	write(c)
	_, err = m.store.Commit(ctx, c)
	return err
}
