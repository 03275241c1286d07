// Package mail sends mail through the mail server of the settings.
//
// It owns the outbox (jobs of package reader), the budget that all instances share, the
// texts of the mails in all languages, and the record of the mails that came back. It
// never decides who gets a mail or what that allows: its callers do.
//
// The invariant that matters: a mail that was enqueued in a committed change is handed to
// the mail server once, or dropped because its time is over or the server refuses it for
// good; it is handed over again, with the same Message-ID, only if the instance was killed
// between the server's answer and the commit that notes it.
package mail

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	netmail "net/mail"
	"net/url"
	"strings"
	"sync"
	"time"

	"stoa/internal/email"
	"stoa/internal/reader"
	"stoa/internal/store"
	"stoa/internal/store/maildb"
	"stoa/internal/store/readerdb"
	"stoa/matrix/id"
)

// ErrOff says that this server sends no mail.
var ErrOff = errors.New("mail: no mail server is set")

// Server is the mail server that takes all mails.
type Server struct {
	Host           string
	Port           int
	ImplicitTLS    bool // TLS from the first byte; otherwise STARTTLS
	OptionalTLS    bool // an unencrypted connection is taken too
	User, Password string
}

// Options configure a Mailer.
type Options struct {
	Store *store.Store
	// Server takes the mails; an empty Host = no mail is sent.
	Server Server
	// From is the sender.
	From string
	// ServerName and PublicURL are those of this homeserver, as the mails show them.
	ServerName id.ServerName
	PublicURL  string
	// SecretKey encrypts mails in the outbox; empty = they are not encrypted.
	SecretKey string
	// BudgetCount mails may be sent in BudgetPer; 0 = any number, and at any speed.
	BudgetCount int64
	BudgetPer   time.Duration
	// RootCAs are those whom the mail server's certificate must come from; nil = the
	// system's.
	RootCAs *x509.CertPool
	// Clock is that of the database; nil = time.Now.
	Clock func() time.Time
	// Log gets no addresses; nil = none.
	Log *slog.Logger
}

// Mailer sends mails. Its methods may be called concurrently.
type Mailer struct {
	store  *store.Store
	opt    Options
	from   *netmail.Address
	clock  func() time.Time
	log    *slog.Logger
	counts counts

	mu      sync.Mutex // guards the fields below
	down    error      // why the mail server could not be used; nil = it could
	fails   int        // how often in a row
	retryAt time.Time  // nobody tries before
}

// New returns a Mailer.
func New(opt Options) (*Mailer, error) {
	m := &Mailer{store: opt.Store, opt: opt, clock: opt.Clock, log: opt.Log}
	if m.clock == nil {
		m.clock = time.Now
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	if !m.Enabled() {
		return m, nil
	}
	var err error
	if m.from, err = netmail.ParseAddress(opt.From); err != nil {
		return nil, fmt.Errorf("mail_from: %w", err)
	}
	return m, nil
}

// Enabled reports whether this server sends mail.
func (m *Mailer) Enabled() bool { return m.opt.Server.Host != "" }

// letter is a mail in the outbox.
type letter struct {
	To        string            `json:"to"`
	Text      string            `json:"text"` // names one of texts
	Language  string            `json:"language"`
	Values    map[string]string `json:"values,omitempty"`
	Items     []Item            `json:"items,omitempty"`
	MessageID string            `json:"message_id"`
	DateMS    int64             `json:"date_ms"`
	ExpiresMS int64             `json:"expires_ms"`
	// Unsubscribe is the link with which the recipient ends such mails; empty = none.
	Unsubscribe string `json:"unsubscribe,omitempty"`
}

// Item is a line of a list in a mail, with what belongs to it.
type Item struct {
	Title string `json:"title"`
	Text  string `json:"text"`
	Link  string `json:"link,omitempty"`
}

// Enqueue adds a mail to the change that causes it, so that both are committed or neither.
// It is dropped if it could not be sent within its lifetime. text names one of the texts of
// this package, values are what it shows.
func (m *Mailer) Enqueue(c *store.Change, to email.Address, text, language string, values map[string]string, lifetime time.Duration) error {
	t, ok := texts[text]
	if !ok {
		return fmt.Errorf("there is no mail %q", text)
	}
	return m.enqueue(c, t.class, letter{To: to.String(), Text: text, Language: language, Values: values}, lifetime)
}

func (m *Mailer) enqueue(c *store.Change, priority class, l letter, lifetime time.Duration) error {
	if !m.Enabled() {
		return ErrOff
	}
	now := m.clock()
	key := strings.ToLower(rand.Text())
	l.MessageID = key + "@" + m.hostName()
	l.DateMS, l.ExpiresMS = now.UnixMilli(), now.Add(lifetime).UnixMilli()
	payload, err := m.seal(key, l)
	if err != nil {
		return err
	}
	return reader.Enqueue(c, reader.Job{Kind: priority.kind(), Key: key, Payload: payload})
}

// hostName is what this server calls itself to others: the host of its public address.
func (m *Mailer) hostName() string {
	if u, err := url.Parse(m.opt.PublicURL); err == nil && u.Hostname() != "" && net.ParseIP(u.Hostname()) == nil {
		return u.Hostname()
	}
	host, _, err := net.SplitHostPort(m.opt.ServerName.String())
	if err != nil {
		host = m.opt.ServerName.String()
	}
	if net.ParseIP(strings.Trim(host, "[]")) != nil {
		return "localhost"
	}
	return host
}

// Waiting describes the outbox.
type Waiting struct {
	// Down is why the mail server could not be used; empty = it could, or nobody tried.
	Down string
	// Left is what may still be sent of Budget; -1 = there is no budget.
	Left, Budget int64
	Bounces      int64 // addresses whose mails came back
	// Waiting mails are in the outbox; those set aside are not sent unless an operator
	// says so.
	Waiting, Aside int64
}

// Status describes the outbox, as this instance sees it.
func (m *Mailer) Status(ctx context.Context) (w Waiting, err error) {
	m.mu.Lock()
	if m.down != nil {
		w.Down = m.down.Error()
	}
	m.mu.Unlock()
	w.Left, w.Budget = -1, m.opt.BudgetCount
	err = m.store.Read(ctx, func(r *store.Read) (err error) {
		if m.opt.BudgetCount > 0 {
			if w.Left, _, err = maildb.Level(r, m.period(classUrgent)); err != nil {
				return err
			}
		}
		jobs, err := readerdb.CountJobs(r)
		if err != nil {
			return err
		}
		w.Waiting, w.Aside = 0, 0
		for _, j := range jobs {
			if j.Kind == classUrgent.kind() || j.Kind == classNotice.kind() {
				w.Waiting += j.Jobs - j.Aside
				w.Aside += j.Aside
			}
		}
		w.Bounces, err = maildb.CountBounces(r)
		return err
	})
	return w, err
}
