package store

// Access, refresh and login tokens, sessions of interactive authentication,
// and limits that are exact over all instances. Written by package auth. A
// token is kept as its SHA-256 only.

import (
	"context"
	"errors"
	"slices"
	"strings"
)

// Session is what an access token stands for.
type Session struct {
	User       UserNum
	UserID     string
	DeviceID   string
	ExpiresTS  int64 // ms since 1970; 0 = never
	SeenTS     int64 // when the device was last noted as seen
	Generation int64 // of the token
	Confirmed  int64 // generation of the device: tokens of earlier ones are revoked
	Admin      bool
	Locked     bool
	Suspended  bool
}

var (
	selectAccessToken = Prepare(`SELECT t.user_num, u.user_id, t.device_id, t.expires_ts, d.seen_ts, t.generation, d.generation,
			u.admin, u.locked, u.suspended
		FROM access_tokens t
		JOIN devices d ON d.user_num = t.user_num AND d.device_id = t.device_id
		JOIN users u ON u.num = t.user_num
		WHERE t.hash = $1`)
	selectRefreshToken = Prepare(`SELECT t.user_num, u.user_id, t.device_id, CAST(0 AS BIGINT), d.seen_ts, t.generation, d.generation,
			u.admin, u.locked, u.suspended
		FROM refresh_tokens t
		JOIN devices d ON d.user_num = t.user_num AND d.device_id = t.device_id
		JOIN users u ON u.num = t.user_num
		WHERE t.hash = $1`)

	insertAccessToken  = Prepare(`INSERT INTO access_tokens (hash, user_num, device_id, generation, expires_ts) VALUES ($1, $2, $3, $4, $5)`)
	insertRefreshToken = Prepare(`INSERT INTO refresh_tokens (hash, user_num, device_id, generation) VALUES ($1, $2, $3, $4)`)

	deleteAccessTokensOfDevice  = Prepare(`DELETE FROM access_tokens WHERE user_num = $1 AND device_id = $2`)
	deleteRefreshTokensOfDevice = Prepare(`DELETE FROM refresh_tokens WHERE user_num = $1 AND device_id = $2`)
	deleteLaterAccessTokens     = Prepare(`DELETE FROM access_tokens WHERE user_num = $1 AND device_id = $2 AND generation > $3`)
	deleteLaterRefreshTokens    = Prepare(`DELETE FROM refresh_tokens WHERE user_num = $1 AND device_id = $2 AND generation > $3`)
	deleteEarlierAccessTokens   = Prepare(`DELETE FROM access_tokens WHERE user_num = $1 AND device_id = $2 AND generation < $3`)
	deleteEarlierRefreshTokens  = Prepare(`DELETE FROM refresh_tokens WHERE user_num = $1 AND device_id = $2 AND generation < $3`)
	confirmGeneration           = Prepare(`UPDATE devices SET generation = $3 WHERE user_num = $1 AND device_id = $2 AND generation < $3`)
	requireGeneration           = Prepare(`UPDATE devices SET seen_ts = $4 WHERE user_num = $1 AND device_id = $2 AND generation = $3`)

	selectLoginToken  = Prepare(`SELECT user_num FROM login_tokens WHERE hash = $1 AND expires_ts > $2`)
	insertLoginToken  = Prepare(`INSERT INTO login_tokens (hash, user_num, expires_ts) VALUES ($1, $2, $3)`)
	useLoginToken     = Prepare(`DELETE FROM login_tokens WHERE hash = $1 AND expires_ts > $2`)
	expireLoginTokens = Prepare(`DELETE FROM login_tokens WHERE expires_ts <= $1`)
	selectUIASession  = Prepare(`SELECT operation, user_num FROM uia_sessions WHERE hash = $1 AND expires_ts > $2`)
	selectUIAStages   = Prepare(`SELECT stage, result FROM uia_stages WHERE hash = $1 ORDER BY stage`)
	insertUIASession  = Prepare(`INSERT INTO uia_sessions (hash, operation, user_num, expires_ts) VALUES ($1, $2, $3, $4)`)
	insertUIAStage    = Prepare(`INSERT INTO uia_stages (hash, stage, result, expires_ts) VALUES ($1, $2, $3, $4) ON CONFLICT (hash, stage) DO NOTHING`)
	deleteUIASession  = Prepare(`DELETE FROM uia_sessions WHERE hash = $1`)
	deleteUIAStages   = Prepare(`DELETE FROM uia_stages WHERE hash = $1`)
	expireUIASessions = Prepare(`DELETE FROM uia_sessions WHERE expires_ts <= $1`)
	expireUIAStages   = Prepare(`DELETE FROM uia_stages WHERE expires_ts <= $1`)
	selectLimit       = Prepare(`SELECT full_ts FROM limits WHERE name = $1`)
	takeLimit         = Prepare(`INSERT INTO limits (name, full_ts) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET full_ts = CASE WHEN limits.full_ts > $3 THEN limits.full_ts ELSE $3 END + $4
		WHERE CASE WHEN limits.full_ts > $3 THEN limits.full_ts ELSE $3 END + $4 <= $5`)
	deleteLimit      = Prepare(`DELETE FROM limits WHERE name = $1`)
	deleteFullLimits = Prepare(`DELETE FROM limits WHERE full_ts <= $1`)
)

