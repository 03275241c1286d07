package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"stoa/internal/account"
	"stoa/internal/httpkit"
	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/internal/who"
	"stoa/matrix/mxerr"
)

// uiaLifetime is that of a session of interactive authentication.
const uiaLifetime = time.Hour

// PasswordFlows are those of what only the owner of an account may do.
var PasswordFlows = []Flow{{Stages: []string{StagePassword}}}

// Interaction is a request that needs interactive authentication.
type Interaction struct {
	// Operation is what a session is bound to: the endpoint, and whatever of
	// the request must not change after it was authenticated.
	Operation string
	// Caller is who asks; nil if no access token was given. The password stage
	// must prove the same user.
	Caller *who.Caller
	Flows  []Flow
	// Terms are those of the terms stage.
	Terms Terms
	// EmailFor is what an address must have been confirmed for, for the email stage.
	EmailFor userdb.Purpose
	// Auth is the `auth` of the body; empty if there was none.
	Auth json.RawMessage
	// Request is the request but for Auth: the same one, sent again after its answer was
	// lost, is told that answer. It is encoded as JSON.
	Request any
}

// user is the number of who asks, 0 without an access token.
func (in Interaction) user() store.UserNum {
	if in.Caller == nil {
		return 0
	}
	return in.Caller.UserNum
}

// attempt is the `auth` of a request.
type attempt struct {
	Type    *string `json:"type"`
	Session *string `json:"session"`
	Token   *string `json:"token"` // m.login.registration_token
	Claim           // m.login.password

	ThreepidCreds    *threepidCredentials `json:"threepid_creds"` // m.login.email.identity
	OldThreepidCreds *threepidCredentials `json:"threepidCreds"`  // the same, as older clients spell it
}

// Interact returns a proof if the request completes one of the flows. If not,
// the error is the 401 answer that asks for what is missing. Sessions are in
// the store, so that any instance can take the next stage.
//
// Other errors: M_FORBIDDEN (403) if the session is for another request or the
// password another user's; M_LIMIT_EXCEEDED; M_BAD_JSON.
//
// Spec: client-server-api#user-interactive-authentication-api
func (a *Auth) Interact(r *http.Request, in Interaction) (*Proof, error) {
	ctx := r.Context()
	session := uiaSession{operation: digest(in.Operation), user: in.user()}
	if len(in.Auth) == 0 || string(in.Auth) == "null" {
		return nil, a.challenge(ctx, &session, in, nil)
	}
	var try attempt
	if err := httpkit.DecodeJSON(in.Auth, &try); err != nil {
		return nil, err
	}
	if try.Session != nil && *try.Session != "" {
		switch err := a.resume(ctx, &session, *try.Session); {
		case errors.Is(err, store.ErrNotFound):
			return nil, a.challenge(ctx, &session, in, mxerr.Forbidden("This authentication session has ended: begin again"))
		case err != nil:
			return nil, err
		}
	}
	if try.Type != nil && !slices.Contains(session.completed(), *try.Type) {
		stage, err := a.tryStage(r, in, &session, *try.Type, try)
		var failed *stageFailure
		if errors.As(err, &failed) {
			return nil, a.challenge(ctx, &session, in, failed.reason)
		}
		if err != nil {
			return nil, err
		}
		if err := a.complete(ctx, &session, stage); err != nil {
			return nil, err
		}
	}
	if !completes(in.Flows, session.completed()) {
		return nil, a.challenge(ctx, &session, in, nil)
	}
	proof, err := a.proof(ctx, &session, in)
	if errors.Is(err, account.ErrStale) { // the password has been changed since it was given
		return nil, a.challenge(ctx, &uiaSession{operation: session.operation, user: session.user}, in,
			mxerr.Forbidden("This authentication session has ended: begin again"))
	}
	return proof, err
}

// uiaSession is a session of interactive authentication during a request.
type uiaSession struct {
	id        string // as the client has it; empty = not in the store yet
	hash      Hash
	operation string
	user      store.UserNum
	stages    []userdb.UIAStage
}

func (s *uiaSession) completed() []string {
	names := make([]string, len(s.stages))
	for i, stage := range s.stages {
		names[i] = stage.Name
	}
	return names
}

// digest is a text in a form of bounded length.
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// uiaSession loads a session by what the client has of it; store.ErrNotFound if
// there is none, or it has expired.
func (a *Auth) uiaSession(ctx context.Context, session string) (row userdb.UIASession, hash Hash, err error) {
	if len(session) > maxTokenBytes {
		return row, hash, store.ErrNotFound
	}
	hash = HashOf(session)
	err = a.store.Read(ctx, func(r *store.Read) (err error) {
		row, err = userdb.UIASessionByHash(r, hash[:], a.clock().UnixMilli())
		return err
	})
	return row, hash, err
}

