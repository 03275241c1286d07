package config

import (
	"fmt"
	"net/url"
	"strings"

	"stoa/matrix/id"
)

// Terms are documents that people must accept to register.
type Terms []TermsDocument

// TermsDocument is one document in one language. Other languages and versions are
// separate lines.
type TermsDocument struct {
	ID, Version, Language, URL, Name string
}

// UnmarshalText reads "ID VERSION LANGUAGE URL NAME", several separated by
// semicolons.
func (t *Terms) UnmarshalText(text []byte) error {
	*t = nil
	version := map[string]string{}
	for _, line := range listed(text) {
		f := strings.Fields(line)
		if len(f) < 5 {
			return fmt.Errorf("%q must be an ID, a version, a language, an address and a name, with spaces between", line)
		}
		d := TermsDocument{ID: f[0], Version: f[1], Language: f[2], URL: f[3], Name: strings.Join(f[4:], " ")}
		if !id.IsOpaque(d.ID) || !id.IsOpaque(d.Version) || d.Language == "version" || !isAddress(d.URL) {
			return fmt.Errorf("%q: ID and version may hold letters, digits and - . _ ~, and the address must begin with https:// or http://", line)
		}
		if v, ok := version[d.ID]; ok && v != d.Version {
			return fmt.Errorf("the document %s has two versions, %s and %s", d.ID, v, d.Version)
		}
		version[d.ID] = d.Version
		*t = append(*t, d)
	}
	return nil
}

// Contacts are ways to reach the administrators of the server.
type Contacts []Contact

// Contact is a person with a Matrix ID, an email address, or both.
type Contact struct {
	Role, Email string
	MatrixID    id.UserID // zero = none
}

// UnmarshalText reads "ROLE ADDRESS", several separated by semicolons; the
// address is a Matrix user ID, an email address, or one of each.
func (c *Contacts) UnmarshalText(text []byte) error {
	*c = nil
	for _, line := range listed(text) {
		f := strings.Fields(line)
		if len(f) < 2 || len(f) > 3 || !id.IsNamespaced(f[0]) {
			return fmt.Errorf("%q must be a role (m.role.admin, m.role.security) and a user ID, an email address or both", line)
		}
		contact := Contact{Role: f[0]}
		for _, address := range f[1:] {
			user, err := id.ParseUserID(address)
			switch {
			case err == nil:
				contact.MatrixID = user
			case strings.Index(address, "@") > 0:
				contact.Email = address
			default:
				return fmt.Errorf("%q is neither a user ID (@admin:example.org) nor an email address", address)
			}
		}
		*c = append(*c, contact)
	}
	return nil
}

// listed returns the nonempty entries of a list.
func listed(text []byte) []string {
	var out []string
	for entry := range strings.SplitSeq(string(text), ";") {
		if entry = strings.TrimSpace(entry); entry != "" {
			out = append(out, entry)
		}
	}
	return out
}

func isAddress(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}
