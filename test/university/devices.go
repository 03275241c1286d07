package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// webFilter is what web clients sync with.
const webFilter = `{"room":{"timeline":{"limit":20,"unread_thread_notifications":true},"state":{"lazy_load_members":true}}}`

// gaplessFilter asks for so many events that what is sent while an answer is on its way leaves no gap in the timeline.
const gaplessFilter = `{"room":{"timeline":{"limit":20000},"state":{"lazy_load_members":true}}}`

const (
	pollTimeout = 30 * time.Second
	// gateWidth is how many devices of one process make their first sync at once.
	gateWidth = 8
	// receiptConnections are so many that receipts don't wait for one.
	receiptConnections = 64
	// lectureConnections are so many for those of a lecture.
	lectureConnections = 300
	// retryAfter is when a device tries again whose request failed.
	retryAfter = time.Second
)

// devicesSpec: one process holds the same device of everybody.
type devicesSpec struct {
	Addresses []string // of the devices in turn
	Device    int
	People    int
	Start     int64 // ns since 1970, from which records count
	Rooms     []devicesRoom
	Filter    string // of syncs
	Parses    bool   // answers are decoded whole, which takes a client's time
	Records   string // file to write at the end
	// ReceiptEvery: one delivery in so many is marked as read, in rooms up to receiptRooms members. 0: none is.
	ReceiptEvery int
	// ReceiptPeriod: each device marks what it has seen last in one of its rooms as read once in this time. 0: it does not.
	ReceiptPeriod time.Duration
	// Senders is how many number their messages; 0: messages are not numbered.
	Senders int
}

type devicesRoom struct {
	ID      string
	Members int
}

// devicesResult is printed at the end.
type devicesResult struct {
	Answers, Receipts, ReceiptsLost, ReceiptsFailed int
	Failures                                        int // requests of devices that were not answered with a 200
	LastFailure                                     string
	Skipped                                         int      // messages that a limited timeline left out: a client reads them from /messages
	ReceiptUS                                       []uint32 // how long each answer to a receipt took, from when it was wanted
}

// Lines that a device pool prints before its result.
const (
	lineReady = "ready\n" // everybody waits
	lineAll   = "all\n"   // everything expected was seen
)

// record is a delivery: one message in one device's answer.
type record struct {
	DueMS     uint32 // after the start
	LatencyUS uint32
	Room      uint32
}

const recordSize = 12

// What a device is about.
type stage uint8

const (
	absent    stage = iota // not connected
	filtering              // uploads its filter
	arriving               // makes its first sync
	waiting                // is in a long poll
)

// device is a client, without goroutine and, between answers, without buffer.
type device struct {
	fd      int
	stage   stage
	person  int
	token   string
	filter  string
	since   []byte
	partial []byte // of an answer
	unread  []unread
	senders []sender
}

// sender is what a device has seen of somebody who numbers their messages.
type sender struct {
	next    int   // number
	due     int64 // of the message before, ns since 1970
	limited bool  // an answer since left out a part of the timeline
}

// devicePool is one process full of devices: a single loop over epoll answers to what
// comes, as a goroutine for each device would take more of the machine than the
// server may.
type devicePool struct {
	spec       devicesSpec
	addresses  []syscall.Sockaddr
	epoll      int
	devices    []device
	in, out    []byte
	entered    int // devices that were begun
	inGate     int
	present    int
	again      []retry
	receipts   *chorus
	deliveries int // deliveries in rooms with receipts
	records    []record
	result     devicesResult
	lost       atomic.Int64
	failed     atomic.Int64
	stopped    atomic.Bool
	begins     atomic.Bool  // the measured time
	expected   atomic.Int64 // records, when that is known
	reader     int          // the device whose turn it is to mark as read
	round      int          // how often all have had a turn
	began      time.Time    // the first round
	mu         sync.Mutex   // guards result.ReceiptUS
	ready      bool
	shown      time.Time
}

type retry struct {
	at     time.Time
	device int
}

