package bus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"stoa/internal/bus"
	"stoa/internal/bus/bustest"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/internal/store/userdb"
)

// testTimeout bounds the wait for an expected event.
const testTimeout = 20 * time.Second

// network is one kind of bus. join makes a member, which is not running yet; broken
// disconnects all members, or lets them connect again.
type network struct {
	join   func(t *testing.T) *bus.Bus
	broken func(t *testing.T, yes bool)
}

// onEach runs a test with each kind of bus.
func onEach(t *testing.T, f func(t *testing.T, n network)) {
	t.Helper()
	kinds := map[string]func(*testing.T) network{"process": processNetwork, "postgres": postgresNetwork, "redis": redisNetwork}
	if os.Getenv("ENGINE") == "sqlite" {
		delete(kinds, "postgres")
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, kind(t))
		})
	}
}

func processNetwork(*testing.T) network {
	n := bus.NewNetwork()
	return network{
		join:   func(*testing.T) *bus.Bus { return bus.NewProcess(n, bus.Options{}) },
		broken: func(_ *testing.T, yes bool) { n.Break(yes) },
	}
}

func postgresNetwork(t *testing.T) network {
	address := storetest.URL(t, "postgres")
	u, err := url.Parse(address)
	check(t, err)
	database := strings.TrimPrefix(u.Path, "/")
	u.Path = "/postgres"
	sql := func(t *testing.T, text string) {
		t.Helper()
		c, err := pgx.Connect(t.Context(), u.String())
		check(t, err)
		_, err = c.Exec(t.Context(), text)
		check(t, errors.Join(err, c.Close(t.Context())))
	}
	return network{
		join: func(t *testing.T) *bus.Bus {
			b, err := bus.NewPostgres(storetest.OpenURL(t, address), t.Name(), bus.Options{})
			check(t, err)
			return b
		},
		broken: func(t *testing.T, yes bool) {
			sql(t, fmt.Sprintf("ALTER DATABASE %s ALLOW_CONNECTIONS %v", database, !yes))
			if yes {
				sql(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+database+"'")
			}
		},
	}
}

func redisNetwork(t *testing.T) network {
	server := bustest.NewRedis(t)
	return network{
		join: func(t *testing.T) *bus.Bus {
			b, err := bus.NewRedis(server.URL, "stoa.test", bus.Options{})
			check(t, err)
			return b
		},
		broken: func(_ *testing.T, yes bool) {
			if server.Stop(); !yes {
				server.Start()
			}
		},
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// member is a running bus and the messages that it receives.
type member struct {
	*bus.Bus
	heard   chan string
	connect chan struct{}
}

// start runs a member until the test ends, and waits until it is connected.
func (n network) start(t *testing.T, topics ...string) *member {
	t.Helper()
	m := &member{Bus: n.join(t), heard: make(chan string, 10_000), connect: make(chan struct{}, 100)}
	for _, topic := range topics {
		m.Subscribe(topic, func(payload []byte) { m.heard <- topic + " " + string(payload) })
	}
	m.OnConnect(func() { m.connect <- struct{}{} })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	await(t, m.connect, "the connection")
	return m
}

func await[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case x := <-c:
		return x
	case <-time.After(testTimeout):
		t.Fatalf("%s never came", what)
		panic("unreachable")
	}
}

// until publishes a numbered message again and again until it is received: a bus that has
// just been repaired may not send yet.
func until(t *testing.T, from, to *member, topic string) {
	t.Helper()
	late := time.After(testTimeout)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			from.Publish(topic, []byte("again"))
		case got := <-to.heard:
			if got == topic+" again" {
				return
			}
		case <-late:
			t.Fatal("nothing was heard any more")
		}
	}
}

func TestPublish_reaches_all_others_in_order(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, n network) {
		a, b, c := n.start(t, "x"), n.start(t, "x", "y"), n.start(t, "x")
		binary := string([]byte{0, 255, 1, '\'', '\n'})
		const many = 500
		for i := range many {
			a.Publish("x", fmt.Append(nil, i, binary))
		}
		for i := range many {
			for name, m := range map[string]*member{"b": b, "c": c} {
				if got, want := await(t, m.heard, "a message"), fmt.Sprint("x ", i, binary); got != want {
					t.Fatalf("%s heard %q, want %q", name, got, want)
				}
			}
		}
		large := bytes.Repeat([]byte{'l'}, bus.MaxPayload)
		c.Publish("y", large)
		c.Publish("x", append(large, 'l')) // too large
		c.Publish("x", []byte("last"))
		if got := await(t, b.heard, "a large message"); got != "y "+string(large) {
			t.Errorf("heard %d bytes", len(got))
		}
		for name, m := range map[string]*member{"a": a, "b": b} {
			if got := await(t, m.heard, "the last message"); got != "x last" {
				t.Errorf("%s heard %.40q", name, got)
			}
		}
		if got := len(a.heard) + len(c.heard); got > 0 {
			t.Errorf("%d messages came back", got)
		}
		if !a.Healthy() || !b.Healthy() || !c.Healthy() {
			t.Error("a member is not healthy")
		}
	})
}

