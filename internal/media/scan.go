package media

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"stoa/internal/blob"
	"stoa/internal/reader"
	"stoa/internal/store"
	"stoa/internal/store/mediadb"
)

// kindScan is the kind of the jobs that scan content. The name is in the database.
const kindScan = "media.scan"

// scans has the scanner and counts its verdicts.
type scans struct {
	store                   *store.Store
	scanner                 Scanner // nil: uploads are not scanned
	clean, infected, failed atomic.Uint64
}

// await lets new content wait for the scanner, in the change that keeps it: the job stays until there is a verdict.
func (s *scans) await(c *store.Change, hash []byte) error {
	if s.scanner == nil {
		return nil
	}
	mediadb.MarkUnscanned(c, hash)
	return reader.Enqueue(c, reader.Job{Kind: kindScan, Key: hex.EncodeToString(hash), Unique: true})
}

// scanWaitKey is under which requests wait for the verdict on content.
func scanWaitKey(hash []byte) string { return "scan " + string(hash) }

// Jobs are the kinds of jobs that this package handles. A scanner that does not answer is asked again for ever.
func (m *Media) Jobs() []reader.Kind {
	if m.scans.scanner == nil {
		return nil
	}
	return []reader.Kind{{
		Name: kindScan, AtOnce: 4, Tries: math.MaxInt32, Backoff: reader.Backoff{First: time.Second, Most: time.Minute}, Limit: 10 * time.Minute,
		Handle: func(ctx context.Context, w *reader.Work) error { return m.scans.run(ctx, m, w) },
	}}
}

func (s *scans) run(ctx context.Context, m *Media, w *reader.Work) error {
	hash, err := hex.DecodeString(w.Key)
	if err != nil {
		return err
	}
	var b mediadb.Blob
	waits := false
	err = s.store.Read(ctx, func(r *store.Read) (err error) {
		if b, err = mediadb.BlobByHash(r, hash); err == nil {
			waits, err = mediadb.IsUnscanned(r, hash)
		}
		return err
	})
	if errors.Is(err, store.ErrNotFound) || err == nil && !waits {
		return nil // deleted meanwhile, or scanned before the last run was cut off
	}
	if err != nil {
		return err
	}
	content, err := m.open(ctx, hash)
	var virus string
	if err == nil {
		virus, err = s.scanner.Scan(ctx, content, b.Size)
		err = errors.Join(err, content.Close())
	}
	if errors.Is(err, blob.ErrNotFound) {
		return nil
	}
	if err != nil {
		s.failed.Add(1)
		return fmt.Errorf("scan media: %w", err)
	}
	c := store.NewChange()
	mediadb.MarkScanned(c, hash)
	if virus != "" {
		QuarantineContent(c, hash)
	}
	if _, err := s.store.Commit(ctx, c); err != nil {
		return err
	}
	if virus == "" {
		s.clean.Add(1)
	} else {
		s.infected.Add(1)
		m.log.Warn("an upload is infected; it is in quarantine", "sha256", w.Key, "virus", virus)
	}
	m.pending.end(scanWaitKey(hash))
	return nil
}

var descScans = prometheus.NewDesc("stoa_media_scans_total", "Uploads scanned for viruses, by result: clean, infected, failed (the scanner gave no verdict; it is asked again).", []string{"result"}, nil)

func (s *scans) collect(ch chan<- prometheus.Metric) {
	for result, n := range map[string]uint64{"clean": s.clean.Load(), "infected": s.infected.Load(), "failed": s.failed.Load()} {
		ch <- prometheus.MustNewConstMetric(descScans, prometheus.CounterValue, float64(n), result)
	}
}
