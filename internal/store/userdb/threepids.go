// Tables threepids and threepid_sessions. The addresses of accounts are written by package
// account; sessions are begun and confirmed by package threepid, and used up by packages
// threepid and auth.

package userdb

import (
	"errors"

	"stoa/internal/store"
)

var (
	// ErrThreepidInUse says that an address belongs to an account.
	ErrThreepidInUse = errors.New("store: the address belongs to an account")
	// ErrAlreadySent says that a session has had this send attempt, or a later one.
	ErrAlreadySent = errors.New("store: the mail of this attempt has been sent")
	// ErrNotConfirmed says that a token does not confirm a session, or not any more.
	ErrNotConfirmed = errors.New("store: the token confirms nothing")
)

// MediumEmail is the medium of email addresses.
const MediumEmail = "email"

// Purpose says what a confirmed address is for. The numbers are in the database.
type Purpose int

// The values of Purpose.
const (
	PurposeAdd      Purpose = 1 // an account gets the address
	PurposeRegister Purpose = 2
	PurposePassword Purpose = 3
)

// Threepid is a confirmed address of an account.
type Threepid struct {
	Medium, Address      string
	User                 store.UserNum
	ValidatedTS, AddedTS int64 // ms of the database's clock
}

// ThreepidSession is an address that is being confirmed.
type ThreepidSession struct {
	SID         string
	Purpose     Purpose
	Address     string
	User        store.UserNum // who adds the address; 0: nobody yet
	Secret      []byte        // the hash of the client's secret
	Token       []byte        // the hash of what confirms it; nil: nothing does
	SendAttempt int64
	NextLink    string
	ValidatedTS int64 // 0: not yet
	ExpiresTS   int64 // ms of the database's clock
}

const (
	threepidColumns        = `medium, address, user_num, validated_ts, added_ts`
	threepidSessionColumns = `sid, purpose, address, user_num, secret, token, send_attempt, next_link, validated_ts, expires_ts`
)

var (
	selectThreepid  = store.Prepare(`SELECT ` + threepidColumns + ` FROM threepids WHERE medium = $1 AND address = $2`)
	selectThreepids = store.Prepare(`SELECT ` + threepidColumns + ` FROM threepids WHERE user_num = $1 ORDER BY added_ts, medium, address LIMIT $2`)
	insertThreepid  = store.Prepare(`INSERT INTO threepids (` + threepidColumns + `) VALUES ($1, $2, $3, $4, {{now}}) ON CONFLICT (medium, address) DO NOTHING`)
	deleteThreepid  = store.Prepare(`DELETE FROM threepids WHERE medium = $1 AND address = $2 AND user_num = $3`)

	selectThreepidSession = store.Prepare(`SELECT ` + threepidSessionColumns + ` FROM threepid_sessions WHERE sid = $1 AND expires_ts > {{now}}`)
	beginThreepidSession  = store.Prepare(`INSERT INTO threepid_sessions (sid, purpose, address, user_num, secret, token, send_attempt, next_link, expires_ts)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, {{now}} + $9)
		ON CONFLICT (sid) DO UPDATE SET token = excluded.token, send_attempt = excluded.send_attempt, next_link = excluded.next_link, expires_ts = excluded.expires_ts,
			validated_ts = CASE WHEN threepid_sessions.expires_ts > {{now}} THEN threepid_sessions.validated_ts ELSE 0 END
		WHERE threepid_sessions.send_attempt < excluded.send_attempt OR threepid_sessions.expires_ts <= {{now}}`)
	confirmThreepidSession = store.Prepare(`UPDATE threepid_sessions SET
			validated_ts = CASE WHEN validated_ts = 0 THEN {{now}} ELSE validated_ts END,
			expires_ts = CASE WHEN expires_ts < {{now}} + $3 THEN {{now}} + $3 ELSE expires_ts END
		WHERE sid = $1 AND token = $2 AND expires_ts > {{now}}`)
	useThreepidSession     = store.Prepare(`DELETE FROM threepid_sessions WHERE sid = $1 AND validated_ts > 0 AND expires_ts > {{now}}`)
	expireThreepidSessions = store.Prepare(`DELETE FROM threepid_sessions WHERE expires_ts <= {{now}}`)
)

func scanThreepid(row *store.Row) (t Threepid) {
	row.Scan(&t.Medium, &t.Address, &t.User, &t.ValidatedTS, &t.AddedTS)
	return t
}

func scanThreepidSession(row *store.Row) (s ThreepidSession) {
	var purpose int64
	row.Scan(&s.SID, &purpose, &s.Address, &s.User)
	s.Purpose = Purpose(purpose)
	s.Secret = append([]byte(nil), row.Bytes()...)
	s.Token = append([]byte(nil), row.Bytes()...)
	row.Scan(&s.SendAttempt, &s.NextLink, &s.ValidatedTS, &s.ExpiresTS)
	return s
}

// ThreepidOf returns an address with the account that it belongs to, or store.ErrNotFound.
func ThreepidOf(r *store.Read, medium, address string) (Threepid, error) {
	return store.QueryOne(r, selectThreepid, scanThreepid, medium, address)
}

// Threepids returns the addresses of an account in the order in which they were added.
func Threepids(r *store.Read, user store.UserNum, limit int) ([]Threepid, error) {
	return store.Query(r, selectThreepids, scanThreepid, user, limit)
}

// AddThreepid gives an account an address. The change fails with ErrThreepidInUse if the
// address belongs to an account. The caller adds the user's head to the same change.
func AddThreepid(c *store.Change, t Threepid) {
	c.ExecOne(insertThreepid, ErrThreepidInUse, t.Medium, t.Address, t.User, t.ValidatedTS)
}

// DeleteThreepid takes an address from an account. The caller adds the user's head to the
// same change.
func DeleteThreepid(c *store.Change, user store.UserNum, medium, address string) {
	c.Exec(deleteThreepid, medium, address, user)
}

// ThreepidSessionByID returns a session that has not expired, or store.ErrNotFound.
func ThreepidSessionByID(r *store.Read, sid string) (ThreepidSession, error) {
	return store.QueryOne(r, selectThreepidSession, scanThreepidSession, sid)
}

// BeginThreepidSession adds a session, or gives it a new token. The change fails with
// ErrAlreadySent unless the send attempt is later than that of the session.
func BeginThreepidSession(c *store.Change, s ThreepidSession, lifetimeMS int64) {
	c.ExecOne(beginThreepidSession, ErrAlreadySent, s.SID, int64(s.Purpose), s.Address, s.User, s.Secret, s.Token, s.SendAttempt, s.NextLink, lifetimeMS)
}

// ConfirmThreepidSession notes that an address was confirmed, and keeps the session for at
// least some ms. The change fails with ErrNotConfirmed if the token is not the session's.
func ConfirmThreepidSession(c *store.Change, sid string, token []byte, keepMS int64) {
	c.ExecOne(confirmThreepidSession, ErrNotConfirmed, sid, token, keepMS)
}

// UseThreepidSession deletes a confirmed session in the commit of what it grants. The
// change fails with ErrTokenUsed if there is none.
func UseThreepidSession(c *store.Change, sid string) {
	c.ExecOne(useThreepidSession, ErrTokenUsed, sid)
}

// ExpireThreepidSessions deletes expired sessions.
func ExpireThreepidSessions(tx *store.Tx) error {
	_, err := tx.Exec(expireThreepidSessions)
	return err
}