// resume loads the session of an earlier request; store.ErrNotFound if there is
// none.
func (a *Auth) resume(ctx context.Context, s *uiaSession, session string) error {
	row, hash, err := a.uiaSession(ctx, session)
	if err != nil {
		return err
	}
	if row.Operation != s.operation || row.User != s.user {
		return mxerr.Forbidden("This authentication session is for another request")
	}
	if len(row.Result) > 0 {
		return store.ErrNotFound // it has served its request
	}
	s.id, s.hash, s.stages = session, hash, row.Completed
	return nil
}

// challenge gives the 401 answer, and puts the session into the store if it is
// not there yet.
func (a *Auth) challenge(ctx context.Context, s *uiaSession, in Interaction, failed *mxerr.Error) error {
	if s.id == "" {
		s.id = newToken(sessionPrefix)
		s.hash = HashOf(s.id)
		now := a.clock()
		row := userdb.UIASession{Operation: s.operation, User: s.user, Completed: s.stages}
		err := a.store.Write(ctx, func(tx *store.Tx) error {
			return userdb.AddUIASession(tx, s.hash[:], row, now.UnixMilli(), now.Add(uiaLifetime).UnixMilli())
		})
		if err != nil {
			return fmt.Errorf("begin interactive authentication: %w", err)
		}
	}
	params := map[string]any{}
	for _, f := range in.Flows {
		if slices.Contains(f.Stages, StageTerms) {
			params[StageTerms] = in.Terms.params()
		}
	}
	return challenge(in.Flows, params, s.id, s.completed(), failed)
}

// complete notes a stage as completed.
func (a *Auth) complete(ctx context.Context, s *uiaSession, stage userdb.UIAStage) error {
	s.stages = append(s.stages, stage)
	if s.id == "" {
		return nil // all that is proved is in this request, until a challenge keeps it
	}
	expires := a.clock().Add(uiaLifetime).UnixMilli()
	err := a.store.Write(ctx, func(tx *store.Tx) error {
		return userdb.AddUIAStages(tx, s.hash[:], []userdb.UIAStage{stage}, expires)
	})
	if err != nil {
		return fmt.Errorf("note completed stage: %w", err)
	}
	return nil
}

// stageFailure is an attempt at a stage that may be made again.
type stageFailure struct{ reason *mxerr.Error }

func (f *stageFailure) Error() string { return f.reason.Error() }

func stageFailed(format string, args ...any) error {
	return &stageFailure{mxerr.Forbidden(format, args...)}
}

// tryStage checks one stage and gives it with what it proved.
func (a *Auth) tryStage(r *http.Request, in Interaction, s *uiaSession, stage string, try attempt) (userdb.UIAStage, error) {
	done := userdb.UIAStage{Name: stage}
	if !mayAttempt(in.Flows, s.completed(), stage) {
		return done, stageFailed("This stage is not the next one of any flow")
	}
	var err error
	switch stage {
	case StageDummy:
	case StageTerms:
		done.Result = in.Terms.versions()
	case StageRegistrationToken:
		done.Result, err = a.tryRegistrationToken(r, try)
	case StagePassword:
		var user account.Account
		user, err = a.tryPassword(r, in, try)
		done.Result, done.Credentials = user.UserID.String(), user.Credentials
	case StageEmail:
		var confirmed confirmedEmail
		var user account.Account
		confirmed, user, err = tryEmail(r.Context(), a, in, try)
		done.Result, done.Credentials = confirmed.String(), user.Credentials
	default:
		err = stageFailed("The server offers no such stage")
	}
	return done, err
}

func (a *Auth) tryRegistrationToken(r *http.Request, try attempt) (string, error) {
	if try.Token == nil {
		return "", mxerr.MissingParam("The registration token is missing")
	}
	if err := a.TakeTokenGuess(r); err != nil {
		return "", err
	}
	valid, err := a.accounts.RegistrationTokenValid(r.Context(), *try.Token)
	if err == nil && !valid {
		err = stageFailed("Invalid registration token")
	}
	return string(account.HashRegistrationToken(*try.Token)), err
}

// tryPassword gives the account that a password proved.
func (a *Auth) tryPassword(r *http.Request, in Interaction, try attempt) (account.Account, error) {
	name, _, err := claimed(r.Context(), a, try.Claim)
	if err != nil {
		return account.Account{}, err
	}
	if in.Caller != nil {
		claimed, err := a.accounts.Named(r.Context(), name)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return account.Account{}, err
		}
		if claimed.UserID != in.Caller.UserID {
			return account.Account{}, mxerr.Forbidden("Only the user who makes the request can authenticate it")
		}
	}
	user, err := a.checkPassword(r, try.Claim)
	if mxerr.Is(err, mxerr.CodeForbidden) {
		err = stageFailed("Invalid username or password")
	}
	return user, err
}
