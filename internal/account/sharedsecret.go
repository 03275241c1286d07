package account

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"time"

	"stoa/matrix/mxerr"
)

// nonceLifetime is how long a nonce is valid.
const nonceLifetime = time.Minute

// SharedSecret lets scripts with a secret create accounts, as documented for the endpoint
// /_synapse/admin/v1/register: they request a nonce, then the account with an HMAC-SHA1
// over it.
//
// A nonce is its time and a random part with our own HMAC, so that any instance accepts
// it and none stores it. If it is sent twice, the second registration fails because the
// account exists.
type SharedSecret struct {
	secret   []byte
	nonceKey []byte
	clock    func() time.Time
}

// NewSharedSecret returns a SharedSecret; clock is time.Now if nil.
func NewSharedSecret(secret string, clock func() time.Time) *SharedSecret {
	if clock == nil {
		clock = time.Now
	}
	key := hmac.New(sha256.New, []byte(secret))
	key.Write([]byte("stoa: nonces of shared-secret registration"))
	return &SharedSecret{secret: []byte(secret), nonceKey: key.Sum(nil), clock: clock}
}

const (
	nonceRandom = 8
	nonceBody   = 8 + nonceRandom // time in ms, random part
	nonceMAC    = 16
)

// Nonce makes a nonce.
func (s *SharedSecret) Nonce() string {
	b := binary.BigEndian.AppendUint64(nil, uint64(s.clock().UnixMilli()))
	b = append(b, make([]byte, nonceRandom)...)
	rand.Read(b[8:]) // never fails
	return hex.EncodeToString(append(b, s.sign(b)...))
}

func (s *SharedSecret) sign(body []byte) []byte {
	mac := hmac.New(sha256.New, s.nonceKey)
	mac.Write(body)
	return mac.Sum(nil)[:nonceMAC]
}

func (s *SharedSecret) knows(nonce string) bool {
	b, err := hex.DecodeString(nonce)
	if err != nil || len(b) != nonceBody+nonceMAC || !hmac.Equal(b[nonceBody:], s.sign(b[:nonceBody])) {
		return false
	}
	age := s.clock().Sub(time.UnixMilli(int64(binary.BigEndian.Uint64(b))))
	return age >= 0 && age <= nonceLifetime
}

// SecretRegistration is a request for an account with the shared secret.
type SecretRegistration struct {
	Nonce    *string `json:"nonce"`
	Username *string `json:"username"`
	Password *string `json:"password"`
	Admin    bool    `json:"admin"`
	UserType *string `json:"user_type"`
	MAC      *string `json:"mac"` // hexadecimal
}

// Check checks the nonce and the MAC: HMAC-SHA1 with the secret over nonce, username,
// password and "admin" or "notadmin" (and the user type, if there is one), separated by
// NUL bytes.
func (s *SharedSecret) Check(reg SecretRegistration) error {
	if reg.Nonce == nil || reg.Username == nil || reg.Password == nil || reg.MAC == nil || *reg.Username == "" {
		return mxerr.MissingParam("nonce, username, password and mac are needed")
	}
	if err := checkPassword(*reg.Password); err != nil {
		return err
	}
	if !s.knows(*reg.Nonce) {
		return mxerr.InvalidParam("Unrecognised nonce")
	}
	role := "notadmin"
	if reg.Admin {
		role = "admin"
	}
	mac := hmac.New(sha1.New, s.secret)
	mac.Write([]byte(*reg.Nonce + "\x00" + *reg.Username + "\x00" + *reg.Password + "\x00" + role))
	if reg.UserType != nil {
		mac.Write([]byte("\x00" + *reg.UserType))
	}
	given, err := hex.DecodeString(*reg.MAC)
	if err != nil || !hmac.Equal(given, mac.Sum(nil)) {
		return mxerr.Forbidden("HMAC incorrect")
	}
	return nil
}
