package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"stoa/test/kit"
)

// checkQuiet checks what must hold while nothing happens to the instances.
func (w *scenario) checkQuiet(ctx context.Context) error {
	return w.each(func(b *balancer) error {
		idle, err := register(ctx, b, b.name+"-idle", nil)
		if err != nil {
			return err
		}
		polled := make(chan error, 1)
		go func() { polled <- longPoll(ctx, b, idle, w.opt.poll) }()
		for _, check := range []func(context.Context, *balancer) error{spread, conversation, address} {
			if err := check(ctx, b); err != nil {
				return err
			}
		}
		return <-polled
	})
}

// checkShipped checks that HAProxy, as its files are, has all devices of a user on one
// instance, and not all users.
func (w *scenario) checkShipped(ctx context.Context) error {
	return w.each(func(b *balancer) error {
		if !b.isHAProxy() {
			return nil
		}
		shipped, err := w.startBalancer(b.name, b.control, "")
		if err != nil {
			return err
		}
		defer shipped.process.Kill()
		const users = 12 // all of them on one instance by chance: once in 177,147 times
		seen := map[string]int{}
		for n := range users {
			name := fmt.Sprintf("%s-shipped%d", b.name, n)
			phone, err := register(ctx, shipped, name, nil)
			if err != nil {
				return err
			}
			laptop := newPerson(shipped, false)
			if err := laptop.login(ctx, name, nil); err != nil {
				return err
			}
			instances := map[string]int{}
			for _, device := range []*person{phone, laptop, phone, laptop} {
				instance, err := device.as(shipped, false).Do(ctx, "GET", "/_matrix/client/v3/joined_rooms", nil, nil)
				if err != nil {
					return err
				}
				instances[instance]++
				seen[instance]++
			}
			if len(instances) != 1 {
				return fmt.Errorf("as shipped the devices of a user are on %v", instances)
			}
		}
		if len(seen) == 1 {
			return fmt.Errorf("as shipped the devices of %d users are all on %v", users, seen)
		}
		say(b, "as shipped the devices of a user are on one instance, those of %d on %v", users, seen)
		return nil
	})
}

// spread checks that every instance gets requests, however long one that has come
// back may need for that.
func spread(ctx context.Context, b *balancer) error {
	began := time.Now()
	p := newPerson(b, false)
	seen := map[string]int{}
	for len(seen) < len(names) || seen[""] > 0 {
		if time.Since(began) > kit.StartWithin {
			return fmt.Errorf("the requests of %v went to %v, not to all of %v", kit.StartWithin, slices.Sorted(maps.Keys(seen)), names)
		}
		instance, err := p.Do(ctx, "GET", "/_matrix/client/versions", nil, nil)
		if err != nil {
			return err
		}
		if instance == "" {
			return fmt.Errorf("an answer has no X-Stoa-Instance")
		}
		seen[instance]++
	}
	say(b, "all of %v are used after %v", names, time.Since(began).Round(time.Millisecond))
	return nil
}

// conversation checks that two people can talk, each request going anywhere.
func conversation(ctx context.Context, b *balancer) error {
	alice, err := register(ctx, b, b.name+"-alice", nil)
	if err != nil {
		return err
	}
	bob, err := register(ctx, b, b.name+"-bob", nil)
	if err != nil {
		return err
	}
	room, err := alice.createRoom(ctx, bob.user)
	if err != nil {
		return err
	}
	if _, err := bob.Do(ctx, "POST", "/_matrix/client/v3/rooms/"+room+"/join", map[string]any{}, nil); err != nil {
		return err
	}
	first, _, err := bob.sync(ctx, "", 0)
	if err != nil {
		return err
	}
	var sent, seen []string
	instances := map[string]int{}
	since := first.NextBatch
	for n := range 30 {
		who := []*person{alice, bob}[n%2]
		id, err := who.Send(ctx, room, fmt.Sprintf("talk-%d", n), fmt.Sprintf("message %d", n))
		if err != nil {
			return err
		}
		sent = append(sent, id)
		// What was acknowledged is there for any request that is made after it.
		next, instance, err := bob.sync(ctx, since, 0)
		if err != nil {
			return err
		}
		instances[instance]++
		since = next.NextBatch
		for _, e := range next.Rooms.Join[room].Timeline.Events {
			seen = append(seen, e.EventID)
		}
		if len(seen) == 0 || seen[len(seen)-1] != id {
			return fmt.Errorf("sync by instance %s did not show a message that had been acknowledged", instance)
		}
	}
	if !slices.Equal(sent, seen) {
		return fmt.Errorf("sent %v, seen %v", sent, seen)
	}
	say(b, "30 messages, each in the next sync; by instance %v", instances)
	return nil
}

