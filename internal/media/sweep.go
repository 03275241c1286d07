package media

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stoa/internal/blob"
	"stoa/internal/store"
	"stoa/internal/store/mediadb"
)

// usualGrace is how long a blob stays that nothing names any more, and how old a file must be that no row knows: an upload
// under way has none yet.
const usualGrace = 24 * time.Hour

// namedGrace is how long media stays that nothing names any more: as long as the server keeps what redacted events said.
const namedGrace = 7 * 24 * time.Hour

// dropPage bounds the media that one change deletes.
const dropPage = 100

// sweepPage bounds what one step of Sweep holds in memory.
const sweepPage = 500

// Delete deletes what an address names; it is gone for everybody. Its bytes follow within a day, unless something else has
// the same content. M_NOT_FOUND if it is not there.
func (m *Media) Delete(ctx context.Context, uri URI) error {
	row, err := m.row(ctx, uri)
	if err != nil {
		return err
	}
	if row.Hash == nil {
		return notThere(uri)
	}
	c := store.NewChange()
	mediadb.DropMedia(c, row)
	if _, err = m.store.Commit(ctx, c); errors.Is(err, store.ErrNotFound) {
		return notThere(uri)
	}
	return err
}

// Sweep deletes what has outlived its time: media IDs that were never used, media that lost its last name, and blobs
// without media.
func (m *Media) Sweep(ctx context.Context) error {
	c := store.NewChange()
	c.LowPriority = true
	mediadb.DropExpired(c, m.grace.Milliseconds())
	if _, err := m.store.Commit(ctx, c); err != nil {
		return fmt.Errorf("sweep media: %w", err)
	}
	if err := m.dropUnnamed(ctx); err != nil {
		return fmt.Errorf("sweep media: %w", err)
	}
	for {
		var unused []mediadb.Blob
		err := m.store.Read(ctx, func(r *store.Read) (err error) {
			unused, err = mediadb.Unused(r, m.grace.Milliseconds(), sweepPage)
			return err
		})
		if err != nil || len(unused) == 0 {
			return err
		}
		for _, b := range unused {
			if err := m.dropUnused(ctx, b); err != nil {
				return fmt.Errorf("sweep media: %w", err)
			}
		}
	}
}

// dropUnnamed deletes media that readable events, profiles or account data named once, and that nothing names any more.
func (m *Media) dropUnnamed(ctx context.Context) error {
	c := store.NewChange()
	c.LowPriority = true
	mediadb.ClearNamed(c)
	if _, err := m.store.Commit(ctx, c); err != nil {
		return err
	}
	return m.dropPages(ctx, mediadb.DropUnnamed, func(r *store.Read) ([]mediadb.Media, error) {
		return mediadb.Unnamed(r, m.namedGrace.Milliseconds(), dropPage)
	})
}

// dropPages deletes media page by page, until there are none. If media changes meanwhile, the rest is for the next time.
func (m *Media) dropPages(ctx context.Context, drop func(*store.Change, mediadb.Media), page func(*store.Read) ([]mediadb.Media, error)) error {
	for {
		var list []mediadb.Media
		err := m.store.Read(ctx, func(r *store.Read) (err error) { list, err = page(r); return err })
		if err != nil || len(list) == 0 {
			return err
		}
		c := store.NewChange()
		c.LowPriority = true
		for _, row := range list {
			drop(c, row)
		}
		_, err = m.store.Commit(ctx, c)
		if changedMeanwhile(err) {
			return nil
		}
		if err != nil {
			return err
		}
		m.deleted.Add(uint64(len(list)))
	}
}

// changedMeanwhile says that media was not deleted because something named it, or because it had gone.
func changedMeanwhile(err error) bool {
	return errors.Is(err, mediadb.ErrNamed) || errors.Is(err, mediadb.ErrBlobGone) || errors.Is(err, store.ErrNotFound)
}

// dropUnused deletes a blob with its thumbnails: first the rows, then the bytes. What stays when it is killed in between is
// for SweepOrphans.
func (m *Media) dropUnused(ctx context.Context, b mediadb.Blob) error {
	var list []mediadb.Thumbnail
	err := m.store.Read(ctx, func(r *store.Read) (err error) { list, err = mediadb.ThumbnailsOf(r, b.Hash); return err })
	if err != nil {
		return err
	}
	c := store.NewChange()
	c.LowPriority = true
	mediadb.DropUnused(c, b.Hash)
	for _, t := range list {
		mediadb.DropThumbnail(c, t)
	}
	_, err = m.store.Commit(ctx, c)
	if errors.Is(err, mediadb.ErrBlobTaken) || errors.Is(err, store.ErrNotFound) {
		return nil // named again, or swept by another
	}
	if err != nil {
		return err
	}
	place := m.places[b.Place]
	if place == nil {
		m.log.Warn("a blob in the bucket stays: no bucket is set (media_bucket)", "name", b.Name)
		return nil
	}
	return place.Delete(ctx, b.Name)
}

// SweepOrphans deletes bytes that no row knows, as they stay after a crash between writing bytes and their row. It reads
// the listing of every place.
func (m *Media) SweepOrphans(ctx context.Context) error {
	now := m.store.Now()
	old := now.Add(-m.grace)
	if err := blob.CleanSpools(m.spools.Dir, now); err != nil {
		return fmt.Errorf("sweep orphans: %w", err)
	}
	for _, place := range m.places {
		var page []string
		flush := func() error {
			if len(page) == 0 {
				return nil
			}
			known := map[string]bool{}
			err := m.store.Read(ctx, func(r *store.Read) error {
				names, err := mediadb.KnownNames(r, page)
				for _, name := range names {
					known[name] = true
				}
				return err
			})
			for _, name := range page {
				if err == nil && !known[name] {
					err = place.Delete(ctx, name)
				}
			}
			page = page[:0]
			return err
		}
		err := place.List(ctx, func(e blob.Entry) error {
			if e.Written.After(old) {
				return nil
			}
			if page = append(page, e.Name); len(page) < sweepPage {
				return nil
			}
			return flush()
		})
		if err == nil {
			err = flush()
		}
		if err != nil {
			return fmt.Errorf("sweep orphans: %w", err)
		}
	}
	return nil
}
