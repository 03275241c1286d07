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
	// Auth is the `auth` of the body; empty if there was none.
	Auth json.RawMessage
}

// Proof is what a completed interaction proved.
type Proof struct {
	// User is the account that the password stage proved; zero without one.
	User account.Account
	// RegistrationToken is the token of that stage; empty without one. It may
	// have been used up since.
	RegistrationToken account.TokenHash

	session *Hash // nil: everything was in one request
}

// attempt is the `auth` of a request.
type attempt struct {
	Type    *string `json:"type"`
	Session *string `json:"session"`
	Token   *string `json:"token"` // m.login.registration_token
	Claim           // m.login.password
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
	session := uiaSession{operation: digest(in.Operation)}
	if in.Caller != nil {
		session.user = in.Caller.UserNum
	}
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
		result, err := a.tryStage(r, in, &session, *try.Type, try)
		var failed *stageFailure
		if errors.As(err, &failed) {
			return nil, a.challenge(ctx, &session, in, failed.reason)
		}
		if err != nil {
			return nil, err
		}
		if err := a.complete(ctx, &session, userdb.UIAStage{Name: *try.Type, Result: result}); err != nil {
			return nil, err
		}
	}
	if !completes(in.Flows, session.completed()) {
		return nil, a.challenge(ctx, &session, in, nil)
	}
	return a.proof(ctx, &session)
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
// there is none, or it has ended.
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

// proof reads what the stages proved.
func (a *Auth) proof(ctx context.Context, s *uiaSession) (*Proof, error) {
	p := &Proof{}
	if s.id != "" {
		p.session = &s.hash
	}
	for _, stage := range s.stages {
		switch stage.Name {
		case StagePassword:
			user, err := a.accounts.Named(ctx, stage.Result)
			if err != nil {
				return nil, fmt.Errorf("user of a completed stage: %w", err)
			}
			p.User = user
		case StageRegistrationToken:
			p.RegistrationToken = account.TokenHash(stage.Result)
		}
	}
	return p, nil
}

// End ends the session of a proof in the commit of what it was for, so that it
// can't serve twice: the change fails with userdb.ErrTokenUsed then.
func (p *Proof) End(c *store.Change) {
	if p.session != nil {
		userdb.DeleteUIASession(c, p.session[:])
	}
}

// End ends the session of a proof whose operation is done, or is about to be.
// M_FORBIDDEN if another request ended it already.
func (a *Auth) End(ctx context.Context, p *Proof) error {
	if p.session == nil {
		return nil
	}
	c := store.NewChange()
	p.End(c)
	_, err := a.store.Commit(ctx, c)
	if errors.Is(err, userdb.ErrTokenUsed) {
		return mxerr.Forbidden("This authentication session has ended")
	}
	return err
}

// stageFailure is an attempt at a stage that may be made again.
type stageFailure struct{ reason *mxerr.Error }

func (f *stageFailure) Error() string { return f.reason.Error() }

func stageFailed(format string, args ...any) error {
	return &stageFailure{mxerr.Forbidden(format, args...)}
}

// tryStage checks one stage and gives what it proved.
func (a *Auth) tryStage(r *http.Request, in Interaction, s *uiaSession, stage string, try attempt) (result string, err error) {
	if !mayAttempt(in.Flows, s.completed(), stage) {
		return "", stageFailed("This stage is not the next one of any flow")
	}
	switch stage {
	case StageDummy:
		return "", nil
	case StageTerms:
		return in.Terms.versions(), nil
	case StageRegistrationToken:
		return a.tryRegistrationToken(r, try)
	case StagePassword:
		return a.tryPassword(r, in, try)
	}
	return "", stageFailed("The server offers no such stage")
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

// tryPassword gives the user ID that a password proved.
func (a *Auth) tryPassword(r *http.Request, in Interaction, try attempt) (string, error) {
	name, err := try.name()
	if err != nil {
		return "", err
	}
	if in.Caller != nil {
		claimed, err := a.accounts.Named(r.Context(), name)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return "", err
		}
		if claimed.UserID != in.Caller.UserID {
			return "", mxerr.Forbidden("Only the user who makes the request can authenticate it")
		}
	}
	user, err := a.checkPassword(r, try.Claim)
	if mxerr.Is(err, mxerr.CodeForbidden) {
		return "", stageFailed("Invalid username or password")
	}
	return user.UserID.String(), err
}
