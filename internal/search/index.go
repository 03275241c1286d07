package search

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"stoa/internal/reader"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/searchdb"
	"stoa/internal/textsearch"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
)

// Names in the database.
const (
	readerName  = "search"
	kindRebuild = "search.rebuild"
	kindSweep   = "search.sweep"
)

const (
	// indexPage is the number of events that a rebuild or a sweep reads at a time.
	indexPage = 500
	// batchEvents bounds the events that the reader reads for one batch.
	batchEvents = 2000
	sweepEvery  = 24 * time.Hour
)

// Reader keeps the index up to date.
func (s *Search) Reader() reader.Reader {
	return reader.Reader{
		Name: readerName, FromStart: true, Handle: s.follow,
		Wants: func(row store.StreamRow) bool {
			return row.Kind == store.KindTimeline || row.Kind == store.KindRoomUpdate
		},
	}
}

// Jobs are the kinds of jobs that this package handles.
func (s *Search) Jobs() []reader.Kind {
	return []reader.Kind{
		{Name: kindRebuild, AtOnce: 1, Handle: s.rebuild},
		{Name: kindSweep, AtOnce: 1, Every: sweepEvery, Limit: time.Hour, Handle: func(ctx context.Context, _ *reader.Work) error { return s.sweep(ctx) }},
	}
}

// Rebuild enqueues the job that throws the index away and makes it anew. Until it is done,
// searches find less.
func Rebuild(ctx context.Context, s *store.Store) error {
	c := store.NewChange()
	if err := reader.Enqueue(c, reader.Job{Kind: kindRebuild, Unique: true, Payload: []byte("all")}); err != nil {
		return err
	}
	if _, err := s.Commit(ctx, c); err != nil {
		return fmt.Errorf("enqueue the rebuild of the search index: %w", err)
	}
	return nil
}

// Progress is the progress of a rebuild.
type Progress struct {
	// Began says that a server has begun.
	Began bool `json:"began,omitempty"`
	// Dropping says that the old index is still being deleted.
	Dropping bool `json:"dropping,omitempty"`
	// Done is the number of the last event that was indexed, Of that of the newest event.
	Done store.EventNum `json:"done"`
	Of   store.EventNum `json:"of"`
	// Ended says that no rebuild waits or runs.
	Ended bool `json:"ended,omitempty"`
}

// indexer collects what is indexed in one change.
type indexer struct {
	search    *Search
	read      *store.Read
	change    *store.Change
	encrypted map[store.RoomNum]bool
}

func (s *Search) newIndexer(read *store.Read, c *store.Change) *indexer {
	return &indexer{search: s, read: read, change: c, encrypted: map[store.RoomNum]bool{}}
}

// isEncrypted reports whether the room is encrypted now.
func (x *indexer) isEncrypted(room store.RoomNum) (bool, error) {
	if known, ok := x.encrypted[room]; ok {
		return known, nil
	}
	keys, err := x.search.store.KeyNums(x.read, []store.Pair{{Type: event.TypeEncryption}})
	if err != nil {
		return false, err
	}
	var num store.EventNum
	if keys[0] != 0 {
		if num, err = roomdb.CurrentKey(x.read, room, keys[0]); err != nil {
			return false, err
		}
	}
	x.encrypted[room] = num != 0
	return num != 0, nil
}

// add indexes an event, if it has a text that is searched.
func (x *indexer) add(e roomdb.Event) error {
	const hidden = roomdb.Outlier | roomdb.Rejected | roomdb.SoftFailed | roomdb.Replaced
	if e.Place.Slot == 0 || e.RedactedBy != 0 || e.Standing&hidden != 0 {
		return nil
	}
	isState := e.Key != 0
	if isState == (e.Type == event.TypeMessage) {
		return nil
	}
	content := canonicaljson.Get(e.Bytes, "content")
	if !canonicaljson.IsObject(content) {
		return nil
	}
	key, text, ok := textOf(e.Type, content)
	if !ok {
		return nil
	}
	if encrypted, err := x.isEncrypted(e.Room); err != nil || encrypted {
		return err
	}
	words := textsearch.Tokens(text)
	if len(words) > 0 {
		searchdb.Put(x.change, searchdb.Text{Event: e.Num, Room: e.Room, Sender: e.Sender, Key: key, Words: words})
	}
	return nil
}

