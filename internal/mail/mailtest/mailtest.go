// Package mailtest is a mail server on a socket, for tests.
//
// It owns the mails that it has accepted. It delivers nothing.
//
// The invariant that matters: it speaks the protocol as real servers do, with STARTTLS, TLS
// from the first byte, and authentication.
package mailtest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Options configure a Server.
type Options struct {
	StartTLS    bool
	ImplicitTLS bool
	// User and Password must be given by clients, if they are set.
	User, Password string
	// Refuse decides about a mail to an address; nil = all are taken. after says that the
	// whole mail has come.
	Refuse func(to string, after bool) error
}

// Server is a mail server that runs until its test ends.
type Server struct {
	t   testing.TB
	opt Options
	// Roots has the certificate authority of its certificate.
	Roots *x509.CertPool

	address string
	cert    tls.Certificate

	mu     sync.Mutex // guards the fields below
	server *smtp.Server
	listen net.Listener
	mails  []Mail
	came   chan struct{} // closed and replaced with each mail
	logins int
}

// Mail is a mail that was accepted.
type Mail struct {
	From, To   string
	Header     netmail.Header
	Subject    string
	Text, HTML string
	Encrypted  bool
	User       string // who has logged in
}

// Refusal is an answer of the server.
func Refusal(code int, text string) error { return &smtp.SMTPError{Code: code, Message: text} }

// Start starts a server.
func Start(t testing.TB, opt Options) *Server {
	t.Helper()
	s := &Server{t: t, opt: opt, Roots: x509.NewCertPool(), came: make(chan struct{})}
	s.cert = certificate(t, s.Roots)
	s.address = "127.0.0.1:0"
	s.Resume()
	t.Cleanup(s.Stop)
	return s
}

// Host and Port are where it listens.
func (s *Server) Host() string { return "127.0.0.1" }

// Port is the port on which it listens.
func (s *Server) Port() int {
	_, text, err := net.SplitHostPort(s.address)
	port, aerr := strconv.Atoi(text)
	if err != nil || aerr != nil {
		s.t.Fatal(err, aerr)
	}
	return port
}

// URL is its address as a setting.
func (s *Server) URL() string { return "smtp://" + s.address }

// Stop closes the listener and all connections.
func (s *Server) Stop() {
	s.mu.Lock()
	server, l := s.server, s.listen
	s.server, s.listen = nil, nil
	s.mu.Unlock()
	if server != nil {
		_ = l.Close() // the server knows it only once it serves
		_ = server.Close()
	}
}

// Resume listens again at the same address.
func (s *Server) Resume() {
	s.t.Helper()
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = l.Addr().String()
	server := smtp.NewServer(smtp.BackendFunc(s.session))
	server.Domain = "mail.test"
	server.AllowInsecureAuth = true
	server.ErrorLog = quiet{}
	server.EnableSMTPUTF8 = true
	secure := &tls.Config{Certificates: []tls.Certificate{s.cert}, MinVersion: tls.VersionTLS12}
	if s.opt.StartTLS {
		server.TLSConfig = secure
	}
	if s.opt.ImplicitTLS {
		l = tls.NewListener(l, secure)
	}
	s.mu.Lock()
	s.server, s.listen = server, l
	s.mu.Unlock()
	go func() { _ = server.Serve(l) }() // until Stop
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

// Mails are those that were accepted, in order.
func (s *Server) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Mail(nil), s.mails...)
}

// Logins counts the clients that have authenticated.
func (s *Server) Logins() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logins
}

// timeout bounds the wait for a mail.
const timeout = 30 * time.Second

// Await waits until a number of mails have been accepted, and returns all.
func (s *Server) Await(n int) []Mail {
	s.t.Helper()
	end := time.After(timeout)
	for {
		s.mu.Lock()
		mails, came := append([]Mail(nil), s.mails...), s.came
		s.mu.Unlock()
		if len(mails) >= n {
			return mails
		}
		select {
		case <-came:
		case <-end:
			s.t.Fatalf("%d mails have come, not %d", len(mails), n)
		}
	}
}

// AwaitTo waits for a mail to an address after the first n to it, and returns it.
func (s *Server) AwaitTo(address string, n int) Mail {
	s.t.Helper()
	end := time.After(timeout)
	for {
		s.mu.Lock()
		came, seen := s.came, 0
		for _, m := range s.mails {
			if m.To == address {
				if seen == n {
					s.mu.Unlock()
					return m
				}
				seen++
			}
		}
		s.mu.Unlock()
		select {
		case <-came:
		case <-end:
			s.t.Fatalf("mail %d to %s has not come", n+1, address)
		}
	}
}

var link = regexp.MustCompile(`https?://\S+`)

// Link is the first link in the text of a mail that has a query; empty if there is none.
func (m Mail) Link() string {
	for _, found := range link.FindAllString(m.Text, -1) {
		if strings.Contains(found, "?") {
			return found
		}
	}
	return ""
}

// session is a connection of a client.
type session struct {
	s    *Server
	conn *smtp.Conn
	mail Mail
	user string
}

func (s *Server) session(c *smtp.Conn) (smtp.Session, error) { return &session{s: s, conn: c}, nil }

func (c *session) AuthMechanisms() []string {
	if c.s.opt.User == "" {
		return nil
	}
	return []string{sasl.Plain}
}

func (c *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != c.s.opt.User || password != c.s.opt.Password {
			return smtp.ErrAuthFailed
		}
		c.user = user
		c.s.mu.Lock()
		c.s.logins++
		c.s.mu.Unlock()
		return nil
	}), nil
}

func (c *session) Reset()        { c.mail = Mail{} }
func (c *session) Logout() error { return nil }

func (c *session) Mail(from string, _ *smtp.MailOptions) error {
	if c.s.opt.User != "" && c.user == "" {
		return smtp.ErrAuthRequired
	}
	_, encrypted := c.conn.TLSConnectionState()
	c.mail = Mail{From: from, Encrypted: encrypted, User: c.user}
	return nil
}

func (c *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if c.s.opt.Refuse != nil {
		if err := c.s.opt.Refuse(to, false); err != nil {
			return err
		}
	}
	c.mail.To = to
	return nil
}

func (c *session) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := c.mail.read(text); err != nil {
		return fmt.Errorf("the mail has no right form: %w", err)
	}
	if c.s.opt.Refuse != nil {
		if err := c.s.opt.Refuse(c.mail.To, true); err != nil {
			return err
		}
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.mails = append(c.s.mails, c.mail)
	close(c.s.came)
	c.s.came = make(chan struct{})
	return nil
}

// read takes a mail apart.
func (m *Mail) read(text []byte) error {
	msg, err := netmail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		return err
	}
	m.Header = msg.Header
	var words mime.WordDecoder
	if m.Subject, err = words.DecodeHeader(msg.Header.Get("Subject")); err != nil {
		return err
	}
	kind, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		return fmt.Errorf("%s is no mail with text and HTML: %w", kind, err)
	}
	parts := multipart.NewReader(msg.Body, params["boundary"])
	for {
		part, err := parts.NextRawPart()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		var body io.Reader = part
		if strings.EqualFold(part.Header.Get("Content-Transfer-Encoding"), "quoted-printable") {
			body = quotedprintable.NewReader(part)
		}
		content, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		if strings.HasPrefix(part.Header.Get("Content-Type"), "text/html") {
			m.HTML = string(content)
		} else {
			m.Text = strings.ReplaceAll(string(content), "\r\n", "\n")
		}
	}
}

// certificate makes a certificate for this machine, of an authority of its own.
func certificate(t testing.TB, roots *x509.CertPool) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail.test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}
