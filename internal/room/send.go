package room

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
	"stoa/matrix/roomversion"
)

// Send sends an event of a local user and returns its ID once it is durable. If the
// current state already has a state event with the same sender and content, Send returns
// that one's ID. A repeated transaction ID returns the event of the first request.
//
// An m.room.member is processed as a change of membership, an m.room.redaction as by
// Redact.
//
// Errors: M_FORBIDDEN (the rules reject it), M_NOT_FOUND (no such room), M_BAD_JSON,
// M_TOO_LARGE, 503 (the commit queue is full).
//
// Spec: client-server-api#sending-events-to-a-room
func (rs *Rooms) Send(ctx context.Context, d Draft) (id.EventID, error) {
	if err := checkDraft(&d); err != nil {
		return id.EventID{}, err
	}
	switch {
	case d.Type == event.TypeMember && d.StateKey != nil:
		return memberships{rs}.sendMember(ctx, d)
	case d.Type == event.TypeRedaction && d.StateKey == nil:
		return rs.sendRedaction(ctx, d)
	}
	return rs.send(ctx, d, func(t *turn) error { return nil })
}

// send sends an event unless check, called in the room's turn, refuses it.
func (rs *Rooms) send(ctx context.Context, d Draft, check func(*turn) error) (id.EventID, error) {
	return transactions{rs}.once(ctx, d.Txn, func() (eventID id.EventID, err error) {
		if err := rs.intern(ctx, d); err != nil {
			return id.EventID{}, err
		}
		err = rs.write(ctx, d.RoomID, d.needs, func(t *turn) error {
			if err := check(t); err != nil {
				return err
			}
			eventID, err = t.send(d)
			return err
		})
		return eventID, err
	})
}

// intern interns the keys and users that a draft is stored with before its turn, to keep
// the turn short.
func (rs *Rooms) intern(ctx context.Context, d Draft) error {
	if d.StateKey != nil {
		if _, err := rs.store.Intern(ctx, []store.Pair{{Type: d.Type, StateKey: *d.StateKey}}); err != nil {
			return fmt.Errorf("intern %s: %w", d.Type, err)
		}
		if user, err := id.ParseUserID(*d.StateKey); d.Type == event.TypeMember && err == nil && rs.isLocal(user) {
			if _, err := rs.userNum(ctx, user); err != nil {
				return err
			}
		}
	}
	if !d.Txn.IsZero() {
		if _, err := rs.userNum(ctx, d.Txn.UserID); err != nil {
			return err
		}
	}
	return nil
}

// needs are the entries of the state that the checks of a draft read.
func (d *Draft) needs(rules *roomversion.Rules) []eventauth.Key {
	keys := eventauth.AuthTypes(rules, eventauth.Subject{Type: d.Type, StateKey: d.StateKey, Sender: d.Sender, Content: d.Content})
	if rules.RoomIDFromCreate {
		keys = append(keys, eventauth.Key{Type: event.TypeCreate})
	}
	if d.StateKey != nil {
		keys = append(keys, eventauth.Key{Type: d.Type, StateKey: *d.StateKey})
	}
	return keys
}

// send adds the event of a draft to the turn.
func (t *turn) send(d Draft) (id.EventID, error) {
	if d.StateKey != nil {
		same, err := t.unchanged(d)
		if err != nil {
			return id.EventID{}, err
		}
		if !same.IsZero() {
			return same, errNothing
		}
	}
	if err := t.checkRelation(d); err != nil {
		return id.EventID{}, err
	}
	pdu, edges, err := t.build(d)
	if err != nil {
		return id.EventID{}, err
	}
	if err := t.refuseBlockedInvite(d); err != nil {
		return id.EventID{}, err
	}
	if err := t.requireActive(pdu); err != nil {
		return id.EventID{}, err
	}
	return pdu.EventID(), t.extend(pdu, edges, d.Txn)
}

