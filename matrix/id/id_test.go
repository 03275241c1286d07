package id_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"stoa/matrix/id"
)

// verdict is what a grammar says of a text.
type verdict struct {
	in string
	ok bool
}

func check[T interface{ String() string }](t *testing.T, parse func(string) (T, error), cases map[string]verdict) {
	t.Helper()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parse(c.in)
			if (err == nil) != c.ok {
				t.Fatalf("parsing %.80q: %v", c.in, err)
			}
			if c.ok && got.String() != c.in {
				t.Fatalf("parsing %.80q gives %.80q", c.in, got)
			}
			var e *id.Error
			if !c.ok && (!errors.As(err, &e) || e.Kind == "" || e.Reason == "") {
				t.Fatalf("parsing %.80q: the error %v is no *id.Error with kind and reason", c.in, err)
			}
		})
	}
}

// Spec: appendices#server-name
func TestParseServerName(t *testing.T) {
	t.Parallel()
	check(t, id.ParseServerName, map[string]verdict{
		"takes a DNS name":                       {"matrix.org", true},
		"takes a DNS name with port":             {"matrix.org:8888", true},
		"takes an IPv4 literal":                  {"1.2.3.4", true},
		"takes an IPv4 literal with port":        {"1.2.3.4:1234", true},
		"takes an IPv6 literal":                  {"[1234:5678::abcd]", true},
		"takes an IPv6 literal with port":        {"[1234:5678::abcd]:5678", true},
		"takes an IPv6 literal with IPv4 in it":  {"[::ffff:1.2.3.4]", true},
		"takes upper case":                       {"MATRIX.org", true},
		"takes hyphens":                          {"my-host.example", true},
		"takes a name without dots":              {"localhost", true},
		"takes a port of 5 digits":               {"localhost:65535", true},
		"takes the longest name":                 {strings.Repeat("a", id.MaxServerNameLength), true},
		"refuses a longer name":                  {strings.Repeat("a", id.MaxServerNameLength+1), false},
		"refuses the empty name":                 {"", false},
		"refuses a port alone":                   {":8448", false},
		"refuses an empty port":                  {"matrix.org:", false},
		"refuses a port of 6 digits":             {"matrix.org:123456", false},
		"refuses a port with letters":            {"matrix.org:80a", false},
		"refuses two ports":                      {"matrix.org:80:80", false},
		"refuses an underscore":                  {"my_host", false},
		"refuses a space":                        {"my host", false},
		"refuses a slash":                        {"matrix.org/x", false},
		"refuses letters beyond ASCII":           {"mätrix.org", false},
		"refuses NUL":                            {"matrix\x00.org", false},
		"refuses IPv6 without brackets":          {"1234:5678::abcd", false},
		"refuses IPv6 that does not end":         {"[1234:5678::abcd", false},
		"refuses IPv6 with something behind":     {"[::1]x", false},
		"refuses IPv6 with something before":     {"x[::1]", false},
		"refuses an empty IPv6 literal":          {"[]", false},
		"refuses an IPv4 literal in brackets":    {"[1.2.3.4]", false},
		"refuses an IPv6 literal with a zone":    {"[fe80::1%eth0]", false},
		"refuses IPv6 with too many groups":      {"[1:2:3:4:5:6:7:8:9]", false},
		"refuses an IPv6 literal with bad port":  {"[::1]:", false},
		"refuses an IPv6 literal with bad digit": {"[::g]", false},
	})
}

func TestServerName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]struct {
		host, port string
		ip         bool
	}{
		"matrix.org":      {"matrix.org", "", false},
		"matrix.org:8448": {"matrix.org", "8448", false},
		"1.2.3.4:1":       {"1.2.3.4", "1", true},
		"[::1]":           {"[::1]", "", true},
		"[::1]:8448":      {"[::1]", "8448", true},
	} {
		name := must(id.ParseServerName(in))
		if name.Host() != want.host || name.Port() != want.port || name.IsIPLiteral() != want.ip {
			t.Errorf("%s: host %q, port %q, IP literal %v", in, name.Host(), name.Port(), name.IsIPLiteral())
		}
	}
}

