package media

import "time"

// SetGrace changes how long blobs stay that nothing names.
func (m *Media) SetGrace(d time.Duration) { m.grace = d }
