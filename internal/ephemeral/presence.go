package ephemeral

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

const (
	// absentAfter is the time after the last request of a user's devices at which the
	// user counts as offline: three polls of the usual 30 s.
	absentAfter = 90 * time.Second
	// sweepEvery is the interval of checks for absent users.
	sweepEvery = 15 * time.Second
	// transition and burst limit automatic changes of a user's presence: one in 10 s over
	// time, but a few at once, so that others see a user's actions immediately.
	transition = 10 * time.Second
	burst      = 5
	// maxStatus bounds a status message, in bytes.
	maxStatus = 1_000
	// sweepPage bounds the users in one sweep that an earlier process left online.
	sweepPage = 500
)

// States of presence.
const (
	online      = "online"
	unavailable = "unavailable"
	offline     = "offline"
)

// Presence tracks the presence of users.
//
// Spec: client-server-api#presence
type Presence struct {
	store *store.Store
	clock func() time.Time
	log   *slog.Logger
	began time.Time
	bus   Bus // nil if there is no other instance

	mu    sync.Mutex // guards the fields below; nothing is locked after it
	users map[store.UserNum]*presentUser
	// checked is the last checked user of those that an earlier process left online.
	checked store.UserNum
	// elsewhere is when other instances last saw each user.
	elsewhere map[store.UserNum]time.Time
	// deaf is when the other instances were last unreachable.
	deaf time.Time
	// fresh are users that the other instances have yet to be told of.
	fresh map[store.UserNum]struct{}
}

// presentUser is a user whose devices have made requests recently.
type presentUser struct {
	id       id.UserID
	state    string
	status   *string
	seen     time.Time // of the last request
	sharedAt time.Time // when this was last sent to the other instances
	active   time.Time // of the last action
	// budget and filled are the token bucket for transitions.
	budget float64
	filled time.Time
	stored bool // the store has state, status and about the last action
	// stale says that another instance may have changed state and status. changes counts
	// how often it was set.
	stale   bool
	changes uint64
}

// NewPresence returns a Presence. bus is nil if there is no other instance. The caller
// must call Run.
func NewPresence(s *store.Store, clock func() time.Time, log *slog.Logger, bus Bus) *Presence {
	return &Presence{
		store: s, clock: clock, log: log, began: clock(), bus: bus, users: map[store.UserNum]*presentUser{},
		elsewhere: map[store.UserNum]time.Time{}, fresh: map[store.UserNum]struct{}{},
	}
}

// Set changes a user's presence. A nil status removes the message.
//
// Spec: client-server-api#put_matrixclientv3presenceuseridstatus
func (p *Presence) Set(ctx context.Context, user who.User, state string, status *string) error {
	if state != online && state != unavailable && state != offline {
		return mxerr.InvalidParam("presence is online, unavailable or offline")
	}
	if status != nil && len(*status) > maxStatus {
		return mxerr.InvalidParam("status_msg has more than %d bytes", maxStatus)
	}
	now := p.clock()
	p.mu.Lock()
	u := p.users[user.UserNum]
	if u == nil {
		u = &presentUser{id: user.UserID, budget: burst, filled: now, active: now}
		p.users[user.UserNum] = u
	}
	u.state, u.status, u.seen, u.stored, u.stale = state, status, now, true, false
	p.share(user.UserNum, u)
	if state == online {
		u.active = now
	}
	row := u.row(user.UserNum)
	p.mu.Unlock()
	return p.write(ctx, row)
}

func (u *presentUser) row(num store.UserNum) userdb.Presence {
	return userdb.Presence{User: num, UserID: u.id.String(), Presence: u.state, StatusMsg: u.status, ActiveTS: u.active.UnixMilli()}
}

func (p *Presence) write(ctx context.Context, rows ...userdb.Presence) error {
	c := store.NewChange()
	for _, row := range rows {
		userdb.SetPresence(c, row)
	}
	c.Payload = rows
	_, err := p.store.Commit(ctx, c)
	return err
}

// Seen records that a device of the user syncs, and the presence that it asks for; "" or
// offline leave presence unchanged.
//
// Spec: client-server-api#get_matrixclientv3sync
func (p *Presence) Seen(ctx context.Context, user who.User, wish string) {
	if wish == "" {
		wish = online
	}
	if wish == offline {
		return
	}
	now := p.clock()
	row, changed := p.note(ctx, user, wish, now)
	if !changed {
		return
	}
	if err := p.write(ctx, row); err != nil && ctx.Err() == nil {
		p.log.Warn("write presence", "user_id", user.UserID.String(), "err", err)
	}
}

func (p *Presence) note(ctx context.Context, user who.User, wish string, now time.Time) (userdb.Presence, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.users[user.UserNum]
	if u == nil {
		u = &presentUser{id: user.UserID, stale: true, stored: true, budget: burst, filled: now}
		p.users[user.UserNum] = u
	}
	u.seen = now
	p.share(user.UserNum, u)
	if u.stale && !p.refresh(ctx, user, u) {
		return userdb.Presence{}, false // the next request sets it again
	}
	if u.state == wish && u.stored {
		return userdb.Presence{}, false
	}
	u.state = wish
	if wish == online {
		u.active = now
	}
	u.stored = u.spend(now)
	return u.row(user.UserNum), u.stored
}

