package clientsync

import (
	"stoa/internal/store"
	"stoa/internal/who"
	"stoa/matrix/eventfilter"
	"strings"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// filterCache holds parsed filters, stored ones and those inside requests: many clients use the same text, and each waiting request
// would hold a copy. A stored filter never changes.
type filterCache struct {
	mu     sync.Mutex // guards all below
	stored *simplelru.LRU[filterKey, *eventfilter.Filter]
	texts  *simplelru.LRU[string, *eventfilter.Filter]
}

// filterKey names a stored filter.
type filterKey struct {
	user store.UserNum
	id   string
}

const (
	// storedFilters bounds the stored filters in memory: every user has one, and most of them the same.
	storedFilters = 1 << 15
	// filterTexts bounds the different texts in memory.
	filterTexts = 1024
	// filterText is how long the text of a filter that is kept may be, in bytes. Those of the usual clients have some 300.
	filterText = 2048
)

func newFilterCache() *filterCache {
	return &filterCache{
		stored: newLRU[filterKey](storedFilters),
		texts:  newLRU[string](filterTexts),
	}
}

func newLRU[K comparable](size int) *simplelru.LRU[K, *eventfilter.Filter] {
	l, err := simplelru.NewLRU[K, *eventfilter.Filter](size, nil)
	if err != nil {
		panic(err) // only a size below 1 fails
	}
	return l
}

// get returns a stored filter; read reads its text.
func (c *filterCache) get(v who.Device, filterID string, read func() ([]byte, error)) (*eventfilter.Filter, error) {
	key := filterKey{v.UserNum, filterID}
	c.mu.Lock()
	f, ok := c.stored.Get(key)
	c.mu.Unlock()
	if ok {
		return f, nil
	}
	text, err := read()
	if err != nil {
		return nil, err
	}
	f, err = c.inline(string(text))
	if err != nil || len(text) > filterText {
		return f, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key.id = strings.Clone(filterID) // it may be a piece of a request
	c.stored.Add(key, f)
	return f, nil
}

// inline returns the filter with a text.
func (c *filterCache) inline(text string) (*eventfilter.Filter, error) {
	if len(text) > filterText {
		return eventfilter.Parse([]byte(text))
	}
	c.mu.Lock()
	f, ok := c.texts.Get(text)
	c.mu.Unlock()
	if ok {
		return f, nil
	}
	f, err := eventfilter.Parse([]byte(text))
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.texts.Add(strings.Clone(text), f) // it may be a piece of a request
	return f, nil
}
