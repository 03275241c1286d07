// Package bus carries short messages between the instances of a server: wake-ups after
// commits, typing, presence.
//
// It owns the connection between the instances, which is of one of three kinds: within a
// process, PostgreSQL notifications, Redis. It never stores a message, and never promises
// delivery: its users work without a lost message, a little later.
//
// The invariant: Publish never blocks. A bus delivers whole messages of other members,
// and never a member's own.
package bus

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TopicHead is the topic of wake-ups: the position up to which another instance has
// committed, in decimal.
const TopicHead = "head"

const (
	// MaxPayload bounds a message, in bytes.
	MaxPayload = 4096
	// maxPacket bounds a packet. In base64 it fits a PostgreSQL notification of less than
	// 8000 bytes.
	maxPacket = 5900
	// queueLimit bounds the queue of unsent messages.
	queueLimit = 4096

	beat     = 2 * time.Second // interval of a member's messages to itself
	deafness = 5 * time.Second // without one for this long, the connection counts as lost
	sendTime = 2 * time.Second // timeout for one packet
	retryMin = 50 * time.Millisecond
	retryMax = time.Second
)

// transport is one kind of connection to the other members.
type transport interface {
	// listen passes the packets of all members, including b, to b.receive until ctx ends
	// or the connection is lost. It calls ready once it misses no more packets.
	listen(ctx context.Context, b *Bus, ready func()) error
	send(ctx context.Context, packets [][]byte) error
	// by names the kind of connection for operators.
	by() string
	close()
}

// Options configure a bus. The zero value works.
type Options struct {
	Log *slog.Logger
	// Registerer registers the metrics; nil = none.
	Registerer prometheus.Registerer
}

// Bus is one member. Its methods may be called concurrently.
type Bus struct {
	log       *slog.Logger
	transport transport
	name      [8]byte // of this member, at the beginning of each packet

	mu    sync.Mutex // guards queue; nothing is locked under it
	queue []message
	wake  chan struct{} // capacity 1

	subscribers sync.RWMutex // guards the fields below; nothing is locked under it
	topics      map[string]map[int]func([]byte)
	connects    map[int]func()
	last        int

	connected atomic.Bool
	heard     atomic.Int64 // when this member last received its own message, in ns of the monotonic clock since began
	began     time.Time
	metrics   busMetrics
}

type message struct {
	topic   string
	payload []byte
}

func newBus(opt Options, t transport) *Bus {
	b := &Bus{
		log: opt.Log, transport: t, wake: make(chan struct{}, 1), began: time.Now(),
		topics: map[string]map[int]func([]byte){}, connects: map[int]func(){},
	}
	rand.Read(b.name[:]) // never fails
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	b.metrics.init(b, opt.Registerer)
	return b
}

