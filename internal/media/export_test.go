package media

import "time"

// SetGrace changes how long blobs stay that nothing names.
func (m *Media) SetGrace(d time.Duration) { m.grace = d }

// SetNamedGrace changes how long media stays that nothing names any more.
func (m *Media) SetNamedGrace(d time.Duration) { m.namedGrace = d }
