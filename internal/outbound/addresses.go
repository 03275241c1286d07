package outbound

import (
	"net/netip"
	"strings"
)

// notPublic are the IPv4 networks that are not for public use (the special-purpose registry of IANA, RFC 6890).
var notPublic = prefixes(
	"0.0.0.0/8",       // this network
	"10.0.0.0/8",      // private
	"100.64.0.0/10",   // shared by the customers of a carrier
	"127.0.0.0/8",     // loopback
	"169.254.0.0/16",  // link-local, and the metadata services of clouds
	"172.16.0.0/12",   // private
	"192.0.0.0/24",    // protocol assignments
	"192.0.2.0/24",    // documentation
	"192.88.99.0/24",  // relays of 6to4
	"192.168.0.0/16",  // private
	"198.18.0.0/15",   // benchmarks
	"198.51.100.0/24", // documentation
	"203.0.113.0/24",  // documentation
	"224.0.0.0/4",     // multicast
	"240.0.0.0/4",     // reserved, broadcast
)

// public6 is the part of IPv6 that is given out for public use, and notPublic6 what lies in it and is not, or holds an IPv4
// address that could be private. All other ranges are outside of it: loopback, link-local, unique local, multicast,
// IPv4-mapped, IPv4-compatible, and NAT64 (64:ff9b::/96, 64:ff9b:1::/48).
var (
	public6    = netip.MustParsePrefix("2000::/3")
	notPublic6 = prefixes(
		"2001::/23",     // protocol assignments; Teredo
		"2001:db8::/32", // documentation
		"2002::/16",     // 6to4
		"3fff::/20",     // documentation
	)
)

// never are the networks that are not reached even if private ones are.
var never = prefixes("0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "::/128", "ff00::/8")

func prefixes(list ...string) (out []netip.Prefix) {
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// mayReach reports whether an address, unmapped, may be dialled.
func (c *Client) mayReach(a netip.Addr) bool {
	if !a.IsValid() || isIn(never, a.WithZone("")) {
		return false
	}
	return c.opt.AllowPrivate || IsPublic(a)
}

// IsPublic reports whether an address is for public use.
func IsPublic(a netip.Addr) bool {
	switch a = a.Unmap(); {
	case !a.IsValid() || a.Zone() != "":
		return false
	case a.Is4():
		return !isIn(notPublic, a)
	}
	return public6.Contains(a) && !isIn(notPublic6, a)
}

func isIn(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// endsInNumber reports whether a host that is no address in the usual form would be read as one by some resolvers:
// 2130706433, 0177.0.0.1, 0x7f.1.
func endsInNumber(host string) bool {
	host = strings.TrimSuffix(host, ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	digits := "0123456789"
	if len(last) > 1 && (last[:2] == "0x" || last[:2] == "0X") {
		last, digits = last[2:], "0123456789abcdefABCDEF"
	}
	return strings.Trim(last, digits) == ""
}

// refusedPorts are those of well-known protocols that are not HTTP: the first line of a request could be a command there.
var refusedPorts = func() map[string]bool {
	m := map[string]bool{}
	for _, p := range strings.Fields("0 1 7 9 11 13 15 17 19 20 21 22 23 25 37 42 43 53 69 77 79 87 95 101 102 103 104 109 110 111 113 115 117 119 " +
		"123 135 137 138 139 143 161 162 179 389 427 445 465 512 513 514 515 526 530 531 532 540 548 554 556 563 587 601 636 989 990 " +
		"993 995 1719 1720 1723 2049 3306 3659 4045 4190 5060 5061 5432 6000 6379 6566 6665 6666 6667 6668 6669 6679 6697 10080 11211 27017") {
		m[p] = true
	}
	return m
}()