// Publish sends a message of at most MaxPayload bytes to the other members that subscribe
// to its topic. It never blocks. If the queue is full or the connection is lost, the
// message is dropped and counted.
func (b *Bus) Publish(topic string, payload []byte) {
	b.mu.Lock()
	full := len(b.queue) >= queueLimit || len(payload) > MaxPayload
	if !full {
		b.queue = append(b.queue, message{topic, payload})
	}
	b.mu.Unlock()
	if full {
		b.metrics.lost.Inc()
		return
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Subscribe calls f with each message of a topic, one after another, until cancel. f must
// not block, since it delays all other messages.
func (b *Bus) Subscribe(topic string, f func(payload []byte)) (cancel func()) {
	b.subscribers.Lock()
	defer b.subscribers.Unlock()
	b.last++
	n := b.last
	if b.topics[topic] == nil {
		b.topics[topic] = map[int]func([]byte){}
	}
	b.topics[topic][n] = f
	return func() {
		b.subscribers.Lock()
		defer b.subscribers.Unlock()
		delete(b.topics[topic], n)
	}
}

// OnConnect calls f each time that this member begins to receive from the others, in no
// particular order with messages. Earlier messages may be lost.
func (b *Bus) OnConnect(f func()) (cancel func()) {
	b.subscribers.Lock()
	defer b.subscribers.Unlock()
	b.last++
	n := b.last
	b.connects[n] = f
	return func() {
		b.subscribers.Lock()
		defer b.subscribers.Unlock()
		delete(b.connects, n)
	}
}

// Healthy reports whether messages arrive, as far as this member can tell: whether it has
// received its own recently.
func (b *Bus) Healthy() bool {
	return b.connected.Load() && b.sinceHeard() < deafness
}

func (b *Bus) sinceHeard() time.Duration { return time.Since(b.began) - time.Duration(b.heard.Load()) }

func (b *Bus) hear() { b.heard.Store(int64(time.Since(b.began))) }

// Run sends and receives messages until ctx ends.
func (b *Bus) Run(ctx context.Context) error {
	defer b.transport.close()
	var both sync.WaitGroup
	both.Go(func() { b.listen(ctx) })
	both.Go(func() { b.send(ctx) })
	both.Wait()
	return nil
}

// listen connects again and again. It logs the first failure and the first success after
// it.
func (b *Bus) listen(ctx context.Context) {
	retry, deaf := retryMin, false
	for {
		err := b.listenOnce(ctx, func() {
			if deaf {
				b.log.Info("the other instances can be heard again")
			}
			deaf = false
		})
		if ctx.Err() != nil {
			return
		}
		if b.connected.Swap(false) {
			retry = retryMin
		} else {
			retry = min(2*retry, retryMax)
		}
		if !deaf {
			deaf = true
			b.log.Warn("the other instances can't be heard; what they write is seen up to a second later", "err", fmt.Errorf("%s: %w", b.transport.by(), err))
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return
		}
	}
}

// listenOnce listens on one connection until it is lost or silent.
func (b *Bus) listenOnce(ctx context.Context, heard func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	b.hear()
	deaf := time.NewTicker(deafness / 5)
	defer deaf.Stop()
	ended := make(chan struct{})
	defer func() { <-ended }()
	defer cancel(nil)
	go func() {
		defer close(ended)
		for {
			select {
			case <-deaf.C:
				if b.sinceHeard() > deafness {
					cancel(fmt.Errorf("nothing was heard for %v", deafness))
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	err := b.transport.listen(ctx, b, func() {
		b.hear()
		b.connected.Store(true)
		heard()
		for _, f := range b.onConnect() {
			f()
		}
	})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (b *Bus) onConnect() []func() {
	b.subscribers.RLock()
	defer b.subscribers.RUnlock()
	list := make([]func(), 0, len(b.connects))
	for _, f := range b.connects {
		list = append(list, f)
	}
	return list
}

// send sends queued messages, and a heartbeat from time to time.
func (b *Bus) send(ctx context.Context) {
	beats := time.NewTicker(beat)
	defer beats.Stop()
	for {
		var list []message
		select {
		case <-b.wake:
		case <-beats.C:
			list = []message{{}}
		case <-ctx.Done():
			return
		}
		b.mu.Lock()
		list = append(list, b.queue...)
		clear(b.queue)
		b.queue = b.queue[:0]
		b.mu.Unlock()
		if len(list) == 0 {
			continue
		}
		sending, cancel := context.WithTimeout(ctx, sendTime)
		err := b.transport.send(sending, b.pack(list))
		cancel()
		if err != nil {
			b.metrics.lost.Add(float64(len(list)))
			b.log.Debug("send to other instances", "err", err)
			continue
		}
		b.metrics.sent.Add(float64(len(list)))
	}
}

// pack encodes messages into packets: the member's name, then for each message the
// lengths of topic and payload, and both.
func (b *Bus) pack(list []message) (packets [][]byte) {
	var p []byte
	for _, m := range list {
		size := 2*binary.MaxVarintLen16 + len(m.topic) + len(m.payload)
		if p == nil || len(p)+size > maxPacket {
			if p != nil {
				packets = append(packets, p)
			}
			p = append(make([]byte, 0, len(b.name)+size), b.name[:]...)
		}
		p = binary.AppendUvarint(p, uint64(len(m.topic)))
		p = append(p, m.topic...)
		p = binary.AppendUvarint(p, uint64(len(m.payload)))
		p = append(p, m.payload...)
	}
	return append(packets, p)
}

// receive decodes a packet. It ignores a malformed one.
func (b *Bus) receive(p []byte) {
	if len(p) < len(b.name) {
		return
	}
	name := [8]byte(p)
	if p = p[len(name):]; name == b.name {
		b.hear()
		return
	}
	for len(p) > 0 {
		topic, rest, ok := field(p)
		if !ok {
			return
		}
		payload, rest, ok := field(rest)
		if !ok {
			return
		}
		p = rest
		b.deliver(string(topic), payload)
	}
}

func field(p []byte) (field, rest []byte, ok bool) {
	n, size := binary.Uvarint(p)
	if size <= 0 || n > uint64(len(p)-size) {
		return nil, nil, false
	}
	p = p[size:]
	return p[:n], p[n:], true
}

func (b *Bus) deliver(topic string, payload []byte) {
	if topic == "" {
		return
	}
	b.metrics.received.Inc()
	b.subscribers.RLock()
	list := make([]func([]byte), 0, len(b.topics[topic]))
	for _, f := range b.topics[topic] {
		list = append(list, f)
	}
	b.subscribers.RUnlock()
	for _, f := range list {
		f(payload)
	}
}

type busMetrics struct {
	sent, received, lost prometheus.Counter
}

func (m *busMetrics) init(b *Bus, r prometheus.Registerer) {
	m.sent = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "stoa_bus_sent_messages_total", Help: "Messages sent to the other instances."})
	m.received = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "stoa_bus_received_messages_total", Help: "Messages received from the other instances."})
	m.lost = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "stoa_bus_lost_messages_total", Help: "Messages to the other instances that could not be sent."})
	healthy := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "stoa_bus_healthy_connections", Help: "1 if this instance receives the messages of the others, else 0."}, func() float64 {
		if b.Healthy() {
			return 1
		}
		return 0
	})
	if r != nil {
		r.MustRegister(m.sent, m.received, m.lost, healthy)
	}
}
