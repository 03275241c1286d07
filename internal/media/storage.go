package media

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"stoa/internal/blob"
	"stoa/internal/store/mediadb"
)

const (
	// checkEvery is how often the storage is checked, checkFailing how often while it fails.
	checkEvery   = 30 * time.Second
	checkFailing = 2 * time.Second
)

// storage is what is known of the place where new blobs go. Only a check changes it: one request that fails may have
// reasons of its own, and asks for a check.
type storage struct {
	wake chan struct{} // capacity 1: a check is wanted

	mu    sync.Mutex // guards err
	err   error      // ErrFull, ErrUnreachable, or another fault; nil = it works
	fails uint64
}

// see asks for a check if an error may be the storage's. It returns the error.
func (s *storage) see(err error) error {
	if errors.Is(err, blob.ErrFull) || errors.Is(err, blob.ErrUnreachable) {
		select {
		case s.wake <- struct{}{}:
		default:
		}
		s.mu.Lock()
		s.fails++
		s.mu.Unlock()
	}
	return err
}

// Healthy returns why uploads can't be kept now, as the last check has found: blob.ErrFull, blob.ErrUnreachable or a fault.
// It asks nobody.
func (m *Media) Healthy() error {
	m.storage.mu.Lock()
	defer m.storage.mu.Unlock()
	return m.storage.err
}

// Check asks the storage, and notes what it finds for Healthy.
func (m *Media) Check(ctx context.Context) error {
	err := m.places[m.target].Check(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m.storage.mu.Lock()
	before := m.storage.err
	m.storage.err = err
	m.storage.mu.Unlock()
	switch {
	case err != nil && before == nil:
		m.log.Error("uploads can't be kept; they are refused until the storage works again", "err", err)
	case err == nil && before != nil:
		m.log.Info("the storage of uploads works again")
	}
	return err
}

// Run checks the storage from time to time, and at once when it fails, and writes what was downloaded, until ctx ends. A
// folder that works is not checked, since that writes to the disk.
func (m *Media) Run(ctx context.Context) error {
	check := time.NewTimer(0)
	defer check.Stop()
	if m.target == mediadb.PlaceFolder {
		check.Stop()
	}
	reads := time.NewTicker(readsEvery)
	defer reads.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-reads.C:
			if err := m.downloads.write(ctx, m.store); err != nil && ctx.Err() == nil {
				m.log.Warn("downloads were not recorded", "err", err)
			}
			continue
		case <-m.storage.wake:
		case <-check.C:
		}
		if m.Check(ctx) != nil {
			check.Reset(checkFailing)
		} else if m.target != mediadb.PlaceFolder {
			check.Reset(checkEvery)
		}
	}
}

// watched is the content of a blob that remembers a failure of the storage.
type watched struct {
	blob.Content
	m   *Media
	err error
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Content.Read(p)
	if err != nil && err != io.EOF {
		w.err = w.m.storage.see(err)
	}
	return n, err
}

var (
	descFails = prometheus.NewDesc("stoa_media_storage_failures_total", "Uploads and downloads that failed because the storage was full or could not be reached.", nil, nil)
	descGone  = prometheus.NewDesc("stoa_media_deleted_total", "Uploads deleted because nothing named them any more, or by the retention settings.", nil, nil)
	descUp    = prometheus.NewDesc("stoa_media_storage_up", "Whether uploads can be kept: 1, or 0 while the storage is full or can't be reached.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (m *Media) Describe(ch chan<- *prometheus.Desc) {
	ch <- descFails
	ch <- descGone
	ch <- descUp
	ch <- descScans
}

// Collect implements [prometheus.Collector].
func (m *Media) Collect(ch chan<- prometheus.Metric) {
	m.storage.mu.Lock()
	fails, up := m.storage.fails, 0.0
	if m.storage.err == nil {
		up = 1
	}
	m.storage.mu.Unlock()
	ch <- prometheus.MustNewConstMetric(descFails, prometheus.CounterValue, float64(fails))
	ch <- prometheus.MustNewConstMetric(descGone, prometheus.CounterValue, float64(m.deleted.Load()))
	ch <- prometheus.MustNewConstMetric(descUp, prometheus.GaugeValue, up)
	m.scans.collect(ch)
}
