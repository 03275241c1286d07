package id

import "strings"

// UserID is `@localpart:domain`. The zero value is no user.
//
// Spec: appendices#user-identifiers
type UserID struct{ s string }

// ParseUserID takes any user ID that servers must accept, historical localparts included.
//
// Spec: appendices#historical-user-ids
func ParseUserID(s string) (UserID, error) {
	rest, err := sigil("user ID", s, '@')
	if err != nil {
		return UserID{}, err
	}
	if _, reason := split(rest); reason != "" {
		return UserID{}, fail("user ID", s, reason)
	}
	return UserID{s}, nil
}

// NewUserID makes the ID of a new user: the localpart must keep to today's character set.
//
// Spec: appendices#user-identifiers
func NewUserID(localpart string, server ServerName) (UserID, error) {
	s := "@" + localpart + ":" + server.s
	switch {
	case server.IsZero():
		return UserID{}, fail("user ID", s, "it has no domain")
	case localpart == "":
		return UserID{}, fail("user ID", s, "its localpart is empty")
	case len(s) > MaxLength:
		return UserID{}, fail("user ID", s, "it is longer than 255 bytes")
	}
	for i := range len(localpart) {
		if !userIDChar(localpart[i]) {
			return UserID{}, fail("user ID", s, "its localpart may contain only a-z, 0-9 and ._=-/+")
		}
	}
	return UserID{s}, nil
}

func userIDChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("._=-/+", c) >= 0
}

// String returns the whole ID, "" for none.
func (u UserID) String() string { return u.s }

// IsZero says whether this is no user.
func (u UserID) IsZero() bool { return u.s == "" }

// Localpart returns what stands between sigil and domain.
func (u UserID) Localpart() string { return localpart(u.s) }

// ServerName returns the domain.
func (u UserID) ServerName() ServerName { return domain(u.s) }

// IsHistorical says whether the localpart is outside of today's character set.
//
// Spec: appendices#historical-user-ids
func (u UserID) IsHistorical() bool {
	local := u.Localpart()
	for i := range len(local) {
		if !userIDChar(local[i]) {
			return true
		}
	}
	return local == ""
}

// IsCompliant says whether the user may be shown to clients outside of events: its localpart is not empty and has only
// characters from U+0021 to U+007E.
//
// Spec: appendices#historical-user-ids
func (u UserID) IsCompliant() bool {
	local := u.Localpart()
	for i := range len(local) {
		if local[i] < 0x21 || local[i] > 0x7E {
			return false
		}
	}
	return local != ""
}

// Clone returns the same ID in memory of its own.
func (u UserID) Clone() UserID { return UserID{strings.Clone(u.s)} }

// MarshalText implements encoding.TextMarshaler.
func (u UserID) MarshalText() ([]byte, error) { return []byte(u.s), nil }

// UnmarshalText implements encoding.TextUnmarshaler with ParseUserID.
func (u *UserID) UnmarshalText(text []byte) (err error) {
	*u, err = ParseUserID(string(text))
	return err
}

// MapLocalpart maps any text to a legal localpart as the specification suggests: A-Z become lower case, other bytes
// outside of the character set, and `=`, become `=` and two hexadecimal digits.
//
// Spec: appendices#mapping-from-other-character-sets
func MapLocalpart(s string) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'A' && c <= 'Z':
			b.WriteByte(c + 'a' - 'A')
		case c != '=' && userIDChar(c):
			b.WriteByte(c)
		default:
			b.WriteByte('=')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
	return b.String()
}
