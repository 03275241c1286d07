package room

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"stoa/internal/room/powerlevels"
	"stoa/internal/store"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
	"stoa/matrix/roomversion"
)

// UpgradeRequest describes the replacement of a room by one of another version.
type UpgradeRequest struct {
	RoomID  id.RoomID
	Sender  id.UserID
	Version string
	// AdditionalCreators are creators of the new room beside the sender, if its version
	// supports them.
	AdditionalCreators []id.UserID
	// With adds rows that must be committed with the change, such as the move of the
	// aliases; nil for nothing.
	With func(change *store.Change, from, to store.RoomNum, roomID id.RoomID)
}

// transferable are the state events that an upgrade copies, in this order. Power levels
// come last: before them, the creator has the power to send the others.
//
// Spec: client-server-api#room-upgrades
var transferable = [...]string{
	event.TypeServerACL, event.TypeEncryption, event.TypeName, event.TypeAvatar, event.TypeTopic, event.TypeGuestAccess, event.TypeHistoryVisibility, event.TypeJoinRules,
	event.TypeCanonicalAlias, event.TypePowerLevels,
}

// Upgrade creates a new room with a copy of the old one's settings, and closes the old
// room, in one commit.
//
// Errors: M_FORBIDDEN (the sender may not send m.room.tombstone),
// M_UNSUPPORTED_ROOM_VERSION, M_NOT_FOUND.
//
// Spec: client-server-api#room-upgrades
func (rs *Rooms) Upgrade(ctx context.Context, req UpgradeRequest) (id.RoomID, error) {
	rules, ok := roomversion.Of(req.Version)
	if !ok {
		return id.RoomID{}, mxerr.UnsupportedRoomVersion("This server does not know room version %q", req.Version)
	}
	profile, err := memberships{rs}.profile(ctx, req.Sender)
	if err != nil {
		return id.RoomID{}, err
	}
	if err := rs.internUpgrade(ctx, req); err != nil {
		return id.RoomID{}, err
	}
	old := rs.resident.acquire(req.RoomID)
	defer rs.resident.release(old)
	var roomID id.RoomID
	err = rs.retryConflicts(ctx, func() (err error) {
		var departed *submission
		if roomID, departed, err = old.upgrade(ctx, req, rules, profile); err != nil {
			return err
		}
		return departed.wait()
	})
	if err != nil {
		return id.RoomID{}, clientError(err)
	}
	return roomID, nil
}

// internUpgrade interns the keys that an upgrade writes.
func (rs *Rooms) internUpgrade(ctx context.Context, req UpgradeRequest) error {
	pairs := []store.Pair{{Type: event.TypeTombstone}, {Type: event.TypeCreate}, {Type: event.TypeMember, StateKey: req.Sender.String()}}
	for _, evType := range transferable {
		pairs = append(pairs, store.Pair{Type: evType})
	}
	_, err := rs.store.Intern(ctx, pairs)
	return err
}

// upgrade builds the change of both rooms and submits it.
func (r *room) upgrade(ctx context.Context, req UpgradeRequest, rules *roomversion.Rules, profile Profile) (id.RoomID, *submission, error) {
	if err := r.lock(ctx); err != nil {
		return id.RoomID{}, nil, err
	}
	keys := []eventauth.Key{{Type: event.TypeCreate}, {Type: event.TypeMember, StateKey: req.Sender.String()}}
	for _, evType := range transferable {
		keys = append(keys, eventauth.Key{Type: evType})
	}
	if err := r.prepare(ctx, keys); err != nil {
		return id.RoomID{}, nil, err
	}
	defer r.turn.Unlock()
	from := r.begin(ctx, store.NewChange())
	if err := (upgrading{from}).mayClose(req); err != nil {
		return id.RoomID{}, nil, err
	}
	to, err := creating{r.rooms}.newRoom(ctx, rules, false, from.change)
	if err != nil {
		return id.RoomID{}, nil, err
	}
	defer to.r.turn.Unlock()
	if err := (upgrading{from}).moveTo(to, req, profile); err != nil {
		counting{from}.recheckMembers()
		return id.RoomID{}, nil, err
	}
	to.old = from.row.Num
	if req.With != nil {
		req.With(from.change, from.row.Num, to.row.Num, to.r.id)
	}
	departed, err := submit(from, to)
	return to.r.id, departed, err
}

// mayClose checks that the sender may send m.room.tombstone.
func (t upgrading) mayClose(req UpgradeRequest) error {
	membership, err := t.membership(req.Sender)
	if err != nil {
		return err
	}
	powers, err := eventauth.PowersOf(t.turn)
	if err != nil {
		return err
	}
	if membership != event.MembershipJoin || powers.User(req.Sender) < powers.Event(event.TypeTombstone, true) {
		return mxerr.Forbidden("You may not upgrade this room")
	}
	return nil
}