// Spec: appendices#user-identifiers, appendices#historical-user-ids
func TestParseUserID(t *testing.T) {
	t.Parallel()
	check(t, id.ParseUserID, map[string]verdict{
		"takes an ordinary ID":               {"@alice:example.org", true},
		"takes all characters of today":      {"@abcxyz0189._=-/+:example.org", true},
		"takes a domain with port":           {"@alice:example.org:8448", true},
		"takes an IPv6 domain":               {"@alice:[::1]:8448", true},
		"takes upper case (historical)":      {"@Alice:example.org", true},
		"takes an empty localpart":           {"@:example.org", true},
		"takes control characters":           {"@a\x01\nb:example.org", true},
		"takes Unicode (historical)":         {"@ålice💬:example.org", true},
		"takes 255 bytes":                    {"@" + strings.Repeat("a", 242) + ":example.org", true},
		"refuses 256 bytes":                  {"@" + strings.Repeat("a", 243) + ":example.org", false},
		"counts bytes, not characters":       {"@" + strings.Repeat("ä", 122) + ":example.org", false},
		"refuses the empty text":             {"", false},
		"refuses a missing sigil":            {"alice:example.org", false},
		"refuses another sigil":              {"!alice:example.org", false},
		"refuses a missing domain":           {"@alice", false},
		"refuses an empty domain":            {"@alice:", false},
		"refuses a domain that is no server": {"@alice:exa mple", false},
		"refuses NUL":                        {"@a\x00:example.org", false},
		"refuses invalid UTF-8":              {"@a\xff:example.org", false},
		"refuses surrogates":                 {"@a\xed\xa0\x80:example.org", false},
		"refuses the sigil alone":            {"@", false},
	})
}

func TestUserID(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]struct {
		localpart, server     string
		historical, compliant bool
	}{
		"@alice:example.org":      {"alice", "example.org", false, true},
		"@alice:example.org:8448": {"alice", "example.org:8448", false, true},
		"@Alice!:example.org":     {"Alice!", "example.org", true, true},
		"@al ice:example.org":     {"al ice", "example.org", true, false},
		"@älice:example.org":      {"älice", "example.org", true, false},
		"@:example.org":           {"", "example.org", true, false},
	} {
		u := must(id.ParseUserID(in))
		if u.Localpart() != want.localpart || u.ServerName().String() != want.server {
			t.Errorf("%s: localpart %q, server %q", in, u.Localpart(), u.ServerName())
		}
		if u.IsHistorical() != want.historical || u.IsCompliant() != want.compliant {
			t.Errorf("%s: historical %v, compliant %v", in, u.IsHistorical(), u.IsCompliant())
		}
	}
}

// Spec: appendices#user-identifiers
func TestNewUserID(t *testing.T) {
	t.Parallel()
	server := must(id.ParseServerName("example.org"))
	check(t, func(localpart string) (id.UserID, error) {
		u, err := id.NewUserID(strings.TrimSuffix(strings.TrimPrefix(localpart, "@"), ":example.org"), server)
		return u, err
	}, map[string]verdict{
		"takes all characters of today":   {"@abcxyz0189._=-/+:example.org", true},
		"takes 255 bytes":                 {"@" + strings.Repeat("a", 242) + ":example.org", true},
		"refuses 256 bytes":               {"@" + strings.Repeat("a", 243) + ":example.org", false},
		"refuses an empty localpart":      {"@:example.org", false},
		"refuses upper case":              {"@Alice:example.org", false},
		"refuses a colon":                 {"@al:ice:example.org", false},
		"refuses Unicode":                 {"@älice:example.org", false},
		"refuses a space":                 {"@al ice:example.org", false},
		"refuses other ASCII punctuation": {"@al*ice:example.org", false},
	})
	if _, err := id.NewUserID("alice", id.ServerName{}); err == nil {
		t.Error("a user without a server was made")
	}
}

// Spec: appendices#mapping-from-other-character-sets
func TestMapLocalpart(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"alice": "alice", "Alice": "alice", "#": "=23", "á": "=c3=a1", "a=b": "a=3db", "a b": "a=20b", "_.-/+": "_.-/+",
	} {
		if got := id.MapLocalpart(in); got != want {
			t.Errorf("MapLocalpart(%q) = %q, want %q", in, got, want)
		}
	}
}

// Spec: appendices#room-ids
func TestParseRoomID(t *testing.T) {
	t.Parallel()
	check(t, id.ParseRoomID, map[string]verdict{
		"takes an ID with domain":        {"!abc:example.org", true},
		"takes an ID that is a hash":     {"!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM", true},
		"takes an opaque ID of any form": {"!room", true},
		"takes Unicode":                  {"!röom:example.org", true},
		"takes control characters":       {"!a\x01b:example.org", true},
		"takes an empty localpart":       {"!:example.org", true},
		"takes 255 bytes":                {"!" + strings.Repeat("a", 242) + ":example.org", true},
		"refuses 256 bytes":              {"!" + strings.Repeat("a", 243) + ":example.org", false},
		"refuses 256 bytes of hash":      {"!" + strings.Repeat("a", 255), false},
		"refuses the sigil alone":        {"!", false},
		"refuses an empty domain":        {"!abc:", false},
		"refuses a bad domain":           {"!abc:a_b", false},
		"refuses an alias":               {"#abc:example.org", false},
		"refuses NUL":                    {"!a\x00:example.org", false},
		"refuses NUL without domain":     {"!a\x00", false},
		"refuses invalid UTF-8":          {"!a\xc3", false},
	})
}

