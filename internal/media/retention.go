package media

import (
	"context"
	"fmt"
	"sync"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/mediadb"
)

const (
	// readsEvery is how often the downloads of this instance are written, each media at most once a day.
	readsEvery = time.Minute
	// maxReads bounds the media whose downloads wait to be written. Beyond it they are not recorded.
	maxReads = 10_000
)

// Retention says how long media of a class is kept; 0 = for ever.
type Retention struct {
	Age    time.Duration // since the upload
	Unused time.Duration // since the upload and the last download
}

// downloads are those of this instance that have yet to be written.
type downloads struct {
	mu   sync.Mutex // guards what follows
	uris map[URI]struct{}
}

// note notes a download, for Retention.Unused.
func (d *downloads) note(row mediadb.Media, now time.Time) {
	if now.UnixMilli()-row.ReadTS < day.Milliseconds() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.uris == nil {
		d.uris = map[URI]struct{}{}
	}
	if len(d.uris) < maxReads {
		d.uris[URI{row.Origin, row.ID}] = struct{}{}
	}
}

// write writes them. They are lost if the process is killed first, which is a minute of a day.
func (d *downloads) write(ctx context.Context, s *store.Store) error {
	d.mu.Lock()
	uris := d.uris
	d.uris = nil
	d.mu.Unlock()
	if len(uris) == 0 {
		return nil
	}
	byOrigin := map[string][]string{}
	for uri := range uris {
		byOrigin[uri.Origin] = append(byOrigin[uri.Origin], uri.ID)
	}
	c := store.NewChange()
	c.LowPriority = true
	for origin, ids := range byOrigin {
		mediadb.SetRead(c, origin, ids)
	}
	_, err := s.Commit(ctx, c)
	return err
}

// Retain deletes media that has outlived the retention of its class, in small changes. What a profile or the current state
// of a room shows stays, and what is in quarantine.
func (m *Media) Retain(ctx context.Context) error {
	for class, keep := range m.retention {
		var after mediadb.At
		for {
			var page []mediadb.Listed
			err := m.store.Read(ctx, func(r *store.Read) (err error) {
				page, err = mediadb.Outlived(r, class, keep.Age.Milliseconds(), keep.Unused.Milliseconds(), after, dropPage)
				return err
			})
			if err != nil {
				return fmt.Errorf("media to delete: %w", err)
			}
			if len(page) == 0 {
				break
			}
			after = page[len(page)-1].At
			n, err := m.dropListed(ctx, page)
			m.deleted.Add(uint64(n))
			if err != nil {
				return fmt.Errorf("delete old media: %w", err)
			}
		}
	}
	return nil
}

// dropListed deletes a page, or, if some of it has changed meanwhile, each that has not.
func (m *Media) dropListed(ctx context.Context, page []mediadb.Listed) (dropped int, err error) {
	c := store.NewChange()
	c.LowPriority = true
	for _, l := range page {
		mediadb.DropMedia(c, l.Media)
	}
	if _, err = m.store.Commit(ctx, c); !changedMeanwhile(err) {
		if err != nil {
			return 0, err
		}
		return len(page), nil
	}
	for _, l := range page {
		c := store.NewChange()
		c.LowPriority = true
		mediadb.DropMedia(c, l.Media)
		switch _, err := m.store.Commit(ctx, c); {
		case err == nil:
			dropped++
		case !changedMeanwhile(err):
			return dropped, err
		}
	}
	return dropped, nil
}
