package auth

import (
	"stoa/internal/store/userdb"
	"stoa/matrix/mxerr"
)

// Identifier says whom someone claims to be, in the forms of today and of
// earlier versions of the specification.
//
// Spec: client-server-api#identifier-types
type Identifier struct {
	Type    string `json:"type"`
	User    string `json:"user"`    // m.id.user: a user ID or a localpart
	Medium  string `json:"medium"`  // m.id.thirdparty
	Address string `json:"address"` // m.id.thirdparty
	Country string `json:"country"` // m.id.phone
	Phone   string `json:"phone"`   // m.id.phone
}

// Claim is the part of a password login, and of the password stage of
// interactive authentication, that says who and proves it.
type Claim struct {
	Identifier *Identifier `json:"identifier"`
	Password   *string     `json:"password"`

	// Deprecated forms of the identifier.
	User    *string `json:"user"`
	Medium  *string `json:"medium"`
	Address *string `json:"address"`
}

// name gives the user ID or localpart that is claimed, or the address of a third-party
// identifier: no account has a telephone number, so that is an address that nobody has.
func (c Claim) name() (name, address string, err error) {
	i := c.Identifier
	if i == nil {
		switch {
		case c.User != nil && *c.User != "":
			return *c.User, "", nil
		case c.Medium != nil && c.Address != nil:
			return "", ofMedium(*c.Medium, *c.Address), nil
		}
		return "", "", mxerr.MissingParam("The identifier is missing")
	}
	switch {
	case i.Type == "m.id.user":
		if i.User == "" {
			return "", "", mxerr.MissingParam("The identifier has no user")
		}
		return i.User, "", nil
	case i.Type == "m.id.thirdparty", i.Type == "" && i.Medium != "": // examples of the specification leave the type out
		if i.Medium == "" || i.Address == "" {
			return "", "", mxerr.MissingParam("The identifier has no medium or no address")
		}
		return "", ofMedium(i.Medium, i.Address), nil
	case i.Type == "m.id.phone":
		if i.Country == "" || i.Phone == "" {
			return "", "", mxerr.MissingParam("The identifier has no country or no phone")
		}
		return "", ofMedium("msisdn", i.Phone), nil
	case i.Type == "":
		return "", "", mxerr.MissingParam("The identifier has no type")
	}
	return "", "", mxerr.InvalidParam("Unknown type of identifier")
}

// ofMedium is an address as [email.Parse] reads it, if it is one of email.
func ofMedium(medium, address string) string {
	if medium != userdb.MediumEmail {
		return medium + " " + address
	}
	return address
}