// Spec: appendices#room-ids, rooms/v12#event-format
func TestRoomIDOfCreateEvent(t *testing.T) {
	t.Parallel()
	create := must(id.ParseEventID("$31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM"))
	room := must(id.ParseRoomID("!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM"))
	if create.RoomID() != room || room.CreateEventID() != create || !room.IsHash() {
		t.Errorf("room %s of create event %s, create event %s of room %s", create.RoomID(), create, room.CreateEventID(), room)
	}
	for _, other := range []string{"$abc:example.org", "$acR1l0raoZnm60CBwAVgqbZqoO/mYU81xysh1u7XcJk", "$short"} {
		if room := must(id.ParseEventID(other)).RoomID(); !room.IsZero() {
			t.Errorf("event %s makes the room ID %s", other, room)
		}
	}
	if event := must(id.ParseRoomID("!abc:example.org")).CreateEventID(); !event.IsZero() {
		t.Errorf("a room ID with domain has the create event %s", event)
	}
	if name := room.ServerName(); !name.IsZero() {
		t.Errorf("a room ID without domain has the server %s", name)
	}
}

// Spec: appendices#room-aliases
func TestParseRoomAlias(t *testing.T) {
	t.Parallel()
	check(t, id.ParseRoomAlias, map[string]verdict{
		"takes an ordinary alias":    {"#room:example.org", true},
		"takes Unicode and spaces":   {"#my röom 💬:example.org", true},
		"takes 255 bytes":            {"#" + strings.Repeat("a", 242) + ":example.org", true},
		"refuses 256 bytes":          {"#" + strings.Repeat("a", 243) + ":example.org", false},
		"refuses a missing domain":   {"#room", false},
		"refuses NUL":                {"#a\x00:example.org", false},
		"refuses invalid UTF-8":      {"#\xff:example.org", false},
		"refuses a room ID":          {"!room:example.org", false},
		"refuses the empty text":     {"", false},
		"refuses a bad server name":  {"#room:-_-", false},
		"refuses a colon in its end": {"#room:example.org:", false},
	})
	alias := must(id.ParseRoomAlias("#room:example.org:8448"))
	if alias.Localpart() != "room" || alias.ServerName().String() != "example.org:8448" {
		t.Errorf("localpart %q, server %q", alias.Localpart(), alias.ServerName())
	}
}

// Spec: appendices#event-ids, rooms/v1#event-ids, rooms/v3#event-ids, rooms/v4#event-ids
func TestParseEventID(t *testing.T) {
	t.Parallel()
	check(t, id.ParseEventID, map[string]verdict{
		"takes version 1":             {"$a4ecee13e2accdadf56c1025:example.com", true},
		"takes version 3":             {"$acR1l0raoZnm60CBwAVgqbZqoO/mYU81xysh1u7XcJk", true},
		"takes version 4":             {"$Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg", true},
		"takes 255 bytes":             {"$" + strings.Repeat("a", 254), true},
		"refuses 256 bytes":           {"$" + strings.Repeat("a", 255), false},
		"refuses the sigil alone":     {"$", false},
		"refuses an empty domain":     {"$abc:", false},
		"refuses another sigil":       {"!abc:example.org", false},
		"refuses NUL":                 {"$a\x00", false},
		"refuses what is not Unicode": {"$\x80", false},
	})
}

func TestEventIDOfHash(t *testing.T) {
	t.Parallel()
	hash := [32]byte{0xfb, 0xff, 0xbf}
	if got := id.EventIDOfHash(hash, false).String(); got != "$+/+/"+strings.Repeat("A", 39) {
		t.Errorf("standard: %s", got)
	}
	if got := id.EventIDOfHash(hash, true).String(); got != "$-_-_"+strings.Repeat("A", 39) {
		t.Errorf("URL-safe: %s", got)
	}
}

// Spec: appendices#signing-details
func TestParseKeyID(t *testing.T) {
	t.Parallel()
	check(t, id.ParseKeyID, map[string]verdict{
		"takes a server's key":             {"ed25519:auto", true},
		"takes a device's key":             {"curve25519:JLAFKJWSCS", true},
		"takes a cross-signing key":        {"ed25519:base64+master/key", true},
		"takes a colon in the identifier":  {"ed25519:a:b", true},
		"refuses a missing identifier":     {"ed25519:", false},
		"refuses a missing algorithm":      {":auto", false},
		"refuses a missing colon":          {"ed25519", false},
		"refuses more than 255 bytes":      {"ed25519:" + strings.Repeat("a", 248), false},
		"refuses NUL":                      {"ed25519:\x00", false},
		"refuses what is no valid Unicode": {"ed25519:\xff", false},
	})
	key := must(id.ParseKeyID("ed25519:a:b"))
	if key.Algorithm() != "ed25519" || key.Identifier() != "a:b" {
		t.Errorf("algorithm %q, identifier %q", key.Algorithm(), key.Identifier())
	}
	if _, err := id.NewKeyID("ed:25519", "auto"); err == nil {
		t.Error("an algorithm with a colon was taken")
	}
}

