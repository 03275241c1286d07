package streamcache_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"stoa/internal/clientsync/synctest"
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
	h := synctest.NewHouse(t, storetest.SQLite(t), func(o *synctest.Options) { o.Queue = q.put })
	h.Cache.SetFanOut(500, 2, 1000)
	alice := h.Person("alice")
	large, small := alice.Create(), alice.Create()
	for i := range 3 {
		h.Person(fmt.Sprint("member", i)).Join(large).Sync("")
	}
	alice.Sync("")
	send := func(r id.RoomID) <-chan struct{} {
		admitted := make(chan struct{})
		go func() {
			defer close(admitted)
			h.Cache.AwaitDeliveries(context.Background(), r)
		}()
		return admitted
	}
	say := func(r id.RoomID) {
		alice.Say(r, "x")
		alice.Must(h.Cache.Await(t.Context(), h.Store.Head()))
	}
	<-send(large) // nothing is under way
	say(small)
	<-send(small)
	say(large)
	second := h.Cache.Delivery(large)
	say(large) // while the first is under way
	third := h.Cache.Delivery(large)
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
	if h.Cache.Delivery(large) != nil {
		t.Error("when all is delivered somebody would wait")
	}
}

// The deliveries of a message that is told in batches end with the last batch.
func TestBacklog_of_batches(t *testing.T) {
	t.Parallel()
	q := newQueue()
	h := synctest.NewHouse(t, storetest.SQLite(t), func(o *synctest.Options) { o.Queue = q.put })
	const people = 6
	h.Cache.SetFanOut(2, 2, 1000)
	alice := h.Person("alice")
	r := alice.Create()
	var got []<-chan synctest.Answer
	for i := range people {
		p := h.Person(fmt.Sprint("member", i)).Join(r)
		p.Sync("")
		p.Sync("")
	}
	for range 4 * people { // the joins are delivered
		h.Cache.NextTick()
	}
	for h.Cache.Delivery(r) != nil {
		q.next()
	}
	for i := range people {
		p := h.Person(fmt.Sprint("member", i))
		p.Sync("")
		got = append(got, p.Wait())
	}
	h.AwaitWaiting(people)
	alice.Say(r, "x")
	alice.Must(h.Cache.Await(t.Context(), h.Store.Head()))
	for h.Wakeups() < people {
		select {
		case <-q.came:
			t.Fatal("the deliveries pass the queue before the last batch")
		default:
		}
		h.Cache.NextTick()
	}
	delivered := h.Cache.Delivery(r)
	for len(q.came) == 0 { // the pass comes one tick after the last batch
		h.Cache.NextTick()
	}
	q.next()
	q.next()
	<-delivered
	for _, a := range got {
		<-a
	}
}