func scanSession(row *Row) (s Session) {
	row.Scan(&s.User, &s.UserID, &s.DeviceID, &s.ExpiresTS, &s.SeenTS, &s.Generation, &s.Confirmed, &s.Admin, &s.Locked, &s.Suspended)
	return s
}

// AccessToken returns what an access token stands for, or ErrNotFound. Expired
// and revoked ones (Generation < Confirmed) are returned too.
func (r *Read) AccessToken(hash []byte) (Session, error) {
	return QueryOne(r, selectAccessToken, scanSession, hash)
}

// RefreshToken is AccessToken for refresh tokens; they don't expire. The last
// revoked one is kept, so that its use can be told from that of a foreign one.
func (r *Read) RefreshToken(hash []byte) (Session, error) {
	return QueryOne(r, selectRefreshToken, scanSession, hash)
}

// AddAccessToken adds a token of a device.
func (c *Change) AddAccessToken(hash []byte, user UserNum, deviceID string, generation, expiresTS int64) {
	c.Exec(insertAccessToken, hash, user, deviceID, generation, expiresTS)
}

// AddRefreshToken adds a refresh token of a device.
func (c *Change) AddRefreshToken(hash []byte, user UserNum, deviceID string, generation int64) {
	c.Exec(insertRefreshToken, hash, user, deviceID, generation)
}

// BeginGeneration makes room for tokens that follow a generation: those that an
// earlier refresh of the same generation issued, and nobody used, are deleted.
// The change fails with ErrTokenUsed if the device has moved on meanwhile.
func (c *Change) BeginGeneration(user UserNum, deviceID string, from, seenTS int64) {
	c.ExecOne(requireGeneration, ErrTokenUsed, user, deviceID, from, seenTS)
	c.Exec(deleteLaterAccessTokens, user, deviceID, from)
	c.Exec(deleteLaterRefreshTokens, user, deviceID, from)
}

// ConfirmGeneration revokes the tokens of earlier generations, since one of
// this generation was used.
func (c *Change) ConfirmGeneration(user UserNum, deviceID string, generation int64) {
	c.Exec(confirmGeneration, user, deviceID, generation)
	c.noteSessions(user)
	c.Exec(deleteEarlierAccessTokens, user, deviceID, generation)
	c.Exec(deleteEarlierRefreshTokens, user, deviceID, generation-1)
}

// noteSessions tells all instances to forget what they know of a user's tokens.
func (c *Change) noteSessions(user UserNum) { c.UserSlot(user, KindAccount) }

// LoginToken returns whom a login token logs in, or ErrNotFound.
func (r *Read) LoginToken(hash []byte, now int64) (UserNum, error) {
	return QueryOne(r, selectLoginToken, Num[UserNum], hash, now)
}

// AddLoginToken adds a login token, and deletes expired ones.
func (tx *Tx) AddLoginToken(hash []byte, user UserNum, now, expiresTS int64) error {
	if _, err := tx.Exec(expireLoginTokens, now); err != nil {
		return err
	}
	_, err := tx.Exec(insertLoginToken, hash, user, expiresTS)
	return err
}

// UseLoginToken deletes a login token. The change fails with ErrTokenUsed if it
// is gone.
func (c *Change) UseLoginToken(hash []byte, now int64) {
	c.ExecOne(useLoginToken, ErrTokenUsed, hash, now)
}

