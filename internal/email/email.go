// Package email reads email addresses.
//
// It owns the one form in which addresses are compared. It never sends anything: package
// mail does.
//
// The invariant that matters: an Address has no characters with a meaning in the header of
// a mail or in SMTP.
package email

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
)

const (
	// MaxLength bounds an email address, in bytes (RFC 5321).
	MaxLength      = 254
	maxMailbox     = 64
	maxDomainLabel = 63
	punctuation    = `()<>[]:;,\"@`
)

// Address is an email address in the one form in which addresses are compared: case folded.
// Its zero value is no address.
type Address struct{ text string }

// Parse reads an address as a person may type it: mailbox@domain, without a name,
// quotes or comments. A domain that is not ASCII must be in its xn-- form.
//
// Spec: appendices#e-mail
func Parse(text string) (Address, error) {
	folded := cases.Fold().String(strings.TrimSpace(text))
	at := strings.LastIndexByte(folded, '@')
	if !utf8.ValidString(text) || len(folded) > MaxLength || at < 1 {
		return Address{}, errors.New("an email address has the form mailbox@domain and at most 254 bytes")
	}
	mailbox, domain := folded[:at], folded[at+1:]
	if len(mailbox) > maxMailbox || strings.HasPrefix(mailbox, ".") || strings.HasSuffix(mailbox, ".") || strings.Contains(mailbox, "..") ||
		strings.ContainsFunc(mailbox, func(r rune) bool {
			return !unicode.IsGraphic(r) || unicode.IsSpace(r) || strings.ContainsRune(punctuation, r)
		}) {
		return Address{}, errors.New("the part before the @ is no mailbox")
	}
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || len(label) > maxDomainLabel || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return Address{}, errors.New("the part after the @ is no domain")
		}
	}
	return Address{folded}, nil
}

// String is the address in its one form.
func (a Address) String() string { return a.text }

// Domain is the part after the @.
func (a Address) Domain() string { return a.text[strings.LastIndexByte(a.text, '@')+1:] }

// IsZero reports whether there is no address.
func (a Address) IsZero() bool { return a.text == "" }
