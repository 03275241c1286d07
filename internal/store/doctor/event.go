// The report on one event: its verdict, and the reason.

package doctor

import (
	"context"
	"errors"
	"fmt"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
)

// Verdicts on an event.
const (
	Accepted   = "accepted"
	Rejected   = "rejected"
	SoftFailed = "soft-failed"
)

// EventReport describes the verdict on an event, with the deciding rule of its room
// version.
type EventReport struct {
	RoomID      string
	RoomVersion string
	EventID     string
	Type        string
	StateKey    *string // nil: a message event
	Sender      string
	ReceivedTS  int64 // ms

	Verdict string // Accepted, Rejected or SoftFailed
	// Rule is the number of the deciding rule in the list of the room version. It is
	// empty if something else decided, or if it was not recorded.
	Rule string
	// Reason is why the event was refused. For an accepted event it is empty, unless the
	// rules reject the event when they are applied again, which is a fault.
	Reason string
	// Outlier says that the event has no place in the timeline and was checked by its
	// auth events alone.
	Outlier bool

	RedactedBy string // event ID of the redaction; "" for none
	Replaced   bool   // the bytes are the redacted form
}

// Event reports on an event of a room. For a refused event the verdict is the recorded
// one. For an accepted event it applies the rules again to the state before the event, to
// find the one that allows it.
//
// Errors: store.ErrNotFound if the room has no such event.
func Event(ctx context.Context, s *store.Store, roomID, eventID string) (EventReport, error) {
	var report EventReport
	err := s.Read(ctx, func(r *store.Read) error {
		row, err := roomdb.RoomByID(r, roomID)
		if err != nil {
			return err
		}
		e, err := roomdb.EventByID(r, eventID)
		if err != nil {
			return err
		}
		if e.Room != row.Num {
			return store.ErrNotFound
		}
		report, err = reportOn(s, r, row, e)
		return err
	})
	if err != nil {
		return EventReport{}, fmt.Errorf("event %s of room %s: %w", eventID, roomID, err)
	}
	return report, nil
}

func reportOn(s *store.Store, r *store.Read, row store.Room, e roomdb.Event) (EventReport, error) {
	report := EventReport{
		RoomID: row.RoomID, RoomVersion: row.Version, EventID: e.EventID, Type: e.Type, Sender: e.Sender, ReceivedTS: e.ReceivedTS,
		Verdict: Accepted, Outlier: e.Standing&roomdb.Outlier != 0, Replaced: e.Standing&roomdb.Replaced != 0,
	}
	rules, ok := roomversion.Of(row.Version)
	if !ok {
		return report, fmt.Errorf("unknown room version %q", row.Version)
	}
	pdu, err := load(rules, e)
	if err != nil {
		return report, err
	}
	if stateKey, ok := pdu.StateKey(); ok {
		report.StateKey = &stateKey
	}
	if e.RedactedBy != 0 {
		ids, err := roomdb.EventIDs(r, []store.EventNum{e.RedactedBy})
		if err != nil {
			return report, err
		}
		report.RedactedBy = ids[0]
	}
	switch {
	case e.Standing&roomdb.Rejected != 0:
		report.Verdict = Rejected
	case e.Standing&roomdb.SoftFailed != 0:
		report.Verdict = SoftFailed
	default:
		return report, report.applyRules(s, r, row, e, pdu)
	}
	stored, err := roomdb.VerdictOf(r, row.Num, e.Num)
	if errors.Is(err, store.ErrNotFound) {
		stored, err = roomdb.Verdict{Reason: "the reason was not recorded"}, nil
	}
	report.Rule, report.Reason = stored.Rule, stored.Reason
	return report, err
}

// applyRules finds the rule that allows an accepted event.
func (report *EventReport) applyRules(s *store.Store, r *store.Read, row store.Room, e roomdb.Event, pdu *event.PDU) error {
	before := state{s: s, r: r, rules: pdu.Rules(), at: func(key store.KeyNum) (store.EventNum, error) {
		return roomdb.StateKeyOf(r, row.Num, e.StateBefore, key)
	}}
	if report.Outlier {
		auth, err := roomdb.EventsByNum(r, e.Edges.Auth)
		if err != nil {
			return err
		}
		before.at = func(key store.KeyNum) (store.EventNum, error) {
			for _, a := range auth {
				if a.Key == key && a.Standing&roomdb.Rejected == 0 {
					return a.Num, nil
				}
			}
			return 0, nil
		}
	}
	verdict, err := eventauth.Check(pdu, before)
	switch {
	case err != nil:
		return err
	case verdict.Allowed:
		report.Rule = verdict.Rule
	case !report.Replaced: // the redacted form may lack keys that the rules need
		report.Reason = "applied again, rule " + verdict.Rule + " refuses it: " + verdict.Reason
	}
	return nil
}

// state gives the authorisation rules access to a stored state.
type state struct {
	s     *store.Store
	r     *store.Read
	rules *roomversion.Rules
	at    func(store.KeyNum) (store.EventNum, error) // 0: no entry
}

// Event implements eventauth.State.
func (s state) Event(evType, stateKey string) (*event.PDU, error) {
	keys, err := s.s.KeyNums(s.r, []store.Pair{{Type: evType, StateKey: stateKey}})
	if err != nil || keys[0] == 0 {
		return nil, err
	}
	num, err := s.at(keys[0])
	if err != nil || num == 0 {
		return nil, err
	}
	e, err := roomdb.EventByNum(s.r, num)
	if err != nil {
		return nil, err
	}
	return load(s.rules, e)
}

func load(rules *roomversion.Rules, e roomdb.Event) (*event.PDU, error) {
	eventID, err := id.ParseEventID(e.EventID)
	if err != nil {
		return nil, err
	}
	return event.Load(rules, eventID, e.Bytes)
}
