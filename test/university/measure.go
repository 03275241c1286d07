package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"stoa/test/kit"
)

const (
	// settle is how long the connected are left alone before the first message.
	settle = 10 * time.Second
	// grace is how long deliveries are waited for after the last message, maxGrace how long if the load is one that ends when
	// all have come.
	grace, maxGrace = 10 * time.Second, 30 * time.Second
	// connectWithin bounds the first syncs of everybody.
	connectWithin = 30 * time.Minute
	profileLength = 20 * time.Second
)

// result is what one run gave.
type result struct {
	name               string
	number             int // of the runs of this name
	instances, devices int
	people             int
	seconds            float64
	length             time.Duration // of what CPU is counted in: the measured time and the wait for the last deliveries
	connected          time.Duration // until everybody waited
	idle               usage         // of the servers, when everybody waited
	most               consumption   // memory
	used               consumption   // CPU in the measured time
	speech             speakResult
	devicePool         devicesResult
	expected           [kinds]int
	seen               [kinds]int
	latency            quantiles // without the room of all
	ofKind             [kinds]quantiles
	inBursts, between  quantiles
	receipts           quantiles       // from when a device asks for one to its answer
	lastToAll          []time.Duration // by message to all
	series             []second
	options            options
	seeded             *template
}

// second is what was due in one second of the run.
type second struct {
	deliveries int
	p50, p99   float64 // ms
}

// quantiles of latencies, in ms.
type quantiles struct {
	count                        int
	p50, p95, p99, p999, slowest float64
}

// quantile gives one in ms.
func quantile(list []time.Duration, q float64) float64 {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return float64(list[min(int(q*float64(len(list))), len(list)-1)]) / 1e6
}

func quantilesOf(list []time.Duration) quantiles {
	return quantiles{len(list), quantile(list, .5), quantile(list, .95), quantile(list, .99), quantile(list, .999), quantile(list, 1)}
}

