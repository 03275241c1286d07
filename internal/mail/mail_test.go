package mail_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/email"
	"stoa/internal/mail"
	"stoa/internal/mail/mailtest"
	"stoa/internal/reader"
	"stoa/internal/store"
	"stoa/internal/store/readerdb"
	"stoa/internal/store/storetest"
	"stoa/matrix/id"
)

// fixture is a store with a clock that a test moves (on SQLite), a mail server, and the
// workers of an instance.
type fixture struct {
	*testing.T
	store  *store.Store
	clock  atomic.Int64
	server *mailtest.Server
	opt    mail.Options
	mailer *mail.Mailer
	runner *reader.Runner
	log    syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (f *fixture) now() time.Time { return time.UnixMilli(f.clock.Load()) }

func (f *fixture) check(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func newFixture(t *testing.T, server mailtest.Options, change ...func(*mail.Options)) *fixture {
	t.Helper()
	f := &fixture{T: t}
	f.clock.Store(time.Now().UnixMilli())
	return f.on(storetest.SQLite(t, func(o *store.Options) { o.Clock = f.now }), f.now, server, change...)
}

func (f *fixture) on(s *store.Store, clock func() time.Time, server mailtest.Options, change ...func(*mail.Options)) *fixture {
	f.Helper()
	f.store, f.server = s, mailtest.Start(f.T, server)
	name, err := id.ParseServerName("stoa.test")
	f.check(err)
	f.opt = mail.Options{
		Store: s, From: "Stoa <noreply@stoa.test>", ServerName: name, PublicURL: "https://chat.stoa.test", Clock: clock,
		RootCAs: f.server.Roots, Log: slog.New(slog.NewTextHandler(&f.log, nil)),
		Server: mail.Server{
			Host: f.server.Host(), Port: f.server.Port(), ImplicitTLS: server.ImplicitTLS, OptionalTLS: !server.StartTLS && !server.ImplicitTLS,
			User: server.User, Password: server.Password,
		},
	}
	for _, c := range change {
		c(&f.opt)
	}
	f.mailer, err = mail.New(f.opt)
	f.check(err)
	return f
}

// run starts the workers, until the test ends or stop is called.
func (f *fixture) run() (stop func()) {
	f.Helper()
	var err error
	f.runner, err = reader.New(reader.Options{Store: f.store, Kinds: f.mailer.Jobs(), Log: slog.New(slog.NewTextHandler(&f.log, nil))})
	f.check(err)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := f.runner.Run(ctx); err != nil {
			f.Errorf("run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); done.Wait() })
	f.Cleanup(stop)
	return stop
}

// enqueue puts mails into the outbox.
func (f *fixture) enqueue(text string, to ...string) {
	f.Helper()
	c := store.NewChange()
	for _, a := range to {
		f.check(f.mailer.Enqueue(c, f.email(a), text, "en", map[string]string{"User": "@alice:stoa.test", "Link": "https://chat.stoa.test/x?token=abc"}, 24*time.Hour))
	}
	_, err := f.store.Commit(f.Context(), c)
	f.check(err)
}

func (f *fixture) email(text string) email.Address {
	f.Helper()
	e, err := email.Parse(text)
	f.check(err)
	return e
}

// waiting counts the mails in the outbox.
func (f *fixture) waiting() (n int64) {
	f.Helper()
	f.check(f.store.Read(f.Context(), func(r *store.Read) error {
		counts, err := readerdb.CountJobs(r)
		for _, c := range counts {
			if strings.HasPrefix(c.Kind, "mail.") {
				n += c.Jobs
			}
		}
		return err
	}))
	return n
}

// until waits for a condition that other goroutines fulfil.
func (f *fixture) until(what string, done func() bool) {
	f.Helper()
	end := time.Now().Add(30 * time.Second)
	for !done() {
		if time.Now().After(end) {
			f.Fatalf("still not: %s\n%s", what, &f.log)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// pass moves the clock on, and lets the workers look at it.
func (f *fixture) pass(d time.Duration) {
	f.clock.Add(d.Milliseconds())
	f.runner.WakeJobs()
}

func TestMail_is_sent(t *testing.T) {
	t.Parallel()
	for name, server := range map[string]mailtest.Options{
		"with_STARTTLS_and_authentication":     {StartTLS: true, User: "stoa", Password: "pw:/@"},
		"with_implicit_TLS_and_authentication": {ImplicitTLS: true, User: "stoa", Password: "pw"},
		"without_TLS_where_that_is_allowed":    {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, server)
			f.run()
			f.enqueue(mail.TextAdd, "Bob@Example.org")
			m := f.server.Await(1)[0]
			if m.To != "bob@example.org" || m.From != "noreply@stoa.test" || m.User != server.User || m.Encrypted != (server.StartTLS || server.ImplicitTLS) {
				t.Errorf("got %+v", m)
			}
			if m.Subject != "Confirm your email address for stoa.test" || m.Link() != "https://chat.stoa.test/x?token=abc" ||
				!strings.Contains(m.HTML, `href="https://chat.stoa.test/x?token=abc"`) || !strings.Contains(m.Text, "@alice:stoa.test") {
				t.Errorf("got %+v", m)
			}
			for _, h := range []string{"Message-Id", "Date", "From", "To", "Auto-Submitted"} {
				if m.Header.Get(h) == "" {
					t.Errorf("there is no %s", h)
				}
			}
			f.until("the outbox is empty", func() bool { return f.waiting() == 0 })
		})
	}
}

func TestMail_needs_TLS_unless_it_is_optional(t *testing.T) {
	t.Parallel()
	f := newFixture(t, mailtest.Options{}, func(o *mail.Options) { o.Server.OptionalTLS = false })
	if _, err := f.mailer.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "STARTTLS") {
		t.Errorf("got %v", err)
	}
	other := newFixture(t, mailtest.Options{StartTLS: true}, func(o *mail.Options) { o.RootCAs = nil })
	if _, err := other.mailer.Check(t.Context()); err == nil {
		t.Error("a certificate that nobody vouches for is taken")
	}
}

func TestMail_waits_while_the_server_is_down_for_an_hour(t *testing.T) {
	t.Parallel()
	f := newFixture(t, mailtest.Options{StartTLS: true, User: "stoa", Password: "pw"})
	f.server.Stop()
	f.run()
	f.enqueue(mail.TextAdd, "a@b.test", "c@d.test")
	f.until("it is noticed", func() bool { s, err := f.mailer.Status(t.Context()); return err == nil && s.Down != "" })
	for range 12 {
		f.pass(5 * time.Minute)
		f.until("the jobs rest again", func() bool { return f.resting() == 2 })
	}
	if n := strings.Count(f.log.String(), "can't be used"); n != 1 {
		t.Errorf("the log says %d times that the server is down", n)
	}
	f.server.Resume()
	f.pass(10 * time.Minute)
	if mails := f.server.Await(2); mails[0].To == mails[1].To {
		t.Errorf("got %v", mails)
	}
	f.until("the outbox is empty", func() bool { return f.waiting() == 0 })
	if !strings.Contains(f.log.String(), "can be used again") || len(f.server.Mails()) != 2 {
		t.Errorf("%d mails, %s", len(f.server.Mails()), &f.log)
	}
}

// resting counts the jobs that are due later and run nowhere.
func (f *fixture) resting() (n int) {
	f.Helper()
	f.check(f.store.Read(f.Context(), func(r *store.Read) error {
		counts, err := readerdb.CountJobs(r)
		for _, c := range counts {
			if strings.HasPrefix(c.Kind, "mail.") && c.Runs == 0 && c.OldestDue > f.clock.Load() {
				n = int(c.Jobs)
			}
		}
		return err
	}))
	return n
}

func TestMail_that_can_not_be_sent_in_time_is_dropped(t *testing.T) {
	t.Parallel()
	f := newFixture(t, mailtest.Options{})
	f.server.Stop()
	f.run()
	f.enqueue(mail.TextAdd, "a@b.test")
	f.until("it is noticed", func() bool { return f.resting() == 1 })
	f.server.Resume()
	f.pass(25 * time.Hour)
	f.until("it is dropped", func() bool { return f.waiting() == 0 })
	if n := len(f.server.Mails()); n != 0 {
		t.Errorf("%d mails were sent", n)
	}
}

// A mail is sent twice only if the instance was killed between the answer of the mail
// server and the commit, and then with the same Message-ID.
func TestMail_killed_between_answer_and_commit(t *testing.T) {
	t.Parallel()
	f := &fixture{T: t}
	url := storetest.URL(t, "sqlite")
	var faults store.Faults
	open := func(faults *store.Faults) *store.Store {
		s, err := store.Open(t.Context(), store.Options{URL: url, ServerName: storetest.ServerName, Faults: faults})
		f.check(err)
		return s
	}
	first := open(&faults)
	var killed atomic.Bool
	f.on(first, time.Now, mailtest.Options{Refuse: func(_ string, after bool) error {
		if after && !killed.Load() {
			killed.Store(true)
			faults.Arm(store.FaultBeforeCommit, func() error { return store.ErrUnreachable })
		}
		return nil
	}})
	stop := f.run()
	f.enqueue(mail.TextPassword, "a@b.test")
	once := f.server.Await(1)
	stop()
	f.check(first.Close())
	f.store = open(nil)
	t.Cleanup(func() { f.check(f.store.Close()) })
	f.opt.Store = f.store
	var err error
	f.mailer, err = mail.New(f.opt)
	f.check(err)
	f.run()
	again := f.server.Await(2)
	f.until("the outbox is empty", func() bool { return f.waiting() == 0 })
	if a, b := once[0].Header, again[1].Header; a.Get("Message-Id") != b.Get("Message-Id") || a.Get("Date") != b.Get("Date") || a.Get("Message-Id") == "" {
		t.Errorf("the mail was sent as %s of %s, then as %s of %s", a.Get("Message-Id"), a.Get("Date"), b.Get("Message-Id"), b.Get("Date"))
	}
	if n := len(f.server.Mails()); n != 2 {
		t.Errorf("%d mails were sent", n)
	}
}

func TestMail_that_is_refused_for_good_is_a_bounce(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]bool{"at_its_recipient": false, "at_its_content": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, mailtest.Options{Refuse: func(to string, now bool) error {
				if now == after && to == "gone@b.test" {
					return mailtest.Refusal(550, "there is no gone@b.test here")
				}
				return nil
			}})
			f.run()
			f.enqueue(mail.TextAdd, "gone@b.test", "here@b.test")
			f.until("the outbox is empty", func() bool { return f.waiting() == 0 })
			if mails := f.server.Mails(); len(mails) != 1 || mails[0].To != "here@b.test" {
				t.Errorf("got %v", mails)
			}
			bounces, err := f.mailer.Bounces(t.Context(), 10)
			f.check(err)
			if len(bounces) != 1 || bounces[0].Address != "gone@b.test" || !strings.Contains(bounces[0].Reason, "there is no (the recipient) here") {
				t.Errorf("got %+v", bounces)
			}
			if text := f.log.String(); strings.Contains(text, "gone@") || !strings.Contains(text, "refused for good") {
				t.Errorf("the log: %s", text)
			}
		})
	}
}