// follow handles rows of the stream.
func (s *Search) follow(_ context.Context, read *store.Read, b *reader.Batch) (func(context.Context) error, error) {
	x := s.newIndexer(read, b.Change)
	events := 0
	for i, row := range b.Rows {
		from, to := roomdb.Place{Slot: row.First, Off: roomdb.Start.Off}, roomdb.Place{Slot: row.Last}
		for {
			page, err := roomdb.Timeline(read, row.Room(), from, to, indexPage)
			if err != nil {
				return nil, err
			}
			for _, e := range page {
				if err := x.see(e); err != nil {
					return nil, err
				}
			}
			events += len(page)
			if len(page) < indexPage {
				break
			}
			from = page[len(page)-1].Place
		}
		if events >= batchEvents {
			b.Take(i + 1)
			break
		}
	}
	return nil, nil
}

// see adds an event, or removes what it redacts.
func (x *indexer) see(e roomdb.Event) error {
	if e.Type != event.TypeRedaction {
		return x.add(e)
	}
	redacted, err := searchdb.RedactedBy(x.read, e.Num)
	for _, num := range redacted {
		searchdb.Drop(x.change, num)
	}
	return err
}

// rebuild is the job that indexes all events. Its payload says whether to throw away the
// index first.
func (s *Search) rebuild(ctx context.Context, w *reader.Work) error {
	at := Progress{Began: true, Dropping: len(w.Payload) > 0}
	if w.Progress != nil {
		if err := json.Unmarshal(w.Progress, &at); err != nil {
			return fmt.Errorf("read the progress of the rebuild: %w", err)
		}
	}
	for {
		c := store.NewChange()
		c.LowPriority = true
		done, err := s.rebuildPage(ctx, &at, c)
		if err != nil || done {
			return err
		}
		progress, err := json.Marshal(at)
		if err != nil {
			return err
		}
		if err := w.Save(ctx, progress, c); err != nil {
			return err
		}
	}
}

func (s *Search) rebuildPage(ctx context.Context, at *Progress, c *store.Change) (done bool, err error) {
	err = s.store.Read(ctx, func(read *store.Read) error {
		if at.Dropping {
			left, err := searchdb.Indexed(read, 0, 1)
			if err != nil {
				return err
			}
			searchdb.DropSome(c, indexPage)
			at.Dropping = len(left) > 0
			return nil
		}
		page, err := roomdb.EventsAfter(read, at.Done, indexPage)
		if err != nil {
			return err
		}
		x := s.newIndexer(read, c)
		for _, e := range page {
			if err := x.add(e); err != nil {
				return err
			}
			at.Done = e.Num
		}
		done = len(page) == 0
		at.Of, err = searchdb.Newest(read)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("index messages: %w", err)
	}
	return done, nil
}

// ReadProgress returns the progress of a rebuild.
func ReadProgress(ctx context.Context, s *store.Store) (at Progress, err error) {
	err = s.ReadCommitted(ctx, func(read *store.Read) error {
		progress, waiting, err := reader.Peek(read, kindRebuild, "")
		if errors.Is(err, store.ErrNotFound) || err == nil && !waiting {
			at.Ended = true
			return nil
		}
		if err != nil {
			return err
		}
		if progress != nil {
			if err := json.Unmarshal(progress, &at); err != nil {
				return err
			}
		}
		if at.Of == 0 {
			at.Of, err = searchdb.Newest(read)
		}
		return err
	})
	if err != nil {
		return at, fmt.Errorf("read the progress of the rebuild: %w", err)
	}
	return at, nil
}

// sweep removes the events from the index that are no longer in the store, or that were
// redacted while a rebuild read them.
func (s *Search) sweep(ctx context.Context) error {
	for after := store.EventNum(0); ; {
		c := store.NewChange()
		c.LowPriority = true
		var page []store.EventNum
		err := s.store.Read(ctx, func(read *store.Read) (err error) {
			if page, err = searchdb.Indexed(read, after, indexPage); err != nil {
				return err
			}
			gone, err := searchdb.Gone(read, page)
			for _, num := range gone {
				searchdb.Drop(c, num)
			}
			return err
		})
		if err != nil || len(page) == 0 {
			return err
		}
		after = page[len(page)-1]
		if c.Empty() {
			continue
		}
		if _, err := s.store.Commit(ctx, c); err != nil {
			return fmt.Errorf("remove purged events from the search index: %w", err)
		}
	}
}