// measureRun makes one run on a copy of the data.
func measureRun(ctx context.Context, o options, p *plan, t *template, dir, run string, number, devices int) (_ *result, err error) {
	r := &result{name: run, number: number, instances: 1, devices: devices, people: (devices + p.devices - 1) / p.devices, seconds: o.minutes * 60, options: o, seeded: t}
	if run == runThree {
		r.instances = 3
	}
	name := fmt.Sprintf("%s_%d", run, number)
	dir = filepath.Join(dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	database, drop, err := t.copied(ctx, dir, name)
	if err != nil {
		return nil, err
	}
	defer drop()
	w, err := startCluster(ctx, o, dir, database, r.instances)
	if err != nil {
		return nil, err
	}
	defer w.stop()
	s := w.sample()
	start := time.Now()
	clients, err := r.connect(ctx, w, p, t, dir, start)
	if err != nil {
		return nil, err
	}
	r.connected = time.Since(start)
	progress("%s: %d devices wait after %.0f s", name, devices, r.connected.Seconds())
	time.Sleep(settle)
	idle, err := w.consumption()
	if err != nil {
		return nil, err
	}
	r.idle = idle.servers
	speakers, begin, err := r.speak(w, p, t, dir)
	if err != nil {
		return nil, err
	}
	w.joins(speakers.PID())
	time.Sleep(time.Until(begin))
	started := time.Now()
	before, err := w.consumption()
	if err != nil {
		return nil, err
	}
	for _, c := range clients {
		if _, err := fmt.Fprintln(c.in, "begin"); err != nil {
			return nil, err
		}
	}
	clients = append(clients, speakers)
	if err := r.watch(ctx, w, p, clients, begin); err != nil {
		return nil, err
	}
	after, err := w.consumption()
	if err != nil {
		return nil, err
	}
	r.used, r.length = after.since(before), time.Since(started)
	if r.most, err = s.end(); err != nil {
		return nil, err
	}
	return r, r.collect(w, p, clients, dir, start, begin)
}

// client is a process of this program that plays clients.
type client struct {
	*kit.Process
	in    io.WriteCloser
	out   bytes.Buffer // its result
	ready chan struct{}
	all   chan struct{} // closed when a device pool has seen all that it was told to expect
	read  chan struct{} // closed when out is complete
}

func startClient(kind, name, dir string, spec any) (*client, error) {
	raw, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, name+".json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, kind, file)
	c := &client{ready: make(chan struct{}), all: make(chan struct{}), read: make(chan struct{})}
	if c.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer writer.Close() // the child has its own
	cmd.Stdout = writer
	if c.Process, err = kit.Launch(name, dir, cmd); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	go func() {
		defer close(c.read)
		defer out.Close()
		for lines := bufio.NewReader(out); ; {
			line, err := lines.ReadString('\n')
			switch line {
			case lineReady:
				close(c.ready)
			case lineAll:
				close(c.all)
			default:
				c.out.WriteString(line)
			}
			if err != nil {
				return
			}
		}
	}()
	return c, nil
}

// finish lets a client end and reads its result.
func (c *client) finish(result any) error {
	if err := c.in.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	<-c.Gone()
	<-c.read
	if c.Err() != nil {
		return c.Ended()
	}
	return json.Unmarshal(c.out.Bytes(), result)
}

// connect starts the device pools and waits until everybody waits for news.
func (r *result) connect(ctx context.Context, w *cluster, p *plan, t *template, dir string, start time.Time) ([]*client, error) {
	rooms := make([]devicesRoom, len(p.rooms))
	for i := range rooms {
		rooms[i] = devicesRoom{t.rooms[i], len(p.rooms[i].members)}
	}
	var clients []*client
	for device := range p.devices {
		addresses := w.addresses
		if p.devices > 1 { // each device of a person has its balancer
			addresses = []string{w.addresses[device%len(w.addresses)]}
		}
		c, err := startClient("devices", fmt.Sprintf("devices-%d", device), dir, devicesSpec{
			Addresses: addresses, Device: device, People: (r.devices - device + p.devices - 1) / p.devices,
			Start: start.UnixNano(), Rooms: rooms, Filter: r.options.load.filter, Parses: r.options.load.parses, Records: records(dir, device),
			ReceiptEvery: r.options.load.receiptEvery, ReceiptPeriod: r.options.load.receiptPeriod,
			Senders: r.options.load.senders,
		})
		if err != nil {
			return nil, err
		}
		w.joins(c.PID())
		clients = append(clients, c)
	}
	deadline := time.After(connectWithin)
	for _, c := range clients {
		for ready := false; !ready; {
			select {
			case <-c.ready:
				ready = true
			case <-time.After(15 * time.Second):
				progress("%s: %s: %s", r.name, c.Name, lastLine(c.LogFile))
			case <-deadline:
				return nil, fmt.Errorf("not everybody was connected within %v", connectWithin)
			case <-c.Gone():
				return nil, c.Ended()
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
	return clients, nil
}

func records(dir string, device int) string {
	return filepath.Join(dir, fmt.Sprintf("records-%d", device))
}

func lastLine(file string) string {
	raw, _ := os.ReadFile(file) // nothing to tell without it
	raw = bytes.TrimRight(raw, "\n")
	return string(raw[bytes.LastIndexByte(raw, '\n')+1:])
}

// speak starts those who speak, and says when they begin.
func (r *result) speak(w *cluster, p *plan, t *template, dir string) (*client, time.Time, error) {
	rooms := make([]speakRoom, len(p.rooms))
	for i := range rooms {
		people, _ := p.connected(i, r.devices)
		whole := people[:0] // whose devices are all connected
		for _, m := range people {
			if (m+1)*p.devices <= r.devices {
				whole = append(whole, m)
			}
		}
		rooms[i] = speakRoom{t.rooms[i], p.rooms[i].kind, whole}
	}
	begin := time.Now().Add(2*time.Second + r.options.warm)
	c, err := startClient(r.options.load.speakers, "speakers", dir, speakSpec{
		Addresses: w.addresses, Start: begin.UnixNano(), Warm: r.options.warm.Seconds(), Seconds: r.seconds, Rate: r.options.rate, Peak: r.options.peak,
		Burst: r.options.burst.Seconds(), Rooms: rooms, Devices: p.devices, TypingEvery: r.options.load.typingEvery, Senders: r.options.load.senders,
	})
	return c, begin, err
}

// watch waits until everything is said and delivered. In the middle it takes
// profiles, if they are wanted.
func (r *result) watch(ctx context.Context, w *cluster, p *plan, clients []*client, begin time.Time) error {
	wait := grace
	if r.options.load.untilAll {
		wait = maxGrace
	}
	end := time.NewTimer(time.Until(begin.Add(time.Duration(r.seconds*float64(time.Second)) + wait)))
	defer end.Stop()
	minute := time.NewTicker(time.Minute)
	defer minute.Stop()
	if folder := r.options.profiles; folder != "" {
		middle := time.AfterFunc(time.Until(begin.Add(time.Duration(r.seconds/2*float64(time.Second)))), func() {
			if err := w.profile(folder, r.name, profileLength); err != nil {
				progress("%s: profiles: %v", r.name, err)
			}
		})
		defer middle.Stop()
	}
	speakers := clients[len(clients)-1]
	for {
		select {
		case <-end.C:
			return nil
		case now := <-minute.C:
			progress("%s: %.0f of %.0f minutes", r.name, now.Sub(begin).Minutes(), r.seconds/60)
		case <-ctx.Done():
			return ctx.Err()
		case <-speakers.Gone():
			if speakers.Err() != nil {
				return speakers.Ended()
			}
			if r.options.load.untilAll {
				return r.awaitAll(ctx, clients, p, end.C)
			}
			select {
			case <-end.C:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// awaitAll waits until every device has seen all that was acknowledged.
func (r *result) awaitAll(ctx context.Context, clients []*client, p *plan, end <-chan time.Time) error {
	speakers := clients[len(clients)-1]
	if err := speakers.finish(&r.speech); err != nil {
		return err
	}
	expected := 0
	for room, n := range r.speech.Acked {
		_, count := p.connected(room, r.devices)
		expected += n * count
	}
	for _, c := range clients[:len(clients)-1] { // there is one: such a load has one device of each
		if _, err := fmt.Fprintln(c.in, "expect", expected); err != nil {
			return err
		}
		select {
		case <-c.all:
		case <-c.Gone():
			return c.Ended()
		case <-end:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// collect ends the clients and puts together what they saw.
func (r *result) collect(w *cluster, p *plan, clients []*client, dir string, start, begin time.Time) error {
	speakers := clients[len(clients)-1]
	if err := speakers.finish(&r.speech); err != nil {
		return err
	}
	var seen []record
	var receipts []time.Duration
	for device, c := range clients[:len(clients)-1] {
		var one devicesResult
		if err := c.finish(&one); err != nil {
			return err
		}
		r.devicePool.Answers += one.Answers
		r.devicePool.Receipts += one.Receipts
		r.devicePool.ReceiptsLost += one.ReceiptsLost
		r.devicePool.ReceiptsFailed += one.ReceiptsFailed
		r.devicePool.Failures += one.Failures
		r.devicePool.Skipped += one.Skipped
		for _, us := range one.ReceiptUS {
			receipts = append(receipts, time.Duration(us)*time.Microsecond)
		}
		if one.LastFailure != "" {
			r.devicePool.LastFailure = one.LastFailure
		}
		list, err := readRecords(records(dir, device))
		if err != nil {
			return err
		}
		seen = append(seen, list...)
	}
	for room, n := range r.speech.Acked {
		_, count := p.connected(room, r.devices)
		r.expected[p.rooms[room].kind] += n * count
	}
	r.receipts = quantilesOf(receipts)
	r.digest(p, seen, begin.Sub(start))
	for _, in := range w.instances {
		if line := lastLine(in.LogFile); line != "" {
			progress("%s: %s: %s", r.name, in.Name, line)
		}
	}
	return nil
}

// digest computes the latencies. offset is when the run began after the start of
// the records.
func (r *result) digest(p *plan, seen []record, offset time.Duration) {
	var ofKind [kinds][]time.Duration
	var most, bursts, between []time.Duration
	toAll := map[uint32]time.Duration{}
	bySecond := make([][]time.Duration, int(r.seconds)+1)
	for _, x := range seen {
		k, took := p.rooms[x.Room].kind, time.Duration(x.LatencyUS)*time.Microsecond
		at := (time.Duration(x.DueMS)*time.Millisecond - offset).Seconds()
		if at < -0.001 { // records are by the millisecond
			continue
		}
		r.seen[k]++
		ofKind[k] = append(ofKind[k], took)
		if k == all {
			toAll[x.DueMS] = max(toAll[x.DueMS], took)
			continue
		}
		most = append(most, took)
		if inBurst(at, r.options.burst.Seconds()) {
			bursts = append(bursts, took)
		} else {
			between = append(between, took)
		}
		if s := max(int(at), 0); s < len(bySecond) {
			bySecond[s] = append(bySecond[s], took)
		}
	}
	r.latency, r.inBursts, r.between = quantilesOf(most), quantilesOf(bursts), quantilesOf(between)
	for k := range kinds {
		r.ofKind[k] = quantilesOf(ofKind[k])
	}
	due := make([]uint32, 0, len(toAll))
	for at := range toAll {
		due = append(due, at)
	}
	slices.Sort(due)
	for _, at := range due {
		r.lastToAll = append(r.lastToAll, toAll[at])
	}
	for _, list := range bySecond[:int(r.seconds)] {
		r.series = append(r.series, second{deliveries: len(list), p50: quantile(list, .5), p99: quantile(list, .99)})
	}
}

func writeRecords(file string, list []record) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	return errors.Join(binary.Write(w, binary.LittleEndian, list), w.Flush(), f.Close())
}

func readRecords(file string) ([]record, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	list := make([]record, info.Size()/recordSize)
	return list, binary.Read(bufio.NewReader(f), binary.LittleEndian, list)
}