func TestMail_that_is_refused_for_now_is_sent_later(t *testing.T) {
	t.Parallel()
	var refused atomic.Bool
	f := newFixture(t, mailtest.Options{Refuse: func(string, bool) error {
		if !refused.Swap(true) {
			return mailtest.Refusal(451, "greylisted")
		}
		return nil
	}})
	f.run()
	f.enqueue(mail.TextAdd, "a@b.test")
	f.until("it rests", func() bool { return refused.Load() && f.resting() == 1 })
	f.pass(time.Minute)
	f.server.Await(1)
	f.until("the outbox is empty", func() bool { return f.waiting() == 0 })
	if text := f.log.String(); strings.Contains(text, "a@b.test") {
		t.Errorf("the log: %s", text)
	}
}

func TestMail_wrong_password_waits(t *testing.T) {
	t.Parallel()
	f := newFixture(t, mailtest.Options{StartTLS: true, User: "stoa", Password: "right"}, func(o *mail.Options) { o.Server.Password = "wrong-pw" })
	f.run()
	f.enqueue(mail.TextAdd, "a@b.test")
	f.until("it rests", func() bool { return f.resting() == 1 })
	if _, err := f.mailer.Check(t.Context()); err == nil || strings.Contains(err.Error()+f.log.String(), "wrong-pw") {
		t.Errorf("%v, %s", err, &f.log)
	}
}

