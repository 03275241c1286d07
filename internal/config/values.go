package config

import (
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Secret is a setting that must not be shown.
type Secret string

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String hides the secret from fmt.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "(hidden)"
}

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// LogValue hides the secret from logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Registration says who may create an account.
type Registration string

// The values of Registration.
const (
	RegistrationClosed Registration = "closed"
	RegistrationToken  Registration = "token"
	RegistrationOpen   Registration = "open"
)

// UnmarshalText is for Load.
func (r *Registration) UnmarshalText(text []byte) error {
	return oneOf((*string)(r), text, "closed", "token", "open")
}

// Limiting says what happens to requests above rate limits.
type Limiting string

// The values of Limiting.
const (
	LimitsOn     Limiting = "on"
	LimitsReport Limiting = "report" // they are counted, and served
	LimitsOff    Limiting = "off"
)

// UnmarshalText is for Load. YAML's true and false are understood too.
func (l *Limiting) UnmarshalText(text []byte) error {
	switch string(text) {
	case "true":
		*l = LimitsOn
	case "false":
		*l = LimitsOff
	default:
		return oneOf((*string)(l), text, "on", "report", "off")
	}
	return nil
}

// LogFormat is the format of the log.
type LogFormat string

// The values of LogFormat.
const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// UnmarshalText is for Load.
func (f *LogFormat) UnmarshalText(text []byte) error {
	return oneOf((*string)(f), text, "text", "json")
}

// LogLevel is the least important level that is logged.
type LogLevel slog.Level

// UnmarshalText is for Load.
func (l *LogLevel) UnmarshalText(text []byte) error {
	var name string
	if err := oneOf(&name, text, "debug", "info", "warn", "error"); err != nil {
		return err
	}
	return (*slog.Level)(l).UnmarshalText(text)
}

// Level is for slog.
func (l LogLevel) Level() slog.Level { return slog.Level(l) }

// Length is a number of characters, 1 to 128.
type Length int

// UnmarshalText is for Load.
func (l *Length) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 1 || n > 128 {
		return fmt.Errorf("must be a number from 1 to 128, not %q", text)
	}
	*l = Length(n)
	return nil
}

// Switch is on or off.
type Switch bool

// UnmarshalText is for Load. YAML's true and false are understood too.
func (s *Switch) UnmarshalText(text []byte) error {
	switch string(text) {
	case "on", "true":
		*s = true
	case "off", "false":
		*s = false
	default:
		return fmt.Errorf("must be on or off, not %q", text)
	}
	return nil
}

func oneOf(to *string, text []byte, allowed ...string) error {
	for _, a := range allowed {
		if string(text) == a {
			*to = a
			return nil
		}
	}
	return fmt.Errorf("must be one of %s, not %q", strings.Join(allowed, ", "), text)
}

// Bytes is a size in bytes.
type Bytes int64

// UnmarshalText reads "1048576", "1024KiB" or "1 MiB".
func (b *Bytes) UnmarshalText(text []byte) error {
	digits := strings.TrimSpace(string(text))
	unit := int64(1)
	for suffix, factor := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if rest, ok := strings.CutSuffix(digits, suffix); ok {
			digits, unit = strings.TrimSpace(rest), factor
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return fmt.Errorf("must be a number of bytes such as 500000, 64KiB or 100MiB, not %q", text)
	}
	*b = Bytes(n * unit)
	return nil
}

// Date is a day, from its beginning in UTC on; zero = none.
type Date struct{ time.Time }

// UnmarshalText reads 2026-12-31.
func (d *Date) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		d.Time = time.Time{}
		return nil
	}
	if d.Time, err = time.Parse(time.DateOnly, string(text)); err != nil {
		return fmt.Errorf("must be a date such as 2026-12-31, not %q", text)
	}
	return nil
}

// Paths is a list of files, written with colons between them (semicolons on
// Windows).
type Paths []string

// UnmarshalText is for Load.
func (p *Paths) UnmarshalText(text []byte) error {
	*p = nil
	for _, path := range filepath.SplitList(string(text)) {
		if path != "" {
			*p = append(*p, path)
		}
	}
	return nil
}

// Hosts is a list of host names or addresses, in lower case.
type Hosts []string

// UnmarshalText reads names separated by commas or spaces.
func (h *Hosts) UnmarshalText(text []byte) error {
	*h = nil
	for _, name := range strings.FieldsFunc(string(text), func(r rune) bool { return r == ',' || r == ' ' }) {
		if strings.ContainsAny(name, "/*@") || strings.Contains(name, "://") {
			return fmt.Errorf("%q must be the name of a host, such as example.org; all hosts below it are meant too", name)
		}
		*h = append(*h, strings.ToLower(strings.Trim(name, ".[]")))
	}
	return nil
}

// parsePrefixes reads addresses and networks separated by commas or spaces.
func parsePrefixes(text string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, field := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		if a, err := netip.ParseAddr(field); err == nil {
			a = a.Unmap()
			all = append(all, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(field)
		if err != nil {
			return nil, fmt.Errorf("%q is neither an address (10.0.0.1) nor a network (10.0.0.0/8)", field)
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

// Days is a number of days, such as 90d; 0 = none.
type Days time.Duration

// UnmarshalText is for Load.
func (d *Days) UnmarshalText(text []byte) error {
	number, hasUnit := strings.CutSuffix(string(text), "d")
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 || n > 36500 || !hasUnit && n != 0 {
		return fmt.Errorf("must be a number of days, such as 90d, or 0, not %q", text)
	}
	*d = Days(time.Duration(n) * 24 * time.Hour)
	return nil
}