// address checks that the server sees a client's address as it is, and not as the
// client says that it is.
func address(ctx context.Context, b *balancer) error {
	for n, header := range []http.Header{
		nil,
		{"X-Forwarded-For": {"203.0.113.66"}},
		{"X-Forwarded-For": {"203.0.113.66, 127.0.0.1"}, "Forwarded": {"for=203.0.113.66"}, "X-Real-Ip": {"203.0.113.66"}},
	} {
		p, err := register(ctx, b, fmt.Sprintf("%s-address%d", b.name, n), header)
		if err != nil {
			return err
		}
		var list struct {
			Devices []struct {
				LastSeenIP string `json:"last_seen_ip"`
			} `json:"devices"`
		}
		if _, err := p.DoWith(ctx, header, "GET", "/_matrix/client/v3/devices", nil, &list); err != nil {
			return err
		}
		if len(list.Devices) != 1 || list.Devices[0].LastSeenIP != clientAddr {
			return fmt.Errorf("with %v the client's address is seen as %v, not %s", header, list.Devices, clientAddr)
		}
	}
	say(b, "a client's own X-Forwarded-For is not believed")
	return nil
}

// longPoll checks that a request may wait for as long as it wants.
func longPoll(ctx context.Context, b *balancer, p *person, length time.Duration) error {
	// A client's own first news, such as its own presence, would end the wait.
	since := ""
	for {
		n, _, err := p.sync(ctx, since, 500*time.Millisecond)
		if err != nil {
			return err
		}
		if n.NextBatch == since {
			break
		}
		since = n.NextBatch
	}
	began := time.Now()
	_, instance, err := p.sync(ctx, since, length)
	took := time.Since(began)
	if err != nil {
		return fmt.Errorf("a request that waits %v ended after %v: %w", length, took, err)
	}
	if took < length-time.Second {
		return fmt.Errorf("a request that waits %v was answered after %v", length, took)
	}
	say(b, "a long poll of %v took %v (instance %s)", length, took.Round(time.Millisecond), instance)
	return nil
}

// checkKill kills an instance while it is used.
func (w *scenario) checkKill(ctx context.Context) error {
	const number = 3 // of the instance, as HAProxy calls it
	victim := w.instances[number-1]
	before := map[string]int64{}
	for _, b := range w.balancers {
		about, err := os.Stat(b.process.LogFile)
		if err != nil {
			return err
		}
		before[b.name] = about.Size()
	}
	return w.whileUsed(ctx, "killed", victim, true, func() error {
		victim.Kill()
		return nil
	}, func(b *balancer, t *usage) error {
		if b.name == haproxyTCP {
			return nil // what was on its way there fails, and was repeated
		}
		met, err := w.metByDown(b, number, before[b.name])
		if err != nil {
			return err
		}
		excused := 0
		for _, f := range t.failures {
			if f.method == "POST" || f.method == "PUT" && b.name == "caddy" {
				continue
			}
			if request := f.method + " " + f.path; errors.Is(f.err, io.EOF) && met[request] > 0 {
				met[request]--
				excused++
				continue
			}
			return fmt.Errorf("a %s failed, which the balancer should have sent to another instance: %w", f.method, f.err)
		}
		if excused > 0 {
			say(b, "%d of them were connecting when the instance was found down", excused)
		}
		if excused > excusedMost {
			return fmt.Errorf("%d requests ended without an answer, more than can be connecting when an instance is found down", excused)
		}
		return nil
	})
}

