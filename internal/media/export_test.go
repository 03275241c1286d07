package media

import (
	"context"
	"time"
)

// SetGrace changes how long blobs stay that nothing names.
func (m *Media) SetGrace(d time.Duration) { m.grace = d }

// SetNamedGrace changes how long media stays that nothing names any more.
func (m *Media) SetNamedGrace(d time.Duration) { m.namedGrace = d }

// WriteReads writes the noted downloads.
func (m *Media) WriteReads(ctx context.Context) error { return m.downloads.write(ctx, m.store) }