// requireActive makes the commit fail with store.ErrDeactivated if a local user joins or
// knocks whose account was deactivated after the request began: the job that leaves all
// rooms may have passed this room already.
func (t *turn) requireActive(pdu *event.PDU) error {
	if pdu.Membership() != event.MembershipJoin && pdu.Membership() != event.MembershipKnock {
		return nil
	}
	user := pdu.Sender()
	was, err := t.membership(user)
	if err != nil || was == event.MembershipJoin || !t.rs.isLocal(user) {
		return err
	}
	num, err := t.userNum(user)
	if err == nil {
		t.change.ActiveUser(num)
	}
	return err
}

// unchanged returns the current state event that a draft would only repeat, if its sender
// may send state; zero if there is none. A redacted event has lost its content, which the
// draft then sets again.
func (t *turn) unchanged(d Draft) (id.EventID, error) {
	current, err := t.entry(eventauth.Key{Type: d.Type, StateKey: *d.StateKey})
	if err != nil || current.pdu == nil || current.shown == 0 || current.pdu.Sender() != d.Sender {
		return id.EventID{}, err
	}
	membership, err := t.membership(d.Sender)
	if err != nil || membership != event.MembershipJoin {
		return id.EventID{}, err
	}
	content, err := canonicaljson.AppendLoose(nil, d.Content)
	if err != nil || !bytes.Equal(content, current.pdu.Content()) {
		return id.EventID{}, nil // building the event reports the error
	}
	return current.pdu.EventID(), nil
}

// once calls send unless the transaction ID already has an event, which it then returns.
// The unique row of the transaction decides; the cache only saves work.
//
// Spec: client-server-api#transaction-identifiers
func (rs transactions) once(ctx context.Context, txn Txn, send func() (id.EventID, error)) (id.EventID, error) {
	if txn.IsZero() {
		return send()
	}
	for {
		if eventID, ok := rs.txns.Get(txn); ok {
			return eventID, nil
		}
		other, mine := rs.sending.start(txn)
		if mine {
			break
		}
		select {
		case <-other:
		case <-ctx.Done():
			return id.EventID{}, ctx.Err()
		}
	}
	defer rs.sending.end(txn)
	eventID, err := send()
	if errors.Is(err, roomdb.ErrTxnTaken) || errors.Is(err, store.ErrOutcomeUnknown) {
		done, lookup := rs.txnEvent(ctx, txn)
		switch {
		case lookup == nil:
			eventID, err = done, nil
		case !errors.Is(lookup, store.ErrNotFound):
			err = errors.Join(err, lookup)
		}
	}
	if err == nil {
		rs.txns.Add(txn, eventID)
	}
	return eventID, err
}

// sending are the transactions in progress. A client's second request waits here for its
// first.
type sending struct {
	mu    sync.Mutex // guards byTxn
	byTxn map[Txn]chan struct{}
}

// start reports whether the caller is the first with the transaction. If not, the
// returned channel is closed when the first is done.
func (s *sending) start(txn Txn) (other <-chan struct{}, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if done := s.byTxn[txn]; done != nil {
		return done, false
	}
	if s.byTxn == nil {
		s.byTxn = map[Txn]chan struct{}{}
	}
	s.byTxn[txn] = make(chan struct{})
	return nil, true
}

func (s *sending) end(txn Txn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.byTxn[txn])
	delete(s.byTxn, txn)
}

// txnEvent returns the event of a transaction ID, or store.ErrNotFound.
func (rs transactions) txnEvent(ctx context.Context, txn Txn) (eventID id.EventID, err error) {
	err = rs.store.Read(ctx, func(read *store.Read) error {
		user, err := rs.store.UserNum(read, txn.UserID.String())
		if err != nil {
			return err
		}
		stored, err := roomdb.FindTxn(read, user, txn.DeviceID, txn.Path, txn.ID)
		if err != nil {
			return err
		}
		eventID, err = id.ParseEventID(stored.EventID)
		return err
	})
	return eventID, err
}

