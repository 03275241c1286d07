package room

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"stoa/internal/store"
	"stoa/internal/store/mediadb"
	"stoa/internal/store/roomdb"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// RedactRequest describes a redaction.
type RedactRequest struct {
	RoomID  id.RoomID
	Sender  id.UserID
	EventID id.EventID
	Reason  string
	Txn     Txn
}

// Redact removes everything inessential from an event, and returns the ID of the
// redaction. The sender needs the redact level to redact events of others.
//
// Errors: M_FORBIDDEN, M_NOT_FOUND (no such event in the room).
//
// Spec: client-server-api#redactions
func (rs *Rooms) Redact(ctx context.Context, req RedactRequest) (id.EventID, error) {
	content := map[string]any{}
	if req.Reason != "" {
		content["reason"] = req.Reason
	}
	raw, err := json.Marshal(content)
	if err != nil {
		return id.EventID{}, err
	}
	return rs.sendRedaction(ctx, Draft{
		RoomID: req.RoomID, Sender: req.Sender, Type: event.TypeRedaction, Content: raw, Redacts: req.EventID, Txn: req.Txn,
	})
}

// sendRedaction sends a redaction and applies it. It moves `redacts` from the content to
// the place that the room version prescribes.
//
// Spec: client-server-api#client-behaviour, rooms/v3#handling-redactions
func (rs *Rooms) sendRedaction(ctx context.Context, d Draft) (id.EventID, error) {
	if err := takeRedacts(&d); err != nil {
		return id.EventID{}, err
	}
	return transactions{rs}.once(ctx, d.Txn, func() (eventID id.EventID, err error) {
		if err := rs.intern(ctx, d); err != nil {
			return id.EventID{}, err
		}
		err = rs.write(ctx, d.RoomID, d.needs, func(t *turn) error {
			target, err := t.redactable(d)
			if err != nil {
				return err
			}
			pdu, edges, err := t.build(d)
			if err != nil {
				return err
			}
			if err := t.extend(pdu, edges, d.Txn); err != nil {
				return err
			}
			eventID = pdu.EventID()
			return t.redact(target, t.out.Events[len(t.out.Events)-1])
		})
		return eventID, err
	})
}

// takeRedacts moves `redacts` out of the content of a draft.
func takeRedacts(d *Draft) error {
	given := canonicaljson.Get(d.Content, "redacts")
	if given == nil {
		if d.Redacts.IsZero() {
			return mxerr.MissingParam("The redaction does not say what it redacts")
		}
		return nil
	}
	text, _ := canonicaljson.String(given)
	target, err := id.ParseEventID(text)
	if err != nil {
		return mxerr.InvalidParam("redacts is not an event ID").Because(err)
	}
	d.Redacts = target
	var content map[string]json.RawMessage
	if err := json.Unmarshal(d.Content, &content); err != nil {
		return mxerr.BadJSON("The content is not an object").Because(err)
	}
	delete(content, "redacts")
	d.Content, err = json.Marshal(content)
	return err
}

// redactable returns the event that a local user's draft redacts, if they may redact it.
//
// Spec: rooms/v3#handling-redactions
func (t *turn) redactable(d Draft) (roomdb.Event, error) {
	target, err := t.stored(d.Redacts)
	if errors.Is(err, store.ErrNotFound) || err == nil && target.Room != t.row.Num {
		return roomdb.Event{}, mxerr.NotFound("There is no event %s in the room", d.Redacts)
	}
	if err != nil {
		return roomdb.Event{}, fmt.Errorf("load %s: %w", d.Redacts, err)
	}
	if target.Type == event.TypeCreate {
		return roomdb.Event{}, mxerr.Forbidden("The beginning of a room can't be redacted")
	}
	allowed, err := t.mayRedact(d.Sender, target)
	if err != nil {
		return roomdb.Event{}, err
	}
	if !allowed {
		return roomdb.Event{}, mxerr.Forbidden("You may not redact events of others here")
	}
	return target, nil
}

// stored reads an event from the store, or returns store.ErrNotFound.
func (t *turn) stored(eventID id.EventID) (e roomdb.Event, err error) {
	err = t.reading(func(read *store.Read) error {
		e, err = roomdb.EventByID(read, eventID.String())
		return err
	})
	return e, err
}

// mayRedact reports whether a redaction by sender applies to an event. Local users need
// the redact level for events of others, on whichever server.
//
// Spec: rooms/v3#handling-redactions
func (t *turn) mayRedact(sender id.UserID, target roomdb.Event) (bool, error) {
	if target.Sender == sender.String() {
		return true, nil
	}
	author, err := id.ParseUserID(target.Sender)
	if err != nil {
		return false, fmt.Errorf("stored event %s: %w", target.EventID, err)
	}
	if !t.rs.isLocal(sender) && author.ServerName() == sender.ServerName() {
		return true, nil
	}
	powers, err := eventauth.PowersOf(t)
	if err != nil {
		return false, err
	}
	return powers.User(sender) >= powers.Redact(), nil
}

// redact marks an event as redacted by an event of this turn. If it was redacted before,
// clients go on seeing the first redaction.
func (t *turn) redact(target roomdb.Event, by TimelineEvent) error {
	if target.RedactedBy != 0 {
		return nil
	}
	roomdb.SetRedactedBy(t.change, t.row.Num, target.Num, by.Num)
	roomdb.AddRedacted(t.change, roomdb.RedactedEvent{
		Due: t.now + t.rs.opt.KeepRedacted.Milliseconds(), Event: target.Num, Room: t.row.Num,
	})
	targetID, err := id.ParseEventID(target.EventID)
	if err != nil {
		return fmt.Errorf("stored event %s: %w", target.EventID, err)
	}
	pdu, err := t.rs.events.Parse(t.r.rules, target)
	if err != nil {
		return err
	}
	t.out.Redacted = append(t.out.Redacted, Redacted{Target: target.Num, TargetID: targetID, PDU: pdu, Because: by.PDU})
	mediadb.DropNames(t.change, t.rs.server.String(), mediadb.EventSource(t.row.Num, target.Num), pdu.Content())
	if err := t.conceal(pdu, target.Num); err != nil {
		return err
	}
	if target.Place.Slot == 0 || target.Key != 0 {
		return nil
	}
	if rel, ok := relationOf(pdu.Content()); ok {
		roomdb.DropRelation(t.change, roomdb.Relation{
			Room: t.row.Num, Target: rel.target.String(), RelType: rel.relType, Place: target.Place,
		})
	}
	return nil
}

// conceal records in the current state that an event was redacted. It reads an entry that
// is not in memory before the commit: a read during the commit would return the event
// unredacted.
func (t *turn) conceal(pdu *event.PDU, num store.EventNum) error {
	stateKey, isState := pdu.StateKey()
	if !isState {
		return nil
	}
	key := eventauth.Key{Type: pdu.Type(), StateKey: stateKey}
	e, err := t.entry(key)
	if err != nil || e.num != num {
		return err
	}
	concealed := *e
	concealed.slot, concealed.shown, concealed.redacted = t.row.Slot, 0, true
	t.replace(key, &concealed)
	return nil
}