// The budget is one of all instances, and keeps a part for mails that somebody waits for.
func TestMail_budget(t *testing.T) {
	t.Parallel()
	f := newFixture(t, mailtest.Options{}, func(o *mail.Options) { o.BudgetCount, o.BudgetPer = 8, 24*time.Hour })
	other, err := mail.New(f.opt)
	f.check(err)
	f.run()
	var to []string
	for i := range 10 {
		to = append(to, fmt.Sprintf("n%d@b.test", i))
	}
	c := store.NewChange()
	for i, a := range to {
		m := f.mailer
		if i%2 == 1 {
			m = other
		}
		f.check(m.EnqueueNotice(c, f.email(a), mail.TextTest, 10*24*time.Hour))
	}
	_, err = f.store.Commit(t.Context(), c)
	f.check(err)
	// Six of eight: two are kept for urgent mails. Their pace is one a second.
	for len(f.server.Mails()) < 6 {
		f.pass(time.Second)
		<-time.After(time.Millisecond) // the workers tell nobody that they wait
	}
	for range 100 {
		f.pass(time.Second)
	}
	f.until("the others rest", func() bool { return f.resting() == 4 })
	if n := len(f.server.Mails()); n != 6 {
		t.Errorf("%d notifications were sent", n)
	}
	f.enqueue(mail.TextPassword, "urgent@b.test")
	f.server.AwaitTo("urgent@b.test", 0)
	status, err := f.mailer.Status(t.Context())
	if err != nil || status.Left != 1 || status.Budget != 8 {
		t.Errorf("%+v, %v", status, err)
	}
	// A day later there is a new budget.
	f.until("the rest comes", func() bool { f.pass(time.Hour); return len(f.server.Mails()) == 11 })
}