// checkDraft makes the checks of a draft that don't depend on its room, and moves
// `redacts` to the place where Build expects it.
func checkDraft(d *Draft) error {
	switch {
	case d.Type == "":
		return mxerr.InvalidParam("The event has no type")
	case len(d.Type) > event.MaxFieldLength:
		return mxerr.TooLarge("The event type is longer than %d bytes", event.MaxFieldLength)
	case d.StateKey != nil && len(*d.StateKey) > event.MaxFieldLength:
		return mxerr.TooLarge("The state key is longer than %d bytes", event.MaxFieldLength)
	}
	if err := canonicaljson.Check(d.Content); err != nil {
		return mxerr.BadJSON("The content is not an object").Because(err)
	}
	d.Content = bytes.TrimSpace(d.Content)
	if !canonicaljson.IsObject(d.Content) {
		return mxerr.BadJSON("The content is not an object")
	}
	if d.Type == event.TypePowerLevels && d.StateKey != nil {
		return checkLevels(d.Content)
	}
	return nil
}

// checkLevels refuses power levels that are not integers, even if the room version would
// allow them.
//
// Spec: server-server-api#definitions
func checkLevels(content []byte) error {
	bad := func(key string) error { return mxerr.BadJSON("%s of the power levels is not an integer", key) }
	return canonicaljson.Object(content, func(key string, value []byte) error {
		switch key {
		case "ban", "invite", "kick", "redact", "events_default", "state_default", "users_default":
			if _, ok := canonicaljson.Int(value); !ok {
				return bad(key)
			}
		case "events", "users", "notifications":
			if !canonicaljson.IsObject(value) {
				return mxerr.BadJSON("%s of the power levels is not an object", key)
			}
			return canonicaljson.Object(value, func(name string, value []byte) error {
				if _, ok := canonicaljson.Int(value); !ok {
					return bad(key + "." + name)
				}
				return nil
			})
		}
		return nil
	})
}

// SendMany sends many events of local users to one room with few commits, for imports and
// data sets. Each draft is checked as by Send. The first refusal ends the call; groups
// before it stay committed.
func (rs *Rooms) SendMany(ctx context.Context, roomID id.RoomID, drafts []Draft) ([]id.EventID, error) {
	const group = 500
	all := make([]id.EventID, 0, len(drafts))
	for from := 0; from < len(drafts); from += group {
		part := drafts[from:min(from+group, len(drafts))]
		pairs := make([]store.Pair, 0, len(part))
		var users []string
		for i := range part {
			if err := checkDraft(&part[i]); err != nil {
				return all, err
			}
			if part[i].StateKey != nil {
				pairs = append(pairs, store.Pair{Type: part[i].Type, StateKey: *part[i].StateKey})
				if part[i].Type == event.TypeMember && rs.isLocalID(*part[i].StateKey) {
					users = append(users, *part[i].StateKey)
				}
			}
		}
		if _, err := rs.store.Intern(ctx, pairs); err != nil {
			return all, fmt.Errorf("intern keys: %w", err)
		}
		if _, err := rs.store.InternUsers(ctx, rs.isLocalID, users...); err != nil {
			return all, fmt.Errorf("intern users: %w", err)
		}
		ids := make([]id.EventID, 0, len(part))
		err := rs.write(ctx, roomID, func(*roomversion.Rules) []eventauth.Key { return nil }, func(t *turn) error {
			ids = ids[:0]
			for _, d := range part {
				eventID, err := t.send(d)
				if err != nil && !errors.Is(err, errNothing) {
					return err
				}
				ids = append(ids, eventID)
			}
			return nil
		})
		if err != nil {
			return all, err
		}
		all = append(all, ids...)
	}
	return all, nil
}

// transactions ensures that a transaction ID creates only one event.
type transactions struct{ *Rooms }
