// Tables uia_sessions, uia_stages: interactive authentication. Written by package
// auth.

package userdb

import "stoa/internal/store"

var (
	selectUIASession = store.Prepare(`SELECT operation, user_num, result FROM uia_sessions WHERE hash = $1 AND expires_ts > $2`)
	selectUIAStages  = store.Prepare(`SELECT stage, result, credentials FROM uia_stages WHERE hash = $1 ORDER BY stage`)
	insertUIASession = store.Prepare(`INSERT INTO uia_sessions (hash, operation, user_num, expires_ts) VALUES ($1, $2, $3, $4)`)
	insertUIAStage   = store.Prepare(`INSERT INTO uia_stages (hash, stage, result, credentials, expires_ts) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (hash, stage) DO NOTHING`)
	finishUIASession = store.Prepare(`UPDATE uia_sessions SET result = $2 WHERE hash = $1 AND result IS NULL AND expires_ts > $3`)
	deleteUIAStages  = store.Prepare(`DELETE FROM uia_stages WHERE hash = $1`)
	trimUIAStages    = store.Prepare(`DELETE FROM uia_stages WHERE hash IN (SELECT hash FROM uia_sessions WHERE user_num = $1 AND expires_ts <
		(SELECT expires_ts FROM uia_sessions WHERE user_num = $1 ORDER BY expires_ts DESC LIMIT 1 OFFSET $2))`)
	trimUIASessions = store.Prepare(`DELETE FROM uia_sessions WHERE user_num = $1 AND expires_ts <
		(SELECT expires_ts FROM uia_sessions WHERE user_num = $1 ORDER BY expires_ts DESC LIMIT 1 OFFSET $2)`)
	expireUIASessions = store.Prepare(`DELETE FROM uia_sessions WHERE expires_ts <= $1`)
	expireUIAStages   = store.Prepare(`DELETE FROM uia_stages WHERE expires_ts <= $1`)
)

// UIASession is a session of interactive authentication.
type UIASession struct {
	Operation string
	User      store.UserNum // 0 = no access token was given
	Completed []UIAStage
	// Result is the sealed answer of the request that the session was completed for;
	// empty before. A session is for one request.
	Result []byte
}

// UIAStage is a completed stage and its proof.
type UIAStage struct {
	Name, Result string
	// Credentials are those of the account that the stage has authenticated; 0 for stages
	// without an account. The stage is invalid once the account has others.
	Credentials int64
}

func scanUIASession(row *store.Row) (s UIASession) {
	row.Scan(&s.Operation, &s.User)
	s.Result = append([]byte(nil), row.Bytes()...)
	return s
}

func scanUIAStage(row *store.Row) (s UIAStage) {
	row.Scan(&s.Name, &s.Result, &s.Credentials)
	return s
}

// UIASessionByHash returns a session that has not expired, or ErrNotFound.
func UIASessionByHash(r *store.Read, hash []byte, now int64) (UIASession, error) {
	s, err := store.QueryOne(r, selectUIASession, scanUIASession, hash, now)
	if err != nil {
		return s, err
	}
	s.Completed, err = store.Query(r, selectUIAStages, scanUIAStage, hash)
	return s, err
}

// maxUIASessions bounds the sessions of a user; the oldest end. Sessions of requests
// without an access token have no user, and are bounded only by their lifetime and the
// limits of addresses.
const maxUIASessions = 50

// AddUIASession adds a session with its completed stages, and deletes expired ones and
// the oldest beyond maxUIASessions.
func AddUIASession(tx *store.Tx, hash []byte, s UIASession, now, expiresTS int64) error {
	for _, expire := range []*store.Stmt{expireUIASessions, expireUIAStages} {
		if _, err := tx.Exec(expire, now); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(insertUIASession, hash, s.Operation, s.User, expiresTS); err != nil {
		return err
	}
	if s.User != 0 {
		for _, trim := range []*store.Stmt{trimUIAStages, trimUIASessions} {
			if _, err := tx.Exec(trim, s.User, maxUIASessions-1); err != nil {
				return err
			}
		}
	}
	return AddUIAStages(tx, hash, s.Completed, expiresTS)
}

// AddUIAStages records completed stages of a session.
func AddUIAStages(tx *store.Tx, hash []byte, stages []UIAStage, expiresTS int64) error {
	for _, stage := range stages {
		if _, err := tx.Exec(insertUIAStage, hash, stage.Name, stage.Result, stage.Credentials, expiresTS); err != nil {
			return err
		}
	}
	return nil
}

// FinishUIASession ends a session in the commit of the request that it was for, and
// stores the sealed answer. The change fails with ErrTokenUsed if it has ended already.
func FinishUIASession(c *store.Change, hash, result []byte, now int64) {
	c.ExecOne(finishUIASession, ErrTokenUsed, hash, result, now)
	c.Exec(deleteUIAStages, hash)
}