func TestSubscribe_ends_with_cancel(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, n network) {
		a, b := n.start(t), n.start(t, "end")
		none := make(chan string, 1)
		b.Subscribe("x", func([]byte) { none <- "x" })()
		a.Publish("x", nil)
		a.Publish("end", nil)
		await(t, b.heard, "the end")
		if len(none) > 0 {
			t.Error("heard after cancel")
		}
	})
}

func TestBreak_is_noticed_and_recovered_from(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, n network) {
		a, b := n.start(t), n.start(t, "x")
		until(t, a, b, "x")
		n.broken(t, true)
		unhealthy(t, b)
		began := time.Now()
		for range 20_000 {
			a.Publish("x", []byte("lost"))
		}
		if took := time.Since(began); took > testTimeout/2 {
			t.Errorf("publishing on a broken bus took %v", took)
		}
		n.broken(t, false)
		await(t, a.connect, "the first connection")
		await(t, b.connect, "the second connection")
		until(t, a, b, "x")
		if !b.Healthy() {
			t.Error("it is not healthy again")
		}
	})
}

// unhealthy waits until a member knows that it is disconnected.
func unhealthy(t *testing.T, m *member) {
	t.Helper()
	late := time.After(testTimeout)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for m.Healthy() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("a broken bus calls itself healthy")
		}
	}
}

// TestPostgres_tells_what_others_commit: the store announces its groups on the channel of
// heads, and an instance ignores its own announcements.
func TestPostgres_tells_what_others_commit(t *testing.T) {
	t.Parallel()
	if os.Getenv("ENGINE") == "sqlite" {
		return
	}
	address := storetest.URL(t, "postgres")
	open := func(name string) (*store.Store, *member) {
		s := storetest.OpenURL(t, address, func(o *store.Options) { o.NotifyChannel, o.NotifyName = bus.HeadChannel, name })
		n := network{join: func(t *testing.T) *bus.Bus {
			b, err := bus.NewPostgres(s, name, bus.Options{})
			check(t, err)
			return b
		}}
		return s, n.start(t, bus.TopicHead)
	}
	first, a := open("a")
	second, b := open("b")
	commit := func(s *store.Store) string {
		users, err := s.InternUsers(t.Context(), func(string) bool { return true }, "@alice:stoa.test")
		check(t, err)
		c := store.NewChange()
		userdb.SetPresence(c, userdb.Presence{User: users[0], Presence: "online"})
		at, err := s.Commit(t.Context(), c)
		check(t, err)
		return fmt.Sprint(bus.TopicHead, " ", at)
	}
	of1, of2 := commit(first), commit(second)
	if got := await(t, b.heard, "the position of the first"); got != of1 {
		t.Errorf("b heard %q, want %q", got, of1)
	}
	if got := await(t, a.heard, "the position of the second"); got != of2 {
		t.Errorf("a heard %q, want %q", got, of2)
	}
	if len(a.heard)+len(b.heard) > 0 {
		t.Error("an instance hears of its own")
	}
}

// lines passes on each line of a log.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// An unreachable Redis is logged once, also from the start on, and so is its return.
func TestRedis_that_is_not_there_is_logged(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	log := make(lines, 100)
	b, err := bus.NewRedis("unix://"+socket, "stoa.test", bus.Options{Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- b.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	if line := <-log; !strings.Contains(line, "level=WARN") || !strings.Contains(line, "the setting redis") {
		t.Errorf("said %s", line)
	}
	server := bustest.NewRedis(t)
	if err := os.Symlink(strings.TrimPrefix(server.URL, "unix://"), socket); err != nil {
		t.Fatal(err)
	}
	if line := <-log; !strings.Contains(line, "level=INFO") || !strings.Contains(line, "heard again") {
		t.Errorf("said %s", line)
	}
}