// refresh reads a user's stored presence: offline for a user without any. It reports
// whether that succeeded and nothing has changed it in the meantime. The caller holds the
// lock, which refresh releases while it reads.
func (p *Presence) refresh(ctx context.Context, user who.User, u *presentUser) bool {
	changes := u.changes
	p.mu.Unlock()
	row := userdb.Presence{Presence: offline}
	err := p.store.Read(ctx, func(r *store.Read) error {
		found, err := userdb.PresenceByNum(r, user.UserNum)
		if err == nil {
			row = found
		}
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	if err != nil && ctx.Err() == nil {
		p.log.Warn("read presence", "user_id", user.UserID.String(), "err", err)
	}
	p.mu.Lock()
	if err != nil || u.changes != changes || p.users[user.UserNum] != u {
		return false
	}
	if u.stale { // else another request was faster
		u.state, u.status, u.stored, u.stale = row.Presence, row.StatusMsg, true, false
		if at := time.UnixMilli(row.ActiveTS); at.After(u.active) {
			u.active = at
		}
	}
	return true
}

// spend reports whether a transition may be written now. If not, a later request or sweep
// writes it.
func (u *presentUser) spend(now time.Time) bool {
	u.budget = min(burst, u.budget+now.Sub(u.filled).Seconds()/transition.Seconds())
	u.filled = now
	if u.budget < 1 {
		return false
	}
	u.budget--
	return true
}

// Of returns a user's presence to a viewer who shares a room with them. Other viewers,
// and unknown users, give M_FORBIDDEN.
//
// Spec: client-server-api#get_matrixclientv3presenceuseridstatus
func (p *Presence) Of(ctx context.Context, viewer who.User, of id.UserID) (userdb.Presence, error) {
	row := userdb.Presence{UserID: of.String(), Presence: offline}
	err := p.store.Read(ctx, func(r *store.Read) error {
		num, err := p.store.UserNum(r, of.String())
		if errors.Is(err, store.ErrNotFound) {
			return mxerr.Forbidden("You may not see this user's presence")
		}
		if err != nil {
			return err
		}
		if num != viewer.UserNum {
			shares, err := userdb.SharesRoom(r, viewer.UserNum, num)
			if err != nil {
				return err
			}
			if !shares {
				return mxerr.Forbidden("You may not see this user's presence")
			}
		}
		found, err := userdb.PresenceByNum(r, num)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		row = found
		return err
	})
	if err != nil {
		return row, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.users[row.User]; u != nil {
		row.ActiveTS = max(row.ActiveTS, u.active.UnixMilli())
	}
	return row, nil
}

// Run sweeps until the context ends.
func (p *Presence) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var tell <-chan time.Time
	if p.bus != nil {
		defer p.bus.Subscribe(topicSeen, p.hear)()
		second := time.NewTicker(time.Second)
		defer second.Stop()
		tell = second.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tell:
			p.tell()
		case <-tick.C:
			if err := p.Sweep(ctx); err != nil && ctx.Err() == nil {
				p.log.Warn("look for absent users", "err", err)
			}
		}
	}
}

// Sweep sets users offline whose devices have been silent for too long, writes delayed
// transitions, and checks a page of the users that an earlier process left online.
func (p *Presence) Sweep(ctx context.Context) error {
	now := p.clock()
	if p.bus != nil && !p.bus.Healthy() {
		p.mu.Lock()
		p.deaf = now
		p.mu.Unlock()
	}
	rows, unsure := p.due(now)
	left, err := p.leftOver(ctx, unsure, now)
	if err != nil {
		return err
	}
	rows = append(rows, left...)
	if len(rows) == 0 {
		return nil
	}
	return p.write(ctx, rows...)
}

// due returns the presence to write: of absent users, and delayed transitions. unsure are
// at most sweepPage absent users whose stored presence may be newer.
func (p *Presence) due(now time.Time) (rows []userdb.Presence, unsure []store.UserNum) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for num, at := range p.elsewhere {
		if now.Sub(at) > absentAfter {
			delete(p.elsewhere, num)
		}
	}
	deaf := p.isDeaf(now)
	for num, u := range p.users {
		_, elsewhere := p.elsewhere[num]
		gone := now.Sub(u.seen) > absentAfter && !elsewhere && !deaf
		switch {
		case gone && u.stale:
			if len(unsure) < sweepPage {
				unsure = append(unsure, num)
				delete(p.users, num)
			}
			continue
		case gone:
			delete(p.users, num)
			if u.state == offline && u.stored {
				continue
			}
			u.state = offline
		case u.stale || u.stored || !u.spend(now):
			continue
		}
		u.stored = true
		rows = append(rows, u.row(num))
	}
	return rows, unsure
}

// isDeaf reports whether other instances may have seen users without this instance
// knowing. The caller holds the lock.
func (p *Presence) isDeaf(now time.Time) bool {
	return !p.deaf.IsZero() && now.Sub(p.deaf) <= absentAfter
}

// leftOver returns users who are online in the store and unknown here: those of a list,
// and a page of all. It checks each user again only after all others.
func (p *Presence) leftOver(ctx context.Context, unsure []store.UserNum, now time.Time) (rows []userdb.Presence, err error) {
	p.mu.Lock()
	after := p.checked
	all := now.Sub(p.began) > absentAfter && !p.isDeaf(now)
	p.mu.Unlock()
	if !all && len(unsure) == 0 {
		return nil, nil
	}
	var page, more []userdb.Presence
	err = p.store.Read(ctx, func(r *store.Read) (err error) {
		if len(unsure) > 0 {
			if more, err = userdb.Presences(r, unsure); err != nil {
				return err
			}
		}
		if all {
			page, err = userdb.Present(r, after, sweepPage)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if all {
		p.checked = 0
	}
	if len(page) == sweepPage {
		p.checked = page[len(page)-1].User
	}
	looked := make(map[store.UserNum]bool, len(more))
	for _, row := range append(more, page...) {
		_, elsewhere := p.elsewhere[row.User]
		if looked[row.User] || p.users[row.User] != nil || elsewhere || row.Presence == offline {
			continue
		}
		looked[row.User] = true
		row.Presence = offline
		rows = append(rows, row)
	}
	return rows, nil
}