func TestParseDeviceID(t *testing.T) {
	t.Parallel()
	check(t, id.ParseDeviceID, map[string]verdict{
		"takes an ordinary ID":        {"GHTYAJCE", true},
		"takes Unicode":               {"Gerät 1", true},
		"takes 255 bytes":             {strings.Repeat("a", 255), true},
		"refuses 256 bytes":           {strings.Repeat("a", 256), false},
		"refuses the empty text":      {"", false},
		"refuses NUL":                 {"\x00", false},
		"refuses what is not Unicode": {"\xff", false},
	})
}

func TestIdentifiersInJSON(t *testing.T) {
	t.Parallel()
	type ids struct {
		User   id.UserID
		Room   id.RoomID
		Event  id.EventID
		Alias  id.RoomAlias
		Server id.ServerName
		Key    id.KeyID
		Levels map[id.UserID]int
	}
	const text = `{"User":"@a:b","Room":"!a:b","Event":"$a","Alias":"#a:b","Server":"b","Key":"ed25519:1","Levels":{"@a:b":1}}`
	var got ids
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if back := string(must(json.Marshal(got))); back != text {
		t.Errorf("%s came back as %s", text, back)
	}
	for _, bad := range []string{`{"User":"a"}`, `{"Room":""}`, `{"Event":"x"}`, `{"Alias":"#a"}`, `{"Server":"_"}`, `{"Key":"x"}`, `{"Levels":{"a":1}}`} {
		var e *id.Error
		if err := json.Unmarshal([]byte(bad), &ids{}); !errors.As(err, &e) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestZeroIdentifiersAreNone(t *testing.T) {
	t.Parallel()
	zero := id.UserID{}.IsZero() && id.RoomID{}.IsZero() && id.EventID{}.IsZero() && id.RoomAlias{}.IsZero() &&
		id.ServerName{}.IsZero() && id.KeyID{}.IsZero() && id.DeviceID("").IsZero()
	if !zero {
		t.Error("a zero identifier is something")
	}
	if s := (id.UserID{}).Localpart() + (id.RoomAlias{}).Localpart() + (id.RoomID{}).ServerName().String() + (id.ServerName{}).Host(); s != "" {
		t.Errorf("the zero identifiers have parts: %q", s)
	}
}

func TestErrorShowsAtMostAPartOfTheText(t *testing.T) {
	t.Parallel()
	_, err := id.ParseUserID("@" + strings.Repeat("x", 1<<20))
	if err == nil || len(err.Error()) > 1000 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"@alice:example.org", "!r:[::1]:8448", "$Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg", "#a:b", "ed25519:1", "@:a", "[", "1.2.3.4:80"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if u, err := id.ParseUserID(s); err == nil {
			if "@"+u.Localpart()+":"+u.ServerName().String() != s || len(s) > id.MaxLength {
				t.Errorf("user ID %q has the parts %q and %q", s, u.Localpart(), u.ServerName())
			}
			if _, err := id.NewUserID(u.Localpart(), u.ServerName()); (err == nil) == u.IsHistorical() {
				t.Errorf("user ID %q: historical %v, but new: %v", s, u.IsHistorical(), err)
			}
		}
		if a, err := id.ParseRoomAlias(s); err == nil && "#"+a.Localpart()+":"+a.ServerName().String() != s {
			t.Errorf("alias %q has the parts %q and %q", s, a.Localpart(), a.ServerName())
		}
		if n, err := id.ParseServerName(s); err == nil && n.Port() != "" && n.Host()+":"+n.Port() != s {
			t.Errorf("server name %q has the parts %q and %q", s, n.Host(), n.Port())
		}
		if r, err := id.ParseRoomID(s); err == nil && r.IsHash() && r.CreateEventID().RoomID() != r {
			t.Errorf("room ID %q is not that of its create event", s)
		}
		if e, err := id.ParseEventID(s); err == nil && e.Clone() != e {
			t.Errorf("the copy of event ID %q differs", s)
		}
		if k, err := id.ParseKeyID(s); err == nil && k.Algorithm()+":"+k.Identifier() != s {
			t.Errorf("key ID %q has the parts %q and %q", s, k.Algorithm(), k.Identifier())
		}
		if local := id.MapLocalpart(s); local != "" && len(local) < 200 {
			if _, err := id.NewUserID(local, must(id.ParseServerName("b"))); err != nil {
				t.Errorf("%q is mapped to %q, which is no localpart: %v", s, local, err)
			}
		}
	})
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
