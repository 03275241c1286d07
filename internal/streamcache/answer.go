package streamcache

import (
	"net/http"
	"strconv"
	"sync"
)

// Answer is a finished answer, whatever its form. It is written once.
type Answer struct {
	body *[]byte
	// giveBack returns the memory that was taken for the answer; nil if none was.
	giveBack func()
}

// OnRelease sets a function that returns the memory that was taken for the answer.
func (a *Answer) OnRelease(giveBack func()) { a.giveBack = giveBack }

func (a *Answer) returnMemory() {
	if a.giveBack != nil {
		a.giveBack()
		a.giveBack = nil
	}
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
	a.returnMemory()
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

// ServeHTTP writes the answer and releases it. Its memory counts as that of the response from then on.
func (a *Answer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	a.returnMemory()
	header := w.Header()
	header["Content-Type"] = jsonType
	header["Content-Length"] = []string{strconv.Itoa(len(*a.body))}
	// An error means that the client has gone; the same token brings the same things again.
	_, _ = w.Write(*a.body)
	a.Release()
}