// excusedMost is how many requests may be connecting to an instance as HAProxy finds it
// down: six people use it, and to connect takes less than a millisecond.
const excusedMost = 2

// metByDown gives how often each request, method and path, was connecting to an
// instance in the very moment in which HAProxy found that to be down: it then ends
// without an answer, and HAProxy's log says so. The log counts from a byte on.
func (w *scenario) metByDown(b *balancer, instance int, from int64) (map[string]int, error) {
	met := map[string]int{}
	if b.name != "haproxy" {
		return met, nil
	}
	log, err := os.ReadFile(b.process.LogFile)
	if err != nil {
		return nil, err
	}
	for _, line := range connectingWhenDown.FindAllSubmatch(log[from:], -1) {
		if string(line[1]) == strconv.Itoa(instance) {
			met[string(line[2])]++
		}
	}
	return met, nil
}

// connectingWhenDown finds in the log of HAProxy 2.6 the server of a request without a
// connection (its times are -1), without a status and an answer, ended by D; and its
// method and path.
var connectingWhenDown = regexp.MustCompile(`(?m)^\S+ (\d+) \d+/\d+/-1/-1/\d+ -1 0 D\S-- (\S+ \S+)$`)

// checkDrain stops an instance while it is used: then nobody may notice.
func (w *scenario) checkDrain(ctx context.Context) error {
	victim := w.instances[1]
	return w.whileUsed(ctx, "stopped", victim, false, func() error {
		took, err := victim.Terminate(kit.StartWithin)
		if err == nil {
			fmt.Printf("balancers: instance %s stopped within %v\n", victim.Name, took.Round(time.Millisecond))
		}
		return err
	}, func(b *balancer, t *usage) error {
		if len(t.failures) > 0 {
			return fmt.Errorf("%d requests failed, the first: %w", len(t.failures), t.failures[0].err)
		}
		return nil
	})
}

// frozenWithin is how long HAProxy may need to find that an instance hangs, and to ask
// another for what waits there: two checks of a second each, with their pauses.
const frozenWithin = 4 * time.Second