// moveTo closes the old room and fills the new one. The order depends on how the new room
// gets its ID.
func (t upgrading) moveTo(to *turn, req UpgradeRequest, profile Profile) error {
	predecessor := map[string]any{"room_id": t.r.id.String()}
	if !to.r.rules.RoomIDFromCreate {
		tombstone, err := t.tombstone(req.Sender, to.r.id)
		if err != nil {
			return err
		}
		predecessor["event_id"] = tombstone.String()
	}
	plan, err := t.planUpgrade(to.r.rules, req, predecessor, profile)
	if err != nil {
		return err
	}
	if err := to.create(plan, req.Sender); err != nil {
		return err
	}
	if to.r.rules.RoomIDFromCreate {
		if _, err := t.tombstone(req.Sender, to.r.id); err != nil {
			return err
		}
	}
	return t.close(req.Sender)
}

func (t upgrading) tombstone(sender id.UserID, replacement id.RoomID) (id.EventID, error) {
	content, err := json.Marshal(map[string]string{
		"body": "This room has been replaced", "replacement_room": replacement.String(),
	})
	if err != nil {
		return id.EventID{}, err
	}
	return t.send(Draft{RoomID: t.r.id, Sender: sender, Type: event.TypeTombstone, StateKey: new(string), Content: content})
}

// planUpgrade turns the state of the old room into drafts for the new one.
func (t upgrading) planUpgrade(rules *roomversion.Rules, req UpgradeRequest, predecessor map[string]any, profile Profile) (creation, error) {
	create, err := t.Event(event.TypeCreate, "")
	if err != nil {
		return creation{}, err
	}
	content := map[string]any{"predecessor": predecessor}
	var old map[string]any
	if err := json.Unmarshal(create.Content(), &old); err != nil {
		return creation{}, err
	}
	for _, key := range []string{"type", "m.federate"} {
		if value, ok := old[key]; ok {
			content[key] = value
		}
	}
	if rules.CreatorsPrivileged && len(req.AdditionalCreators) > 0 {
		list := make([]any, len(req.AdditionalCreators))
		for i, user := range req.AdditionalCreators {
			list[i] = user.String()
		}
		content["additional_creators"] = list
	}
	raw, err := json.Marshal(content)
	if err != nil {
		return creation{}, err
	}
	first, creators, err := createContent(CreateRequest{Creator: req.Sender, CreationContent: raw}, rules, false, nil)
	if err != nil {
		return creation{}, err
	}
	member, err := json.Marshal(memberContent(event.MembershipJoin, profile, "", nil))
	if err != nil {
		return creation{}, err
	}
	sender := req.Sender.String()
	plan := creation{create: first, drafts: []Draft{{Sender: req.Sender, Type: event.TypeMember, StateKey: &sender, Content: member}}}
	for _, evType := range transferable {
		pdu, err := t.Event(evType, "")
		if err != nil {
			return creation{}, err
		}
		var content json.RawMessage
		switch {
		case evType == event.TypePowerLevels:
			content, err = powerlevels.Upgraded(create, pdu, rules, req.Sender, creators)
		case pdu != nil:
			content = pdu.Content()
		default:
			continue
		}
		if err != nil {
			return creation{}, err
		}
		plan.drafts = append(plan.drafts, Draft{Sender: req.Sender, Type: evType, StateKey: new(string), Content: content})
	}
	return plan, nil
}

// close stops members from sending and inviting in the old room, if the sender has the
// power to do so, and removes its alias.
//
// Spec: client-server-api#room-upgrades (6)
func (t upgrading) close(sender id.UserID) error {
	try := func(d Draft) error {
		_, err := t.send(d)
		if _, refused := mxerr.As(err); refused || errors.Is(err, errNothing) {
			return nil
		}
		return err
	}
	alias, err := t.Event(event.TypeCanonicalAlias, "")
	if err != nil {
		return err
	}
	if alias != nil {
		err := try(Draft{RoomID: t.r.id, Sender: sender, Type: event.TypeCanonicalAlias, StateKey: new(string), Content: json.RawMessage(`{}`)})
		if err != nil {
			return err
		}
	}
	pdu, err := t.Event(event.TypePowerLevels, "")
	if err != nil || pdu == nil {
		return err
	}
	raw, err := powerlevels.Closed(pdu)
	if err != nil {
		return fmt.Errorf("power levels of %s: %w", t.r.id, err)
	}
	return try(Draft{RoomID: t.r.id, Sender: sender, Type: event.TypePowerLevels, StateKey: new(string), Content: raw})
}

// upgrading is the turn of a room that another room replaces.
type upgrading struct{ *turn }
