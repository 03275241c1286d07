package clientsync

import (
	"crypto/sha256"
	"strings"

	"stoa/internal/cache"
	"stoa/internal/store"
	"stoa/internal/who"
	"stoa/matrix/eventfilter"
)

// filterCache holds parsed filters, stored ones and those inside requests: many clients use the same text, and each waiting request
// would hold a copy. A stored filter never changes.
//
// A stored filter is kept as the hash of its text, so that only one of the two caches holds parsed filters.
type filterCache struct {
	stored *cache.Cache[filterKey, textHash]
	texts  *cache.Cache[textHash, parsedFilter]
}

// filterKey names a stored filter.
type filterKey struct {
	user store.UserNum
	id   string
}

// textHash is the SHA-256 hash of the text of a filter.
type textHash [sha256.Size]byte

// parsedFilter is a filter with the length of its text.
type parsedFilter struct {
	filter    *eventfilter.Filter
	textBytes int
}

const (
	// storedFilterBytes bounds the names of stored filters in memory: for 40,000 users with one each.
	storedFilterBytes = 8 << 20
	// parsedFilterBytes bounds the parsed filters in memory: 3,000 different ones of the usual size.
	parsedFilterBytes = 16 << 20
	// filterText is how long the text of a filter that is kept may be, in bytes. Those of the usual clients have some 300.
	filterText = 2048
	// filterPart bounds the memory of a parsed filter for each byte of its text, and filterBase what it has besides.
	filterPart, filterBase = 16, 1024
)

func newFilterCache() *filterCache {
	return &filterCache{
		stored: cache.New(cache.Options[filterKey, textHash]{
			Name: "stored_filters", MaxBytes: storedFilterBytes,
			Size: func(k filterKey, _ textHash) int { return 56 + len(k.id) },
		}),
		texts: cache.New(cache.Options[textHash, parsedFilter]{
			Name: "filters", MaxBytes: parsedFilterBytes,
			Size: func(_ textHash, p parsedFilter) int { return filterBase + filterPart*p.textBytes },
		}),
	}
}

// get returns a stored filter; read reads its text.
func (c *filterCache) get(v who.Device, filterID string, read func() ([]byte, error)) (*eventfilter.Filter, error) {
	key := filterKey{v.UserNum, filterID}
	if hash, ok := c.stored.Get(key); ok {
		if p, ok := c.texts.Get(hash); ok {
			return p.filter, nil
		}
	}
	text, err := read()
	if err != nil {
		return nil, err
	}
	f, err := c.inline(string(text))
	if err != nil || len(text) > filterText {
		return f, err
	}
	key.id = strings.Clone(filterID) // it may be a piece of a request
	c.stored.Add(key, sha256.Sum256(text))
	return f, nil
}

// inline returns the filter with a text.
func (c *filterCache) inline(text string) (*eventfilter.Filter, error) {
	if len(text) > filterText {
		return eventfilter.Parse([]byte(text))
	}
	hash := textHash(sha256.Sum256([]byte(text)))
	if p, ok := c.texts.Get(hash); ok {
		return p.filter, nil
	}
	f, err := eventfilter.Parse([]byte(text))
	if err != nil {
		return nil, err
	}
	c.texts.Add(hash, parsedFilter{f, len(text)})
	return f, nil
}