// checkFreeze has an instance hang, as a machine without a network does. Only HAProxy
// promises to notice. What waits there goes to another, or ends if HAProxy passes on
// connections.
func (w *scenario) checkFreeze(ctx context.Context) error {
	for _, b := range w.balancers { // one after another: it is the same instance
		if !b.isHAProxy() {
			continue
		}
		if err := w.freeze(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return nil
}

func (w *scenario) freeze(ctx context.Context, b *balancer) error {
	if err := spread(ctx, b); err != nil {
		return err
	}
	p, err := register(ctx, b, b.name+"-frozen", nil)
	if err != nil {
		return err
	}
	n, _, err := p.sync(ctx, "", 0)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, kit.StartWithin)
	defer cancel()
	type answer struct {
		instance string
		err      error
	}
	answers := make(chan answer, 5*len(names)) // so that some wait on each instance
	for range cap(answers) {
		go func() {
			_, instance, err := p.as(b, false).sync(ctx, n.NextBatch, time.Minute)
			answers <- answer{instance, err}
		}()
	}
	time.Sleep(useBefore) // the waits are to begin
	victim := w.instances[0]
	if err := victim.Cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	defer victim.Cmd.Process.Signal(syscall.SIGCONT)
	time.Sleep(frozenWithin) // what is promised is a time
	if _, err := p.as(b, false).Do(ctx, "PUT", "/_matrix/client/v3/user/"+p.user+"/account_data/test.thawed", map[string]any{}, nil); err != nil {
		return fmt.Errorf("after an instance was found to hang: %w", err)
	}
	ended := 0
	for range cap(answers) {
		a := <-answers
		switch {
		case a.err != nil && b.name == haproxyTCP && ctx.Err() == nil:
			ended++
		case a.err != nil:
			return fmt.Errorf("a wait while instance %s hangs: %w", victim.Name, a.err)
		case a.instance == victim.Name:
			return fmt.Errorf("a wait was answered by an instance that hangs")
		}
	}
	if b.name == haproxyTCP && (ended == 0 || ended == cap(answers)) {
		return fmt.Errorf("%d of %d waits have ended, and not those of one instance", ended, cap(answers))
	}
	for range 30 {
		if _, err := p.as(b, false).Do(ctx, "GET", "/_matrix/client/v3/joined_rooms", nil, nil); err != nil {
			return fmt.Errorf("after an instance was found to hang: %w", err)
		}
	}
	say(b, "after an instance hung for %v, %d of %d waits have ended, all others were answered, and nothing else failed", frozenWithin, ended, cap(answers))
	return nil
}

const (
	useBefore = time.Second
	useAfter  = 3 * time.Second // and after it is back
)

// whileUsed does something to an instance while people use it through all balancers,
// starts it again, and judges what the people saw.
func (w *scenario) whileUsed(ctx context.Context, what string, victim *kit.Server, repeat bool, do func() error, judge func(*balancer, *usage) error) error {
	usages := map[*balancer]*usage{}
	for _, b := range w.balancers {
		t, err := startUse(ctx, b, what, repeat)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		usages[b] = t
	}
	time.Sleep(useBefore) // the load is what is waited for
	err := do()
	if err == nil {
		time.Sleep(useAfter)
		err = victim.Launch()
	}
	if err == nil {
		err = awaitReady(victim)
	}
	if err == nil {
		err = w.each(func(b *balancer) error { return spread(ctx, b) })
	}
	return joined(err, w.each(func(b *balancer) error {
		t := usages[b]
		if err := t.end(ctx); err != nil {
			return fmt.Errorf("an instance was %s: %w", what, err)
		}
		say(b, "an instance was %s: %s", what, t)
		if err := judge(b, t); err != nil {
			return fmt.Errorf("an instance was %s: %w", what, err)
		}
		return nil
	}))
}

func joined(errs ...error) error {
	var texts []string
	for _, err := range errs {
		if err != nil {
			texts = append(texts, err.Error())
		}
	}
	if len(texts) == 0 {
		return nil
	}
	return fmt.Errorf("%s", strings.Join(texts, "\n"))
}

// failure is a request that got no 200.
type failure struct {
	method, path string // without the query
	err          error
}

// usage is what people who use the server through a balancer see.
type usage struct {
	room   string
	reader *person
	repeat bool // what is idempotent, until it works
	stop   context.CancelFunc
	users  sync.WaitGroup

	mu       sync.Mutex // guards the rest; nothing is taken after it
	requests map[string]int
	failures []failure
	given    []string // bodies of messages that were acknowledged
	fatal    []error
}

// repeatWithin is how long a client repeats a request. The rooms of a killed
// instance are someone else's within 10 s.
const repeatWithin = 15 * time.Second

// startUse lets people use the server until end: half of them keep their
// connections, half don't.
func startUse(ctx context.Context, b *balancer, what string, repeat bool) (*usage, error) {
	owner, err := register(ctx, b, b.name+"-"+what, nil)
	if err != nil {
		return nil, err
	}
	t := &usage{repeat: repeat, reader: owner, requests: map[string]int{}}
	if t.room, err = owner.createRoom(ctx); err != nil {
		return nil, err
	}
	ctx, t.stop = context.WithCancel(ctx)
	for _, reuse := range []bool{true, false} {
		name := fmt.Sprintf("%s reuse %t", what, reuse)
		t.users.Go(func() { t.write(ctx, owner.as(b, reuse), name) })
		t.users.Go(func() { t.read(ctx, owner.as(b, reuse)) })
		t.users.Go(func() { t.follow(ctx, owner.as(b, reuse)) })
	}
	return t, nil
}

// pace is how often each person does something.
const pace = 10 * time.Millisecond

// write sends messages one after another, and asks for keys with a POST between.
func (t *usage) write(ctx context.Context, p *person, name string) {
	for n := 0; ctx.Err() == nil; n++ {
		body := fmt.Sprintf("%s %d", name, n)
		if t.request(p, "PUT", kit.SendPath(t.room, body), kit.Message(body), nil) {
			t.mu.Lock()
			t.given = append(t.given, body)
			t.mu.Unlock()
		}
		t.request(p, "POST", "/_matrix/client/v3/keys/query", map[string]any{"device_keys": map[string]any{p.user: []string{}}}, nil)
		rest(ctx)
	}
}

func (t *usage) read(ctx context.Context, p *person) {
	for ctx.Err() == nil {
		t.request(p, "GET", "/_matrix/client/v3/joined_rooms", nil, nil)
		rest(ctx)
	}
}

// follow waits for news as clients do.
func (t *usage) follow(ctx context.Context, p *person) {
	since := ""
	for ctx.Err() == nil {
		var n news
		path := "/_matrix/client/v3/sync?timeout=2000"
		if since != "" {
			path += "&since=" + since
		}
		if t.request(p, "GET", path, nil, &n) {
			since = n.NextBatch
		}
		rest(ctx)
	}
}

func rest(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(pace):
	}
}

