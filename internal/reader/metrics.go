package reader

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	readerLabel = []string{"reader"}
	jobLabel    = []string{"job"}

	descLag      = prometheus.NewDesc("stoa_reader_lag_seconds", "Age of the oldest row that a reader has received and not processed.", readerLabel, nil)
	descShards   = prometheus.NewDesc("stoa_reader_shards", "Shards of a reader that this instance owns.", readerLabel, nil)
	descRows     = prometheus.NewDesc("stoa_reader_rows_total", "Rows of the stream that a reader has processed.", readerLabel, nil)
	descReads    = prometheus.NewDesc("stoa_reader_reads_total", "Reads of the stream for a reader.", readerLabel, nil)
	descFailures = prometheus.NewDesc("stoa_reader_failures_total", "Batches that a reader failed to process; they are retried.", readerLabel, nil)
	descAside    = prometheus.NewDesc("stoa_reader_set_aside_total", "Rows of the stream that a reader set aside after too many failures.", readerLabel, nil)
	descTrimmed  = prometheus.NewDesc("stoa_reader_horizon_passed_total", "Shards of a reader that missed rows because the stream no longer had them.", readerLabel, nil)
	descMoves    = prometheus.NewDesc("stoa_reader_moves_total", "Changes that moved a cursor of a reader, with what it wrote.", readerLabel, nil)
	descFenced   = prometheus.NewDesc("stoa_reader_fenced_total", "Batches whose cursor had moved to another owner.", readerLabel, nil)

	descJobs        = prometheus.NewDesc("stoa_reader_jobs_total", "Successful runs of jobs.", jobLabel, nil)
	descJobFailed   = prometheus.NewDesc("stoa_reader_job_failures_total", "Failed runs of jobs; they are retried.", jobLabel, nil)
	descJobAside    = prometheus.NewDesc("stoa_reader_jobs_set_aside_total", "Jobs set aside after too many failures.", jobLabel, nil)
	descJobLost     = prometheus.NewDesc("stoa_reader_jobs_fenced_total", "Runs of jobs that were replaced or taken over in the meantime.", jobLabel, nil)
	descJobRuns     = prometheus.NewDesc("stoa_reader_jobs_running", "Jobs running on this instance.", jobLabel, nil)
	descJobLateness = prometheus.NewDesc("stoa_reader_jobs_late_seconds", "Time since the oldest waiting job of this instance was due.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (r *Runner) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descLag, descShards, descRows, descReads, descFailures, descAside, descTrimmed, descMoves, descFenced,
		descJobs, descJobFailed, descJobAside, descJobLost, descJobRuns, descJobLateness} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (r *Runner) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	for _, f := range r.followers {
		m, name := &f.metrics, f.def.Name
		late := 0.0
		if since := m.late.Load(); since != nil {
			late = time.Since(*since).Seconds()
		}
		gauge(descLag, late, name)
		gauge(descShards, float64(m.owned.Load()), name)
		count(descRows, m.rows.Load(), name)
		count(descReads, m.reads.Load(), name)
		count(descFailures, m.failures.Load(), name)
		count(descAside, m.aside.Load(), name)
		count(descTrimmed, m.trimmed.Load(), name)
		count(descMoves, m.moves.Load(), name)
		count(descFenced, m.fenced.Load(), name)
	}
	j := r.jobs
	for name, k := range j.kinds {
		j.mu.Lock()
		runs := k.runs
		j.mu.Unlock()
		gauge(descJobRuns, float64(runs), name)
		count(descJobs, k.done.Load(), name)
		count(descJobFailed, k.failed.Load(), name)
		count(descJobAside, k.aside.Load(), name)
		count(descJobLost, k.lost.Load(), name)
	}
	gauge(descJobLateness, (time.Duration(j.late.Load()) * time.Millisecond).Seconds())
}