// runDevices is a client process. It prints "ready" when everybody waits, counts from
// a line on its standard input on, goes on until that ends, and prints its result.
func runDevices(file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	c := &devicePool{in: make([]byte, 1<<20)}
	if err := json.Unmarshal(raw, &c.spec); err != nil {
		return err
	}
	for _, address := range c.spec.Addresses {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		c.addresses = append(c.addresses, &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()})
	}
	if c.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("make an epoll instance: %w", err)
	}
	c.devices = make([]device, c.spec.People)
	for i := range c.devices {
		c.devices[i] = device{fd: -1, person: i, token: accessToken(i, c.spec.Device), senders: make([]sender, c.spec.Senders)}
	}
	connections := receiptConnections
	if c.spec.ReceiptPeriod > 0 {
		connections = lectureConnections
	}
	c.receipts = newChorus(c.spec.Addresses, connections, 10000)
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			if n, ok := strings.CutPrefix(lines.Text(), "expect "); ok {
				expected, _ := strconv.Atoi(n) // the parent wrote it
				c.expected.Store(int64(expected))
				continue
			}
			c.begins.Store(true)
		}
		c.stopped.Store(true) // the parent says so, or is gone
	}()
	if err := c.loop(); err != nil {
		return err
	}
	c.receipts.end()
	c.result.ReceiptsLost, c.result.ReceiptsFailed = int(c.lost.Load()), int(c.failed.Load())
	if err := writeRecords(c.spec.Records, c.records); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(c.result)
}

// loop serves the devices until it is told to stop.
func (c *devicePool) loop() error {
	runtime.LockOSThread()
	events := make([]syscall.EpollEvent, 256)
	for !c.stopped.Load() {
		if c.begins.CompareAndSwap(true, false) {
			c.result.Answers, c.result.Receipts = 0, 0
			c.mu.Lock()
			c.result.ReceiptUS = nil
			c.mu.Unlock()
		}
		if n := c.expected.Load(); n > 0 && int64(len(c.records)) >= n {
			c.expected.Store(0)
			if _, err := fmt.Print(lineAll); err != nil {
				return err
			}
		}
		c.readSome()
		if err := c.admit(); err != nil {
			return err
		}
		n, err := syscall.EpollWait(c.epoll, events, 50)
		if err != nil && err != syscall.EINTR {
			return fmt.Errorf("wait for answers: %w", err)
		}
		for i := range max(n, 0) {
			d := &c.devices[events[i].Fd]
			if err := c.readable(d); err != nil {
				c.fail(d, err.Error())
			}
		}
	}
	return nil
}

// admit lets further devices in, and those again whose requests failed.
func (c *devicePool) admit() error {
	now := time.Now()
	for len(c.again) > 0 && now.After(c.again[0].at) {
		d := &c.devices[c.again[0].device]
		c.again = c.again[1:]
		if err := c.next(d); err != nil {
			c.fail(d, err.Error())
		}
	}
	for c.inGate < gateWidth && c.entered < len(c.devices) {
		d := &c.devices[c.entered]
		c.entered++
		c.inGate++
		d.stage = filtering
		if err := c.next(d); err != nil {
			c.fail(d, err.Error())
		}
	}
	if now.Sub(c.shown) > 10*time.Second && !c.ready {
		c.shown = now
		fmt.Fprintf(os.Stderr, "%d of %d devices wait\n", c.present, len(c.devices))
	}
	if c.present == len(c.devices) && !c.ready {
		c.ready = true
		if _, err := fmt.Print(lineReady); err != nil {
			return err
		}
	}
	return nil
}

// fail notes a failure; the device tries again a little later.
func (c *devicePool) fail(d *device, why string) {
	c.result.Failures++
	c.result.LastFailure = why
	if c.result.Failures <= 20 {
		fmt.Fprintf(os.Stderr, "device %d of %d: %s\n", c.spec.Device, d.person, why)
	}
	c.hangUp(d)
	c.again = append(c.again, retry{time.Now().Add(retryAfter), d.person})
}

func (c *devicePool) hangUp(d *device) {
	if d.fd >= 0 {
		_ = syscall.Close(d.fd) // epoll forgets it with that
	}
	d.fd, d.partial = -1, nil
}

