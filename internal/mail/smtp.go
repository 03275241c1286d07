package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"stoa/internal/email"
)

const (
	// replyTimeout bounds the connection's set-up, and afterwards the sending.
	replyTimeout = 30 * time.Second
	// stopTimeout is how long a mail that is being sent may take when the instance stops.
	stopTimeout = 5 * time.Second
)

// refusal is an answer of the mail server that another attempt won't change.
type refusal struct {
	recipient bool // this mail or its recipient is refused, not this server
	text      string
}

func (r *refusal) Error() string { return r.text }

// connection is one to the mail server, which has let this server in.
type connection struct {
	client *gomail.Client
	smtp   *smtp.Client
	stop   func()
}

// dial connects to the mail server, encrypts the connection and authenticates.
func (m *Mailer) dial(ctx context.Context) (*connection, error) {
	s := m.opt.Server
	secure := &tls.Config{ServerName: s.Host, RootCAs: m.opt.RootCAs, MinVersion: tls.VersionTLS12}
	var mu sync.Mutex // guards raw
	var raw net.Conn
	policy := gomail.TLSMandatory
	switch {
	case s.ImplicitTLS:
		policy = gomail.NoTLS // it is there already
	case s.OptionalTLS:
		policy = gomail.TLSOpportunistic
	}
	options := []gomail.Option{
		gomail.WithPort(s.Port), gomail.WithTimeout(replyTimeout), gomail.WithHELO(m.hostName()), gomail.WithTLSPolicy(policy), gomail.WithTLSConfig(secure),
		gomail.WithDialContextFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
			var d net.Dialer
			c, err := d.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			mu.Lock()
			raw = c
			mu.Unlock()
			if !s.ImplicitTLS {
				return c, nil
			}
			t := tls.Client(c, secure)
			if err := t.HandshakeContext(ctx); err != nil {
				return nil, errors.Join(err, c.Close())
			}
			return t, nil
		}),
	}
	if s.User != "" {
		options = append(options, gomail.WithUsername(s.User), gomail.WithPassword(s.Password),
			gomail.WithOpportunisticSMTPAuth(gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthSCRAMSHA1, gomail.SMTPAuthPlain, gomail.SMTPAuthLogin))
	}
	client, err := gomail.NewClient(s.Host, options...)
	if err != nil {
		return nil, err
	}
	// The library knows no context once it is connected.
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		if raw != nil {
			_ = raw.SetDeadline(time.Now().Add(stopTimeout)) // a closed connection needs none
		}
	})
	c, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		stop()
		mu.Lock()
		defer mu.Unlock()
		if raw != nil {
			_ = raw.Close() // the library leaves it open
		}
		return nil, err
	}
	return &connection{client: client, smtp: c, stop: func() { stop() }}, nil
}

// close ends the connection. What was sent is sent, however it ends.
func (c *connection) close() {
	_ = c.client.CloseWithSMTPClient(c.smtp)
	c.stop()
}

// send hands over a mail. The error is a *refusal if another attempt would not help.
func (c *connection) send(m *Mailer, l letter) error {
	msg, err := m.message(l)
	if err != nil {
		return err
	}
	err = c.client.SendWithSMTPClient(c.smtp, msg)
	if err == nil || msg.IsDelivered() { // what follows the answer does not matter
		return nil
	}
	text := strings.ReplaceAll(err.Error(), l.To, "(the recipient)")
	text, _, _ = strings.Cut(text, ", affected ")
	var failed *gomail.SendError
	if !errors.As(err, &failed) || failed.ErrorCode() < 500 || failed.ErrorCode() > 599 {
		return errors.New(text)
	}
	switch failed.Reason {
	case gomail.ErrSMTPRcptTo, gomail.ErrSMTPData, gomail.ErrSMTPDataClose:
		return &refusal{recipient: true, text: text}
	case gomail.ErrSMTPMailFrom:
		return &refusal{text: text}
	}
	return errors.New(text)
}

// message builds a mail as it is sent. Every attempt sends the same Message-ID and date.
func (m *Mailer) message(l letter) (*gomail.Msg, error) {
	shown, err := m.render(l)
	if err != nil {
		return nil, err
	}
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	msg.FromMailAddress(m.from)
	if err := msg.To(l.To); err != nil {
		return nil, fmt.Errorf("the address of a mail: %w", err)
	}
	msg.Subject(shown.subject)
	msg.SetMessageIDWithValue(l.MessageID)
	msg.SetDateWithValue(time.UnixMilli(l.DateMS).UTC())
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetGenHeader("X-Auto-Response-Suppress", "All")
	msg.SetGenHeader("Content-Language", l.Language)
	if l.Unsubscribe != "" {
		if err := msg.SetListUnsubscribeOneClick(l.Unsubscribe); err != nil {
			return nil, fmt.Errorf("the link to unsubscribe: %w", err)
		}
	}
	msg.SetBodyString(gomail.TypeTextPlain, shown.text)
	msg.AddAlternativeString(gomail.TypeTextHTML, shown.html)
	return msg, nil
}

// ServerCheck is what a check of the mail server has found.
type ServerCheck struct {
	TLS           string // version; empty = the connection is not encrypted
	Authenticated bool
}

// Check connects to the mail server, as for a mail, and sends nothing.
func (m *Mailer) Check(ctx context.Context) (found ServerCheck, err error) {
	if !m.Enabled() {
		return found, ErrOff
	}
	conn, err := m.dial(ctx)
	if err != nil {
		return found, err
	}
	defer conn.close()
	if state, err := conn.smtp.GetTLSConnectionState(); err == nil {
		found.TLS = tls.VersionName(state.Version)
	}
	found.Authenticated = m.opt.Server.User != ""
	return found, nil
}

// SendTest sends a mail at once, beside outbox and budget.
func (m *Mailer) SendTest(ctx context.Context, to email.Address, language string) error {
	if !m.Enabled() {
		return ErrOff
	}
	conn, err := m.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.close()
	now := m.clock()
	return conn.send(m, letter{
		To: to.String(), Text: TextTest, Language: language,
		MessageID: fmt.Sprintf("test-%d@%s", now.UnixNano(), m.hostName()), DateMS: now.UnixMilli(),
	})
}
