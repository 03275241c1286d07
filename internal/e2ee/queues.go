package e2ee

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"stoa/internal/store"
	"stoa/internal/store/keydb"
)

// queues keeps the messages that wait for a device within their bounds. A queue is looked at once in checkEvery messages, so it
// may become longer than its bound by that many on each instance.
type queues struct {
	refused atomic.Uint64

	mu   sync.Mutex        // guards left; nothing is taken after it
	left map[deviceKey]int // messages until the next look; below 0: refusals until then
}

const (
	checkEvery = 32
	// queuesKept bounds the devices remembered; what is forgotten is looked at again.
	queuesKept = 50_000
)

var descQueues = prometheus.NewDesc("stoa_e2ee_refused_messages_total",
	"Messages to devices that were not kept because too many wait for the device.", nil, nil)

// Describe implements prometheus.Collector.
func (k *Keys) Describe(ch chan<- *prometheus.Desc) { ch <- descQueues }

// Collect implements prometheus.Collector.
func (k *Keys) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(descQueues, prometheus.CounterValue, float64(k.queues.refused.Load()))
}

// admit reports whether a device's queue takes one more message.
func (q *queues) admit(r *store.Read, user store.UserNum, deviceID string) (bool, error) {
	key := deviceKey{user, deviceID}
	if left, known := q.step(key); known {
		return left > 0, nil
	}
	count, bytes, err := keydb.QueueSize(r, user, deviceID, maxQueue)
	if err != nil {
		return false, fmt.Errorf("look at the queue of device %s: %w", deviceID, err)
	}
	fits := count < maxQueue && bytes < maxQueueBytes
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.left) >= queuesKept {
		clear(q.left)
	}
	q.left[key] = checkEvery
	if !fits {
		q.left[key] = -checkEvery
		q.refused.Add(1)
	}
	return fits, nil
}

// step counts a message; it is not known once a look is due.
func (q *queues) step(key deviceKey) (left int, known bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	left = q.left[key]
	switch {
	case left > 0:
		q.left[key]--
	case left < 0:
		q.left[key]++
		q.refused.Add(1)
	default:
		delete(q.left, key)
	}
	return left, left != 0
}

// forget has a queue looked at again: its device has taken messages.
func (q *queues) forget(key deviceKey) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.left, key)
}
