package timeline

// MoreRecent says whether a rather than b is the replacement that counts, both of
// the same event: the later one by the senders' clocks, then by event ID.
//
// Spec: client-server-api#server-side-aggregation-of-mreplace-relationships
func MoreRecent(a, b *Event) bool { return moreRecent(a, b) }
