package room

import (
	"errors"
	"fmt"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/pushrule"
)

// RelThread is the relation type of a thread's events to its root.
//
// Spec: client-server-api#threading
const RelThread = "m.thread"

// relation is the `m.relates_to` of an event.
type relation struct {
	relType string
	target  id.EventID
}

// relationOf reads m.relates_to from a content in canonical form. It returns false if
// there is none, or if it does not fit the schema: the spec says to ignore it then.
//
// Spec: client-server-api#forming-relationships-between-events
func relationOf(content []byte) (relation, bool) {
	relates := canonicaljson.Get(content, "m.relates_to")
	if !canonicaljson.IsObject(relates) {
		return relation{}, false
	}
	relType, ok := canonicaljson.String(canonicaljson.Get(relates, "rel_type"))
	if !ok || relType == "" || len(relType) > event.MaxFieldLength {
		return relation{}, false
	}
	text, _ := canonicaljson.String(canonicaljson.Get(relates, "event_id"))
	target, err := id.ParseEventID(text)
	return relation{relType: relType, target: target}, err == nil
}

// relate writes the relation of an event, if it has one.
func (t *turn) relate(out *TimelineEvent) error {
	if out.PDU.IsState() {
		return nil
	}
	rel, ok := relationOf(out.PDU.Content())
	if !ok {
		return nil
	}
	roomdb.AddRelation(t.change, roomdb.Relation{
		Room: t.row.Num, Target: rel.target.String(), RelType: rel.relType,
		Place: roomdb.Place{Slot: out.Slot, Off: out.Off}, Event: out.Num,
		Type: out.PDU.Type(), Sender: out.PDU.Sender().String(),
	})
	return nil
}

// threadHops bounds how many relations are followed to find the root of a thread.
//
// Spec: client-server-api#threaded-read-receipts
const threadHops = 3

// threadOf returns the root of the event's thread; zero for the main timeline.
func (t counting) threadOf(pdu *event.PDU) (id.EventID, error) {
	if pdu.IsState() {
		return id.EventID{}, nil
	}
	rel, ok := relationOf(pdu.Content())
	for hop := 0; ok && hop < threadHops; hop++ {
		if rel.relType == RelThread {
			return rel.target, nil
		}
		parent, err := t.parent(rel.target)
		if err != nil || parent == nil || parent.IsState() {
			return id.EventID{}, err
		}
		rel, ok = relationOf(parent.Content())
	}
	return id.EventID{}, nil
}

// parent returns an event of the room by its ID; nil if the room does not have it.
func (t *turn) parent(eventID id.EventID) (*event.PDU, error) {
	for i := len(t.out.Events) - 1; i >= 0; i-- {
		if t.out.Events[i].PDU.EventID() == eventID {
			return t.out.Events[i].PDU, nil
		}
	}
	var stored roomdb.Event
	err := t.reading(func(read *store.Read) (err error) {
		stored, err = roomdb.EventByID(read, eventID.String())
		return err
	})
	if errors.Is(err, store.ErrNotFound) || err == nil && stored.Room != t.row.Num {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", eventID, err)
	}
	return t.rs.events.Parse(t.r.rules, stored)
}

// count classifies an event, adds it to the running totals, and writes a row for each
// local member with a verdict of their own.
func (t counting) count(out *TimelineEvent) error {
	var err error
	if out.Thread, err = t.threadOf(out.PDU); err != nil {
		return err
	}
	fields := pushrule.Fields{
		Type: out.PDU.Type(), Sender: out.PDU.Sender().String(), RoomID: t.r.id.String(), EventID: out.PDU.EventID().String(),
		OriginServerTS: out.PDU.OriginServerTS(), Content: out.PDU.Content(),
	}
	if stateKey, ok := out.PDU.StateKey(); ok {
		fields.StateKey = &stateKey
	}
	if redacts := out.PDU.Redacts(); !redacts.IsZero() && !t.r.rules.RedactsInContent {
		fields.Redacts = redacts.String()
	}
	var fault error
	view := pushrule.NewEvent(fields, pushrule.Facts{MemberCount: int(t.row.Joined), MayNotify: func(key string) bool {
		powers, err := eventauth.PowersOf(t.turn)
		if err != nil {
			fault = err
			return false
		}
		return powers.User(out.PDU.Sender()) >= powers.Notification(key)
	}})
	out.Class = view.Class()
	if fault != nil {
		return fault
	}
	if err := t.addTotals(out); err != nil {
		return err
	}
	if err := t.markOwn(out); err != nil {
		return err
	}
	return t.highlight(out, view)
}

func (t counting) addTotals(out *TimelineEvent) error {
	threaded := !out.Thread.IsZero()
	totals := t.totals
	if threaded {
		var err error
		if totals.Thread, err = t.threadTotals(out.Thread); err != nil {
			return err
		}
	}
	totals.add(out.Class, threaded)
	out.Totals = totals
	if threaded {
		if t.threads == nil {
			t.threads = map[id.EventID]pushrule.Totals{}
		}
		t.threads[out.Thread.Clone()] = totals.Thread
		roomdb.SetThread(t.change, t.row.Num, out.Thread.String(), out.Slot, totals.Thread.Append(nil))
	}
	t.totals = totals
	t.totals.Thread = pushrule.Totals{}
	return nil
}

