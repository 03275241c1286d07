package store

import "sync/atomic"

// storeMetrics are counted where things happen and read by telemetry.
type storeMetrics struct {
	groups, changes, conflicts atomic.Int64
}