// Urgent mails don't wait for notifications.
func TestMail_urgent_ones_go_first(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	f := newFixture(t, mailtest.Options{Refuse: func(to string, _ bool) error {
		if strings.HasPrefix(to, "n") {
			<-release
		}
		return nil
	}}, func(o *mail.Options) { o.BudgetCount, o.BudgetPer = 200, 24*time.Hour })
	f.run()
	c := store.NewChange()
	for i := range 20 {
		f.check(f.mailer.EnqueueNotice(c, f.email(fmt.Sprintf("n%d@b.test", i)), mail.TextTest, 24*time.Hour))
	}
	_, err := f.store.Commit(t.Context(), c)
	f.check(err)
	f.enqueue(mail.TextPassword, "urgent@b.test")
	if first := f.server.Await(1); first[0].To != "urgent@b.test" {
		t.Errorf("first came %s", first[0].To)
	}
	close(release)
}

func TestMail_notifications_end_with_a_bounce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		f := &fixture{T: t}
		s := open()
		f.on(s, s.Now, mailtest.Options{})
		f.check(f.mailer.Report(t.Context(), []email.Address{f.email("a@b.test"), f.email("c@d.test")}, "user\nunknown\x00"))
		f.check(f.mailer.Report(t.Context(), []email.Address{f.email("a@b.test")}, "still unknown"))
		c := store.NewChange()
		f.mailer.Works(c, f.email("c@d.test"))
		_, err := s.Commit(t.Context(), c)
		f.check(err)
		bounces, err := f.mailer.Bounces(t.Context(), 10)
		if err != nil || len(bounces) != 1 || bounces[0].Bounces != 2 || bounces[0].Reason != "still unknown" {
			t.Errorf("%+v, %v", bounces, err)
		}
		f.run()
		c = store.NewChange()
		f.check(f.mailer.EnqueueNotice(c, f.email("a@b.test"), mail.TextTest, time.Hour))
		f.check(f.mailer.EnqueueNotice(c, f.email("c@d.test"), mail.TextTest, time.Hour))
		_, err = s.Commit(t.Context(), c)
		f.check(err)
		f.enqueue(mail.TextTest, "a@b.test") // urgent: it is sent all the same
		f.until("the outbox is empty", func() bool { return f.waiting() == 0 })
		if mails := f.server.Mails(); len(mails) != 2 {
			t.Errorf("got %v", mails)
		}
		f.check(f.mailer.Expire(t.Context()))
	})
}