// UIASession is a session of interactive authentication.
type UIASession struct {
	Operation string
	User      UserNum // 0 = no access token was given
	Completed []UIAStage
}

// UIAStage is a completed stage, and what it proved.
type UIAStage struct{ Name, Result string }

func scanUIASession(row *Row) (s UIASession) {
	row.Scan(&s.Operation, &s.User)
	return s
}

func scanUIAStage(row *Row) (s UIAStage) {
	row.Scan(&s.Name, &s.Result)
	return s
}

// UIASession returns a session that has not expired, or ErrNotFound.
func (r *Read) UIASession(hash []byte, now int64) (UIASession, error) {
	s, err := QueryOne(r, selectUIASession, scanUIASession, hash, now)
	if err != nil {
		return s, err
	}
	s.Completed, err = Query(r, selectUIAStages, scanUIAStage, hash)
	return s, err
}

// AddUIASession adds a session with the stages completed already, and deletes
// expired ones.
func (tx *Tx) AddUIASession(hash []byte, s UIASession, now, expiresTS int64) error {
	for _, expire := range []*Stmt{expireUIASessions, expireUIAStages} {
		if _, err := tx.Exec(expire, now); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(insertUIASession, hash, s.Operation, s.User, expiresTS); err != nil {
		return err
	}
	return tx.AddUIAStages(hash, s.Completed, expiresTS)
}

// AddUIAStages notes stages of a session as completed.
func (tx *Tx) AddUIAStages(hash []byte, stages []UIAStage, expiresTS int64) error {
	for _, stage := range stages {
		if _, err := tx.Exec(insertUIAStage, hash, stage.Name, stage.Result, expiresTS); err != nil {
			return err
		}
	}
	return nil
}

// DeleteUIASession ends a session in the same commit as what it was for. The
// change fails with ErrTokenUsed if it has ended already.
func (c *Change) DeleteUIASession(hash []byte) {
	c.ExecOne(deleteUIASession, ErrTokenUsed, hash)
	c.Exec(deleteUIAStages, hash)
}

// Limit is a bucket of tokens that is exact over all instances.
type Limit struct {
	Name    string
	EveryMS int64 // in which one token comes back
	Burst   int64 // size of the bucket
}

// TakeLimits takes one token of each bucket, or of none: then waitMS is the time
// until all have one.
func (s *Store) TakeLimits(ctx context.Context, now int64, limits ...Limit) (waitMS int64, err error) {
	limits = slices.SortedFunc(slices.Values(limits), func(a, b Limit) int { return strings.Compare(a.Name, b.Name) })
	err = s.Read(ctx, func(r *Read) error {
		// Most refusals are of someone who tries again and again: they cost a read.
		waitMS, err = r.limitWait(now, limits)
		return err
	})
	if err != nil || waitMS > 0 {
		return waitMS, err
	}
	err = s.Write(ctx, func(tx *Tx) error {
		for _, l := range limits {
			// Decided by the statement: another instance may be just before us.
			err := tx.ExecOne(takeLimit, errLimited, l.Name, now+l.EveryMS, now, l.EveryMS, now+l.EveryMS*l.Burst)
			if err != nil {
				waitMS = l.EveryMS
				return err
			}
		}
		return nil
	})
	if errors.Is(err, errLimited) {
		return waitMS, nil
	}
	if err == nil && now%limitSweep == 0 {
		err = s.Write(ctx, func(tx *Tx) error {
			_, err := tx.Exec(deleteFullLimits, now)
			return err
		})
	}
	return 0, err
}

// errLimited takes back what was taken of other buckets.
var errLimited = errors.New("store: limit reached")

// limitSweep is the part of the calls, by their ms, that delete full buckets.
const limitSweep = 64

// limitWait says how long to wait until each bucket has a token.
func (r *Read) limitWait(now int64, limits []Limit) (waitMS int64, err error) {
	for _, l := range limits {
		full, err := QueryOne(r, selectLimit, (*Row).Int, l.Name)
		if err != nil && err != ErrNotFound {
			return 0, err
		}
		waitMS = max(waitMS, max(full, now)+l.EveryMS-now-l.EveryMS*l.Burst)
	}
	return waitMS, nil
}

// ResetLimit fills a bucket.
func (c *Change) ResetLimit(name string) { c.Exec(deleteLimit, name) }