// request asks once, or until it works if that is what the people do and the method
// is idempotent. Each refusal is counted.
func (t *usage) request(p *person, method, path string, in, out any) bool {
	ctx, cancel := context.WithTimeout(context.Background(), repeatWithin) // a request under way is not part of what is stopped
	defer cancel()
	for {
		_, err := p.Do(ctx, method, path, in, out)
		t.mu.Lock()
		t.requests[method]++
		if err != nil {
			t.failures = append(t.failures, failure{method, strings.SplitN(path, "?", 2)[0], err})
		}
		t.mu.Unlock()
		if err == nil {
			return true
		}
		if !t.repeat || method == "POST" {
			return false
		}
		select {
		case <-time.After(100 * time.Millisecond): // a client's own patience
		case <-ctx.Done():
			t.mu.Lock()
			t.fatal = append(t.fatal, fmt.Errorf("%s did not work within %v: %w", method, repeatWithin, err))
			t.mu.Unlock()
			return false
		}
	}
}

// end ends the use and checks that every message that was acknowledged is there once.
func (t *usage) end(ctx context.Context) error {
	t.stop()
	t.users.Wait()
	if len(t.fatal) > 0 {
		return t.fatal[0]
	}
	all, err := t.reader.history(ctx, t.room)
	if err != nil {
		return err
	}
	times := map[string]int{}
	for _, e := range all {
		times[e.Content.Body]++
		if times[e.Content.Body] > 1 {
			return fmt.Errorf("message %q is there twice", e.Content.Body)
		}
	}
	for _, body := range t.given {
		if times[body] == 0 {
			return fmt.Errorf("message %q was acknowledged and is not there", body)
		}
	}
	return nil
}

// String says how many of the requests failed, by method.
func (t *usage) String() string {
	failed := map[string]int{}
	for _, f := range t.failures {
		failed[f.method]++
	}
	var parts []string
	for _, method := range slices.Sorted(maps.Keys(t.requests)) {
		parts = append(parts, fmt.Sprintf("%d of %d %s failed", failed[method], t.requests[method], method))
	}
	return strings.Join(parts, ", ") + fmt.Sprintf("; %d messages, each there once", len(t.given))
}
