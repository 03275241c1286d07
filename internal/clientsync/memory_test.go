package clientsync_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"stoa/internal/clientsync/synctest"
	"stoa/internal/httpkit"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/matrix/mxerr"
)

// countedMemory is a budget that notes what was taken.
type countedMemory struct {
	*httpkit.AnswerBudget

	mu       sync.Mutex
	most     int64
	now      int64
	byTrying bool
}

func (m *countedMemory) Take(ctx context.Context, user string, n int64) error {
	err := m.AnswerBudget.Take(ctx, user, n)
	if err == nil {
		m.note(n)
	}
	return err
}

func (m *countedMemory) TryTake(user string, n int64) error {
	m.byTrying = true
	err := m.AnswerBudget.TryTake(user, n)
	if err == nil {
		m.note(n)
	}
	return err
}

func (m *countedMemory) Add(user string, n int64) {
	m.AnswerBudget.Add(user, n)
	m.note(n)
}

func (m *countedMemory) note(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now += n
	m.most = max(m.most, m.now)
}

// The memory of every large answer counts, wherever it comes from, until it was written.
func TestLargeAnswersCount(t *testing.T) {
	t.Parallel()
	for name, records := range map[string]int{"from memory": 0, "from the store": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
				memory := &countedMemory{AnswerBudget: httpkit.NewAnswerBudget(1 << 20)}
				h := synctest.NewServer(t, open(), func(o *synctest.Options) { o.RingRecords, o.Memory = records, memory })
				alice, bob, r := h.Pair()
				alice.Say(r, "a small one")
				bob.Sync("")
				if memory.most != 0 {
					h.T.Errorf("a small answer takes %d bytes", memory.most)
				}
				before := *bob
				for range 5 {
					alice.Say(r, strings.Repeat("x", 50_000))
				}
				bob.Sync("")
				if memory.most < 250_000 || memory.most > 300_000 || memory.now != 0 {
					h.T.Errorf("an answer of 250 KB took %d bytes, and %d remain", memory.most, memory.now)
				}
				if memory.byTrying != (records == 1) {
					h.T.Errorf("tried: %v", memory.byTrying)
				}
				if records == 0 {
					return // it would wait for 10 s
				}
				memory.AnswerBudget.Add("@eve:stoa.test", 900_000)
				_, err := before.TrySync(h.T.Context(), "")
				var refused *mxerr.Error
				if !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable {
					h.T.Errorf("an answer without memory: %v", err)
				}
				memory.AnswerBudget.Add("@eve:stoa.test", -900_000)
				if _, err := before.TrySync(h.T.Context(), ""); err != nil || memory.now != 0 {
					h.T.Errorf("%v, and %d bytes remain", err, memory.now)
				}
			})
		})
	}
}