func TestMail_in_the_outbox_is_encrypted(t *testing.T) {
	t.Parallel()
	f := newFixture(t, mailtest.Options{}, func(o *mail.Options) { o.SecretKey = "0123456789abcdef" })
	f.server.Stop()
	f.enqueue(mail.TextPassword, "secret@b.test")
	if text := f.payload(); bytes.Contains(text, []byte("secret@")) || bytes.Contains(text, []byte("token=abc")) {
		t.Errorf("the outbox has %q", text)
	}
	f.server.Resume()
	f.run()
	if m := f.server.Await(1)[0]; m.To != "secret@b.test" || m.Link() == "" {
		t.Errorf("got %+v", m)
	}
}

// payload is that of the first mail in the outbox.
func (f *fixture) payload() (payload []byte) {
	f.Helper()
	f.check(f.store.Read(f.Context(), func(r *store.Read) error {
		for shard := range int64(readerdb.Shards) {
			list, err := readerdb.Due(r, shard, []string{"mail.urgent"}, -1, 1<<60, 10)
			if err != nil {
				return err
			}
			for _, found := range list {
				job, err := readerdb.JobByID(r, found)
				if err != nil {
					return err
				}
				payload = job.Payload
			}
		}
		return nil
	}))
	if payload == nil {
		f.Fatal("the outbox is empty")
	}
	return payload
}

func TestMail_is_off_without_a_server(t *testing.T) {
	t.Parallel()
	m, err := mail.New(mail.Options{})
	if err != nil || m.Enabled() {
		t.Fatal(err)
	}
	if err := m.Enqueue(store.NewChange(), email.Address{}, mail.TextAdd, "en", nil, time.Hour); !errors.Is(err, mail.ErrOff) {
		t.Errorf("got %v", err)
	}
	if _, err := m.Check(t.Context()); !errors.Is(err, mail.ErrOff) {
		t.Errorf("got %v", err)
	}
}

func TestMail_test_is_sent_at_once(t *testing.T) {
	t.Parallel()
	f := newFixture(t, mailtest.Options{StartTLS: true, User: "u", Password: "p"})
	found, err := f.mailer.Check(t.Context())
	if err != nil || found.TLS != "TLS 1.3" || !found.Authenticated {
		t.Errorf("%+v, %v", found, err)
	}
	f.check(f.mailer.SendTest(t.Context(), f.email("a@b.test"), "pl"))
	if m := f.server.Await(1)[0]; m.Subject != "Wiadomość testowa z stoa.test" || m.Header.Get("Content-Language") != "pl" {
		t.Errorf("got %+v", m)
	}
}
