package id

import (
	"net/netip"
	"strings"
)

// ServerName is a hostname or an address, with or without a port. Upper and lower case differ. The zero value is no server.
//
// Spec: appendices#server-name
type ServerName struct{ s string }

// ParseServerName takes any server name.
func ParseServerName(s string) (ServerName, error) {
	if reason := serverName(s); reason != "" {
		return ServerName{}, fail("server name", s, reason)
	}
	return ServerName{s}, nil
}

// serverName returns the reason why a text is no server name, or "".
func serverName(s string) string {
	if s == "" {
		return "it is empty"
	}
	if len(s) > MaxServerNameLength {
		return "it is longer than 253 bytes"
	}
	host, port, hasPort := trimPort(s)
	if hasPort {
		if len(port) == 0 || len(port) > 5 {
			return "its port must have 1 to 5 digits"
		}
		for i := range len(port) {
			if port[i] < '0' || port[i] > '9' {
				return "its port must have 1 to 5 digits"
			}
		}
	}
	if strings.HasPrefix(host, "[") {
		return ipv6(host)
	}
	if host == "" {
		return "it has no hostname"
	}
	for i := range len(host) {
		c := host[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && c != '-' && c != '.' {
			return "its hostname may contain only letters, digits, '-' and '.'"
		}
	}
	return ""
}

// trimPort parts host and port. The colons between brackets are the host's.
func trimPort(s string) (host, port string, hasPort bool) {
	if !strings.HasPrefix(s, "[") {
		return strings.Cut(s, ":")
	}
	end := strings.IndexByte(s, ']') + 1
	if rest, found := strings.CutPrefix(s[end:], ":"); found {
		return s[:end], rest, true
	}
	return s, "", false
}

func ipv6(host string) string {
	if !strings.HasSuffix(host, "]") {
		return "its IPv6 address is not closed by ']'"
	}
	address, err := netip.ParseAddr(host[1 : len(host)-1])
	if err != nil || !address.Is6() || address.Zone() != "" {
		return "it has no IPv6 address between its brackets"
	}
	return ""
}

// String returns the name, "" for none.
func (n ServerName) String() string { return n.s }

// IsZero says whether this is no server.
func (n ServerName) IsZero() bool { return n.s == "" }

// Host returns the name without its port; brackets around an IPv6 address stay.
func (n ServerName) Host() string {
	host, _, _ := trimPort(n.s)
	return host
}

// Port returns the port, "" if the name has none.
func (n ServerName) Port() string {
	_, port, _ := trimPort(n.s)
	return port
}

// IsIPLiteral says whether the host is an IPv4 or IPv6 address.
func (n ServerName) IsIPLiteral() bool {
	host := strings.TrimSuffix(strings.TrimPrefix(n.Host(), "["), "]")
	_, err := netip.ParseAddr(host)
	return err == nil
}

// Clone returns the same name in memory of its own.
func (n ServerName) Clone() ServerName { return ServerName{strings.Clone(n.s)} }

// MarshalText implements encoding.TextMarshaler.
func (n ServerName) MarshalText() ([]byte, error) { return []byte(n.s), nil }

// UnmarshalText implements encoding.TextUnmarshaler with ParseServerName.
func (n *ServerName) UnmarshalText(text []byte) (err error) {
	*n, err = ParseServerName(string(text))
	return err
}