// next sends the request that a device's stage asks for.
func (c *devicePool) next(d *device) error {
	if d.fd < 0 {
		if err := c.connect(d); err != nil {
			return err
		}
	}
	switch d.stage {
	case filtering:
		c.out = appendRequest(c.out[:0], "POST", "/_matrix/client/v3/user/"+url.PathEscape(userName(d.person))+"/filter", d.token, []byte(c.spec.Filter))
	case arriving:
		c.out = appendRequest(c.out[:0], "GET", "/_matrix/client/v3/sync?timeout=0&filter="+d.filter, d.token, nil)
	default:
		target := append(make([]byte, 0, 128), "/_matrix/client/v3/sync?timeout="...)
		target = strconv.AppendInt(target, pollTimeout.Milliseconds(), 10)
		target = append(append(target, "&filter="...), d.filter...)
		target = append(append(target, "&since="...), d.since...)
		c.out = appendRequest(c.out[:0], "GET", string(target), d.token, nil)
	}
	n, err := syscall.Write(d.fd, c.out)
	if err == nil && n < len(c.out) {
		err = io.ErrShortWrite // a request is small, and nothing else is on its way
	}
	return err
}

// connect opens a device's connection.
func (c *devicePool) connect(d *device) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a socket: %w", err)
	}
	d.fd = fd
	if err := syscall.Connect(fd, c.addresses[d.person%len(c.addresses)]); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	e := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP, Fd: int32(d.person)}
	return errors.Join(syscall.SetNonblock(fd, true), syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1),
		syscall.EpollCtl(c.epoll, syscall.EPOLL_CTL_ADD, fd, &e))
}

// readable reads what has come, and goes on when it is a whole answer.
func (c *devicePool) readable(d *device) error {
	if d.fd < 0 {
		return nil // closed a moment ago
	}
	n, err := syscall.Read(d.fd, c.in)
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return nil
	case err != nil:
		return fmt.Errorf("read an answer: %w", err)
	case n == 0:
		return errors.New("the server closed the connection")
	}
	b := c.in[:n]
	if d.partial != nil {
		d.partial = append(d.partial, b...)
		b = d.partial
	}
	status, body, length, last, err := parseAnswer(b)
	switch {
	case err != nil:
		return err
	case length == 0:
		if d.partial == nil {
			d.partial = append([]byte(nil), b...)
		}
		return nil
	case status != 200:
		return fmt.Errorf("%d %s", status, body)
	}
	if err := c.take(d, body); err != nil {
		return err
	}
	d.partial = nil
	if last {
		c.hangUp(d)
	}
	return c.next(d)
}

// take takes an answer.
func (c *devicePool) take(d *device, body []byte) error {
	if d.stage == filtering {
		if d.filter = string(field(body, keyFilterID)); d.filter == "" {
			return fmt.Errorf("no filter ID in %s", body)
		}
		d.stage = arriving
		return nil
	}
	if d.stage == waiting {
		if c.spec.Parses {
			var answer any
			if err := json.Unmarshal(body, &answer); err != nil {
				return fmt.Errorf("read an answer: %w", err)
			}
		}
		c.result.Answers++
		c.see(d, body)
	}
	since := field(lastPart(body), keyNextBatch)
	if len(since) == 0 {
		if since = field(body, keyNextBatch); len(since) == 0 {
			return fmt.Errorf("no next_batch in an answer of %d bytes", len(body))
		}
	}
	d.since = append(d.since[:0], since...)
	if d.stage == arriving {
		d.stage = waiting
		c.inGate--
		c.present++
	}
	return nil
}

// lastPart is where the server puts the token.
func lastPart(body []byte) []byte { return body[max(0, len(body)-256):] }

// receiptRooms have so many members at most.
const receiptRooms = 100