// threadTotals are the totals of a thread before this event.
func (t counting) threadTotals(root id.EventID) (pushrule.Totals, error) {
	if totals, ok := t.threads[root]; ok {
		return totals, nil
	}
	if totals, ok := t.r.threads[root]; ok {
		return totals, nil
	}
	if t.isNew {
		return pushrule.Totals{}, nil
	}
	var stored []byte
	err := t.reading(func(read *store.Read) (err error) {
		stored, err = roomdb.ThreadTotals(read, t.row.Num, root.String())
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return pushrule.Totals{}, fmt.Errorf("load totals of thread %s: %w", root, err)
	}
	return pushrule.ParseTotals(stored)
}

// highlight finds the local members whose verdict on the event is not that of its class.
func (t counting) highlight(out *TimelineEvent, view *pushrule.Event) error {
	if t.rs.opt.PushRules == nil && canonicaljson.Get(out.PDU.Content(), "m.mentions") == nil {
		return nil
	}
	watch, err := t.loadMemberRules()
	if err != nil {
		return err
	}
	raised := watch.set.Raised(view)
	if watch.set.Exceeded(view) {
		t.rs.metrics.rulesLimited.Add(1)
	}
	if watch.fault != nil {
		return watch.fault
	}
	for _, r := range raised {
		if r.UserID == out.PDU.Sender() {
			continue
		}
		user, err := t.userNum(r.UserID)
		if err != nil {
			return err
		}
		kind := roomdb.CountsAsNotify
		if r.Verdict >= pushrule.Highlights {
			kind = roomdb.CountsAsHighlight
		}
		roomdb.AddHighlight(t.change, roomdb.Highlight{
			Room: t.row.Num, User: user, Slot: out.Slot, Thread: out.Thread.String(), Kind: kind, Event: out.Num,
		})
		out.Highlights = append(out.Highlights, Highlight{User: user, Verdict: r.Verdict})
	}
	return nil
}

// memberRules indexes the local members with unusual push rules.
type memberRules struct {
	set *pushrule.Watch
	// turn is the turn that uses the index; fault is the first error of its reads.
	turn  *turn
	fault error
}

// joined reports whether a local user is joined, as of the turn that uses the index.
func (w *memberRules) joined(user id.UserID) bool {
	if !w.turn.rs.isLocal(user) {
		return false
	}
	membership, err := w.turn.membership(user)
	if err != nil {
		w.fault = err
	}
	return membership == event.MembershipJoin
}

// loadMemberRules returns the room's index. It builds it when it is first needed, and
// brings it up to date with the members of this turn.
func (t counting) loadMemberRules() (*memberRules, error) {
	w := t.r.memberRules
	fresh := w == nil
	if fresh {
		w = &memberRules{}
		w.set = pushrule.NewWatch(t.r.id, w.joined)
	}
	w.turn, w.fault = t.turn, nil
	if t.rs.opt.PushRules == nil {
		t.r.memberRules = w
		return w, nil
	}
	if fresh {
		users, err := t.rs.opt.PushRules.Unusual(t.ctx, t.row.Num)
		if err != nil {
			return nil, fmt.Errorf("push rules in %s: %w", t.r.id, err)
		}
		for _, user := range users {
			t.r.stale[user] = struct{}{}
		}
	}
	t.r.markStale(t.out.State[t.watchedState:]) // members of this same turn
	t.watchedState = len(t.out.State)
	for user := range t.r.stale {
		if err := t.updateMember(w, user); err != nil {
			return nil, err
		}
		delete(t.r.stale, user)
	}
	t.r.memberRules = w
	return w, nil
}

// updateMember brings one user of the index up to date.
func (t counting) updateMember(w *memberRules, user id.UserID) error {
	member, err := t.Event(event.TypeMember, user.String())
	if err != nil {
		return err
	}
	if member == nil || member.Membership() != event.MembershipJoin {
		w.set.Remove(user)
		return nil
	}
	rules, err := t.rs.opt.PushRules.Rules(t.ctx, user)
	if err != nil {
		return fmt.Errorf("push rules of %s: %w", user, err)
	}
	content, err := member.Member()
	if err != nil {
		return err
	}
	w.set.Set(user, content.DisplayName, rules)
	return nil
}

// markStale marks the local members among some changes for the next update of the index.
func (r *room) markStale(changes []StateChange) {
	for _, change := range changes {
		if change.User == 0 {
			continue
		}
		if user, err := id.ParseUserID(change.StateKey); err == nil {
			r.stale[user] = struct{}{}
		}
	}
}

// recheckMembers marks the members that the index learned from a turn that was abandoned.
func (t counting) recheckMembers() { t.r.markStale(t.out.State[:t.watchedState]) }

// PushRulesChanged makes the rooms in memory reload a local user's push rules and ignored
// users. Call it after the commit.
func (rs *Rooms) PushRulesChanged(user id.UserID) {
	for _, r := range rs.resident.all() {
		r.turn.Lock()
		if r.loaded && r.memberRules != nil {
			r.stale[user] = struct{}{}
		}
		r.turn.Unlock()
		rs.resident.release(r)
	}
}

// counting is a turn that counts its events: class, running totals, highlights.
type counting struct{ *turn }

// markOwn records the newest event of a local sender in its thread: sending marks
// everything before it as read.
//
// Spec: client-server-api#marking-notifications-as-read
func (t counting) markOwn(out *TimelineEvent) error {
	sender := out.PDU.Sender()
	if !t.rs.isLocal(sender) {
		return nil
	}
	user, err := t.rs.userNum(t.ctx, sender)
	if err != nil {
		return err
	}
	roomdb.SetOwnEvent(t.change, user, roomdb.OwnEvent{Room: t.row.Num, Thread: out.Thread.String(), Slot: out.Slot})
	return nil
}
