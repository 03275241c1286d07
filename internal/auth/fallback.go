package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// Fallback is a stage of a session of interactive authentication that a person
// completes on a page, because their client does not know the stage.
//
// Spec: client-server-api#fallback
type Fallback struct {
	Stage string
	// User is who must prove to be it; zero for a session without a user.
	User id.UserID
	// Done says that the stage is completed.
	Done bool

	user    store.UserNum
	session uiaSession
}

// FallbackForm is what the person entered.
type FallbackForm struct{ Password, Token string }

// Fallback finds a stage of a session. M_NOT_FOUND (404) if the session has
// ended, or the stage can't be completed on a page.
func (a *Auth) Fallback(ctx context.Context, session, stage string) (*Fallback, error) {
	row, hash, err := a.uiaSession(ctx, session)
	if errors.Is(err, store.ErrNotFound) || err == nil && len(row.Result) > 0 {
		return nil, mxerr.NotFound("This authentication session has ended: go back to your client and begin again")
	}
	if err != nil {
		return nil, err
	}
	f := &Fallback{Stage: stage, user: row.User, session: uiaSession{id: session, hash: hash, stages: row.Completed}}
	f.Done = slices.ContainsFunc(row.Completed, func(s userdb.UIAStage) bool { return s.Name == stage })
	switch stage {
	case StageDummy, StageTerms, StageRegistrationToken:
		return f, nil
	case StagePassword:
		if row.User != 0 {
			user, err := a.accounts.AccountByNum(ctx, row.User)
			f.User = user.UserID
			return f, err
		}
	}
	return nil, mxerr.NotFound("The server has no page for this stage")
}

// CompleteFallback completes the stage with what the person entered. The client
// then repeats its request with the session alone.
//
// Errors: M_FORBIDDEN (403) if it proves nothing; M_LIMIT_EXCEEDED.
func (a *Auth) CompleteFallback(r *http.Request, f *Fallback, terms Terms, form FallbackForm) error {
	in := Interaction{Flows: []Flow{{Stages: []string{f.Stage}}}, Terms: terms}
	try := attempt{Token: &form.Token}
	if f.Stage == StagePassword {
		in.Caller = &who.Caller{Device: who.Device{User: who.User{UserID: f.User, UserNum: f.user}}}
		try.Claim = Claim{Identifier: &Identifier{Type: "m.id.user", User: f.User.String()}, Password: &form.Password}
	}
	done, err := a.tryStage(r, in, &uiaSession{}, f.Stage, try)
	var failed *stageFailure
	if errors.As(err, &failed) {
		return failed.reason
	}
	if err != nil {
		return fmt.Errorf("complete %s on a page: %w", f.Stage, err)
	}
	return a.complete(r.Context(), &f.session, done)
}
