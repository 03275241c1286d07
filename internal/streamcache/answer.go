package streamcache

import (
	"net/http"
	"strconv"
	"sync"
)

// Answer is a finished answer, whatever its form. It is written once.
type Answer struct {
	body *[]byte
}

// bodies are the buffers of answers, largeBodies those of answers from the store. A buffer that has grown beyond
// maxLargeBody is not kept.
var (
	bodies      = sync.Pool{New: func() any { return new([]byte) }}
	largeBodies = sync.Pool{New: func() any { return new([]byte) }}
)

const (
	maxBody      = 64 << 10
	maxLargeBody = 16 << 20
)

// NewAnswer returns an empty answer; large if it will be read from the store.
func NewAnswer(large bool) *Answer {
	pool := &bodies
	if large {
		pool = &largeBodies
	}
	return &Answer{body: pool.Get().(*[]byte)}
}

// SetBody sets the JSON text, which was appended to the end of Body.
func (a *Answer) SetBody(body []byte) { *a.body = body }

// Body is the JSON text. It may not be used after Release.
func (a *Answer) Body() []byte { return *a.body }

// Release gives the memory of the body back.
func (a *Answer) Release() {
	*a.body = (*a.body)[:0]
	switch size := cap(*a.body); {
	case size <= maxBody:
		bodies.Put(a.body)
	case size <= maxLargeBody:
		largeBodies.Put(a.body)
	}
	a.body = nil
}

var jsonType = []string{"application/json"}

// ServeHTTP writes the answer and releases it.
func (a *Answer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	header["Content-Type"] = jsonType
	header["Content-Length"] = []string{strconv.Itoa(len(*a.body))}
	// An error means that the client has gone; the same token brings the same things again.
	_, _ = w.Write(*a.body)
	a.Release()
}
