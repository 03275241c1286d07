package config

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// MailServer is the server to which mails are given for delivery.
type MailServer struct {
	Host string // empty: no mail is sent
	Port int
	// ImplicitTLS says that the connection begins with TLS (smtps://). Otherwise it
	// becomes encrypted by STARTTLS.
	ImplicitTLS bool
	// OptionalTLS allows an unencrypted connection to a server without STARTTLS.
	OptionalTLS bool
	User        string
	Password    Secret
}

// String is the address without the password.
func (m MailServer) String() string {
	if m.Host == "" {
		return ""
	}
	u := url.URL{Scheme: "smtp", Host: net.JoinHostPort(m.Host, strconv.Itoa(m.Port))}
	if m.ImplicitTLS {
		u.Scheme = "smtps"
	}
	if m.User != "" {
		u.User = url.User(m.User)
	}
	return u.String()
}

// UnmarshalText reads smtp://user:password@host:587 or smtps://…. Its errors don't
// contain the text, which has a password.
func (m *MailServer) UnmarshalText(text []byte) error {
	*m = MailServer{}
	if len(text) == 0 {
		return nil
	}
	u, err := url.Parse(string(text))
	if err != nil || u.Scheme != "smtp" && u.Scheme != "smtps" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" {
		return errors.New("must be smtp://user:password@host:587 or smtps://user:password@host:465; write special characters of user and password as %XX")
	}
	m.Host, m.ImplicitTLS, m.Port = u.Hostname(), u.Scheme == "smtps", 587
	if m.ImplicitTLS {
		m.Port = 465
	}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("the port %q must be a number from 1 to 65535", p)
		}
		m.Port = int(n)
	}
	m.User = u.User.Username()
	password, _ := u.User.Password()
	m.Password = Secret(password)
	m.OptionalTLS = isLoopbackHost(m.Host)
	switch tls := u.Query().Get("tls"); {
	case u.RawQuery == "":
	case tls == "optional" && len(u.Query()) == 1 && !m.ImplicitTLS:
		m.OptionalTLS = true
	default:
		return errors.New("the only parameter is ?tls=optional, with smtp://")
	}
	return nil
}

func isLoopbackHost(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// MailAddress is a sender, such as Stoa <noreply@example.org>.
type MailAddress string

// UnmarshalText is for Load.
func (a *MailAddress) UnmarshalText(text []byte) error {
	*a = MailAddress(text)
	if len(text) == 0 {
		return nil
	}
	if _, err := mail.ParseAddress(string(text)); err != nil {
		return fmt.Errorf("must be an email address, such as noreply@example.org or Stoa <noreply@example.org>, not %q", text)
	}
	return nil
}

// Addresses are email addresses, separated by commas.
type Addresses []string

// UnmarshalText is for Load.
func (a *Addresses) UnmarshalText(text []byte) error {
	*a = nil
	for _, field := range strings.FieldsFunc(string(text), func(r rune) bool { return r == ',' || r == ' ' }) {
		address, err := mail.ParseAddress(field)
		if err != nil {
			return fmt.Errorf("must be email addresses, separated by commas: %q is none", field)
		}
		*a = append(*a, address.Address)
	}
	return nil
}

// MailBudget is how many mails may be sent in a time; Count 0 = any number.
type MailBudget struct {
	Count int64
	Per   time.Duration
}

// UnmarshalText reads 200/day, 20/hour or off.
func (b *MailBudget) UnmarshalText(text []byte) error {
	*b = MailBudget{}
	if string(text) == "off" || string(text) == "false" {
		return nil
	}
	count, per, _ := strings.Cut(string(text), "/")
	n, err := strconv.ParseInt(strings.TrimSpace(count), 10, 64)
	units := map[string]time.Duration{"hour": time.Hour, "day": 24 * time.Hour}
	unit := units[strings.TrimSpace(per)]
	if err != nil || n < 1 || n > 1e6 || unit == 0 {
		return fmt.Errorf("must be a number of mails from 1 to 1000000 a day or an hour, such as 200/day or 20/hour, or off, not %q", text)
	}
	*b = MailBudget{Count: n, Per: unit}
	return nil
}

// HostPorts is a list of host names, some with a port, separated by commas.
type HostPorts []string

// UnmarshalText is for Load.
func (h *HostPorts) UnmarshalText(text []byte) error {
	*h = nil
	for _, host := range strings.FieldsFunc(string(text), func(r rune) bool { return r == ',' || r == ' ' }) {
		host = strings.ToLower(host)
		u, err := url.Parse("https://" + host + "/")
		if err != nil || u.Host != host || u.User != nil || host == "" {
			return fmt.Errorf("%q must be a host name, such as app.example.org, or one with a port", host)
		}
		*h = append(*h, host)
	}
	return nil
}

// Wait is a span of time, such as 10m.
type Wait time.Duration

// UnmarshalText is for Load.
func (w *Wait) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil || d < 0 || d > 7*24*time.Hour {
		return fmt.Errorf("must be a time up to 168h, such as 90s, 10m or 1h, not %q", text)
	}
	*w = Wait(d)
	return nil
}

// Demand says whether something is asked for.
type Demand string

// The values of Demand.
const (
	DemandOff      Demand = "off"
	DemandOptional Demand = "optional"
	DemandRequired Demand = "required"
)

// UnmarshalText is for Load.
func (d *Demand) UnmarshalText(text []byte) error {
	if string(text) == "false" { // YAML's off
		text = []byte("off")
	}
	return oneOf((*string)(d), text, "off", "optional", "required")
}

// checkMail checks the settings of mail together.
func (c *Config) checkMail() error {
	switch {
	case c.MailSMTP.Host == "" && c.RegistrationEmail == DemandRequired:
		return errors.New("registration_email: required needs mail_smtp and mail_from")
	case c.MailSMTP.Host == "" && len(c.ReportMail) > 0:
		return errors.New("report_mail: needs mail_smtp and mail_from")
	case c.MailSMTP.Host != "" && c.MailFrom == "":
		return errors.New("mail_from: is needed with mail_smtp: the address from which mails are sent, such as noreply@example.org")
	}
	return nil
}
