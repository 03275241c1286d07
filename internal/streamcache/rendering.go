package streamcache

import (
	"cmp"
	"context"
	"fmt"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/timeline"
	"stoa/internal/who"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/id"
)

// What the renderings of a sync have in common beside the stream: what they read elsewhere, and how they choose and write it.

// ToDevice reads messages to devices. The token has a counter for them, so that each is in the answers between two acknowledged
// tokens exactly once.
//
// Spec: client-server-api#send-to-device-messaging
type ToDevice interface {
	// Append appends up to limit messages after a slot, as the elements of a JSON list. It returns the slot of the last of
	// them, or after if there are none, and whether more wait.
	Append(dst []byte, r *store.Read, v who.Device, after store.Slot, limit int) (out []byte, last store.Slot, more bool, err error)
	// Acknowledge deletes the messages up to a slot: the device has them.
	Acknowledge(ctx context.Context, v who.Device, upTo store.Slot) error
}

// Typing tells who is typing.
//
// Spec: client-server-api#typing-notifications
type Typing interface {
	// Users returns the users who type in a room.
	Users(num store.RoomNum) []id.UserID
}

// Presence is notified that a device syncs.
type Presence interface {
	// Seen records that a user's device is connected, with the presence that it asks for: online, unavailable or offline.
	Seen(ctx context.Context, user who.User, presence string)
}

// Datum is one account data event.
type Datum struct {
	RoomID  string // "" for global account data
	Type    string
	Content []byte // a JSON object
}

// AccountData reads the account data of users.
//
// Spec: client-server-api#client-config
type AccountData interface {
	// Changed returns the viewer's account data that changed after a slot of the user; for slot 0 all of it, with what the
	// server makes up for users who have set nothing (push rules).
	Changed(r *store.Read, user who.User, after store.Slot) ([]Datum, error)
	// Ignored returns the users on m.ignored_user_list.
	Ignored(r *store.Read, user who.User) ([]id.UserID, error)
}

// ReadOwn marks in the delta what the user changed after a position, and all that concerns others, since the store does not
// say. It returns the first slot of the user's own changes of membership, 0 if there are none.
func (p *Delta) ReadOwn(r *store.Read, user store.UserNum, since store.Position) (first store.Slot, err error) {
	own, err := r.OwnChanges(user, since)
	if err != nil {
		return 0, fmt.Errorf("read own changes: %w", err)
	}
	clear(p.Own[:])
	for _, o := range own {
		if int(o.Kind) < OwnKinds {
			p.Own[o.Kind] = true
		}
		if o.Kind == store.KindMembership {
			first = o.First
		}
	}
	for kind := range p.Shared {
		p.Shared[kind] = true
	}
	p.Members, p.ToDevice = true, true
	return first, nil
}

// NewestReceipts leaves out what is not for the viewer, and of several receipts of one user, kind and thread all but the
// newest. The rest is in no order.
func NewestReceipts(list []roomdb.Receipt, viewer store.UserNum) []roomdb.Receipt {
	type mark struct {
		user   store.UserNum
		kind   roomdb.ReceiptKind
		thread string
	}
	newest := make(map[mark]roomdb.Receipt, len(list))
	for _, x := range list {
		if x.Kind != roomdb.ReceiptRead && x.User != viewer || x.Kind > roomdb.ReceiptPrivate {
			continue
		}
		m := mark{x.User, x.Kind, x.Thread}
		if old, ok := newest[m]; !ok || cmp.Or(cmp.Compare(x.Slot, old.Slot), cmp.Compare(x.Off, old.Off), cmp.Compare(x.TS, old.TS)) > 0 {
			newest[m] = x
		}
	}
	out := make([]roomdb.Receipt, 0, len(newest))
	for _, x := range newest {
		out = append(out, x)
	}
	return out
}

// IgnoresInviter says whether an invite, as its stripped state shows it, comes from a user whom its receiver ignores.
func IgnoresInviter(reader *timeline.Reader, stripped string) bool {
	if len(reader.Ignored) == 0 {
		return false
	}
	viewer, ignored := reader.UserID.String(), false
	// The list was made by this server; if it is no list, nobody is ignored for it.
	_ = canonicaljson.Array([]byte(stripped), func(ev []byte) error {
		evType, _ := canonicaljson.String(canonicaljson.Get(ev, "type"))
		key, _ := canonicaljson.String(canonicaljson.Get(ev, "state_key"))
		if evType == event.TypeMember && key == viewer {
			sender, _ := canonicaljson.String(canonicaljson.Get(ev, "sender"))
			userID, err := id.ParseUserID(sender)
			ignored = ignored || err == nil && reader.Ignored[userID]
		}
		return nil
	})
	return ignored
}

// Separate appends the comma before the next member or element, if one is needed.
func Separate(b []byte) []byte {
	switch b[len(b)-1] {
	case '{', '[', ':':
		return b
	}
	return append(b, ',')
}

// AppendKey appends the key of the next member of an object, with what stands around it.
func AppendKey(b []byte, key string) []byte {
	return append(canonicaljson.AppendString(Separate(b), key), ':')
}
