package clientsync_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"stoa/internal/store/storetest"
	"stoa/matrix/id"
)

// queue is the queue of answers, whose work is done when the test says so.
type queue struct {
	mu   sync.Mutex
	work []func()
	came chan struct{}
}

func newQueue() *queue { return &queue{came: make(chan struct{}, 1000)} }

func (q *queue) put(work func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.work = append(q.work, work)
	q.came <- struct{}{}
}

// next does the next piece of work.
func (q *queue) next() {
	<-q.came
	q.mu.Lock()
	work := q.work[0]
	q.work = q.work[1:]
	q.mu.Unlock()
	work()
}

// Who sends to a large room waits for the deliveries of what was said there before, and for no other room.
func TestBacklog_slows_who_causes_it(t *testing.T) {
	t.Parallel()
	q := newQueue()
	h := newHouse(t, storetest.SQLite(t), func(o *options) { o.Queue = q.put })
	h.cache.SetFanOut(500, 2, 1000)
	alice := h.person("alice")
	large, small := alice.create(), alice.create()
	for i := range 3 {
		h.person(fmt.Sprint("member", i)).join(large).sync("")
	}
	alice.sync("")
	send := func(r id.RoomID) <-chan struct{} {
		admitted := make(chan struct{})
		go func() {
			defer close(admitted)
			h.cache.AwaitDeliveries(context.Background(), r)
		}()
		return admitted
	}
	say := func(r id.RoomID) {
		alice.say(r, "x")
		alice.must(h.cache.Await(t.Context(), h.store.Head()))
	}
	<-send(large) // nothing is under way
	say(small)
	<-send(small)
	say(large)
	second := h.cache.Delivery(large)
	say(large) // while the first is under way
	third := h.cache.Delivery(large)
	if second == nil || third == nil || second == third {
		t.Fatal("nobody would wait for the deliveries of two messages, one after the other")
	}
	admitted := send(large)
	<-send(small)
	q.next() // the answers for the first,
	q.next() // and the polls that follow
	select {
	case <-second:
	default:
		t.Error("after the deliveries of the first message somebody still waits for them")
	}
	select {
	case <-third:
		t.Error("before the deliveries of the second message nobody waits for them any more")
	default:
	}
	q.next()
	q.next()
	<-admitted
	<-send(large)
	if h.cache.Delivery(large) != nil {
		t.Error("when all is delivered somebody would wait")
	}
}

// The deliveries of a message that is told in batches end with the last batch.
func TestBacklog_of_batches(t *testing.T) {
	t.Parallel()
	q := newQueue()
	h := newHouse(t, storetest.SQLite(t), func(o *options) { o.Queue = q.put })
	const people = 6
	h.cache.SetFanOut(2, 2, 1000)
	alice := h.person("alice")
	r := alice.create()
	var got []<-chan answer
	for i := range people {
		p := h.person(fmt.Sprint("member", i)).join(r)
		p.sync("")
		p.sync("")
	}
	for range 4 * people { // the joins are delivered
		h.cache.NextTick()
	}
	for h.cache.Delivery(r) != nil {
		q.next()
	}
	for i := range people {
		p := h.person(fmt.Sprint("member", i))
		p.sync("")
		got = append(got, p.wait())
	}
	h.cache.AwaitWaiting(t, people)
	alice.say(r, "x")
	alice.must(h.cache.Await(t.Context(), h.store.Head()))
	for h.cache.Wakeups() < people {
		select {
		case <-q.came:
			t.Fatal("the deliveries pass the queue before the last batch")
		default:
		}
		h.cache.NextTick()
	}
	delivered := h.cache.Delivery(r)
	q.next()
	q.next()
	<-delivered
	for _, a := range got {
		<-a
	}
}