// see notes the messages of an answer and marks some of them as read.
func (c *devicePool) see(d *device, body []byte) {
	now := time.Now().UnixNano()
	if len(d.senders) > 0 && bytes.Contains(body, []byte(`"limited":true`)) {
		for i := range d.senders {
			d.senders[i].limited = true
		}
	}
	eachStamp(body, func(due int64, room int, rest []byte) {
		if room >= len(c.spec.Rooms) || due < c.spec.Start {
			return
		}
		c.skipped(d, now, due, room, rest)
		c.note(now, due, room)
		if c.spec.ReceiptPeriod > 0 {
			d.sees(room, field(rest, keyEventID))
		}
		if c.spec.ReceiptEvery == 0 || c.spec.Rooms[room].Members > receiptRooms {
			return
		}
		if c.deliveries++; c.deliveries%c.spec.ReceiptEvery == 0 {
			c.markRead(d, room, field(rest, keyEventID))
		}
	})
}

// note records a delivery.
func (c *devicePool) note(now, due int64, room int) {
	c.records = append(c.records, record{
		DueMS: uint32((due - c.spec.Start) / 1e6), LatencyUS: uint32(max(now-due, 0) / 1000), Room: uint32(room),
	})
}

// skipped takes the messages for delivered now that limited timelines left out before a numbered one. When they were due is
// estimated: they are spread evenly over the time between those before and after them. What is missing without a limited timeline
// is not delivered.
func (c *devicePool) skipped(d *device, now, due int64, room int, rest []byte) {
	from, number, ok := senderNumber(rest)
	if !ok || from >= len(d.senders) {
		return
	}
	s := &d.senders[from]
	if s.due == 0 {
		s.due = c.spec.Start
	}
	if n := number - s.next; n > 0 && s.limited {
		c.result.Skipped += n
		for i := range n {
			c.note(now, s.due+(due-s.due)*int64(i+1)/int64(n+1), room)
		}
	}
	*s = sender{next: number + 1, due: due}
}

// markRead queues a receipt.
func (c *devicePool) markRead(d *device, room int, eventID []byte) {
	target := "/_matrix/client/v3/rooms/" + url.PathEscape(c.spec.Rooms[room].ID) + "/receipt/m.read/" + url.PathEscape(string(eventID))
	begin := time.Now()
	done := func(err error) {
		took := time.Since(begin)
		if err != nil && c.failed.Add(1) <= 5 {
			fmt.Fprintf(os.Stderr, "receipt: %v\n", err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.result.ReceiptUS = append(c.result.ReceiptUS, uint32(took.Microseconds()))
	}
	select {
	case c.receipts.jobs <- job{method: "POST", target: target, token: d.token, body: []byte("{}"), done: done}:
		c.result.Receipts++
	default:
		c.lost.Add(1)
	}
}

// unread is the last message that a device has seen in a room and not marked as read.
type unread struct {
	room    int
	eventID []byte
}

// sees notes what a device has seen last in a room.
func (d *device) sees(room int, eventID []byte) {
	for i := range d.unread {
		if u := &d.unread[i]; u.room == room {
			u.eventID = append(u.eventID[:0], eventID...)
			return
		}
	}
	d.unread = append(d.unread, unread{room, bytes.Clone(eventID)})
}

// readSome lets the devices mark as read whose turn it is: each has one in every period, at a moment of its own. Those who
// have seen nothing new leave theirs out.
func (c *devicePool) readSome() {
	if c.spec.ReceiptPeriod == 0 || !c.ready {
		return
	}
	if c.began.IsZero() {
		c.began = time.Now()
	}
	for {
		due := c.began.Add(time.Duration(c.round)*c.spec.ReceiptPeriod + c.spec.ReceiptPeriod*time.Duration(c.reader)/time.Duration(len(c.devices)))
		if time.Now().Before(due) {
			return
		}
		d := &c.devices[c.reader]
		if n := len(d.unread); n > 0 {
			i := c.round % n
			u := d.unread[i]
			d.unread = slices.Delete(d.unread, i, i+1)
			c.markRead(d, u.room, u.eventID)
		}
		if c.reader++; c.reader == len(c.devices) {
			c.reader, c.round = 0, c.round+1
		}
	}
}
