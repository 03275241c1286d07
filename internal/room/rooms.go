package room

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"stoa/internal/cache"
	"stoa/internal/store"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/pushrule"
	"stoa/matrix/roomversion"
	"stoa/matrix/signing"
)

// Bounds of the memory.
const (
	residentLimit = 4096     // rooms; Options.ResidentLimit changes it
	residentBytes = 96 << 20 // state and forward extremities of the rooms in memory
	stateBytes    = 8 << 20  // state of one room
	pduBytes      = 32 << 20 // parsed events of states, and auth events
	txnBytes      = 8 << 20  // recent transaction IDs
	entryLimit    = 4096     // entries of one room's state
	threadLimit   = 256      // threads of one room
)

// Options configure Rooms.
type Options struct {
	Store *store.Store
	// Signer signs the events of local users. Its server name is that of this server.
	Signer *signing.Signer
	// DefaultVersion is the version of new rooms; empty = roomversion.Default.
	DefaultVersion string
	// Clock, Rand and Log may be nil: the system's clock and random numbers, no log.
	Clock func() time.Time
	Rand  io.Reader
	Log   *slog.Logger
	// Profiles provides the profiles for member events; nil = empty profiles.
	Profiles Profiles
	// PushRules finds the members with unusual push rules; nil = all users have the
	// default rules.
	PushRules PushRules
	// Remote makes requests to other servers; nil = there are none.
	Remote Remote
	// IsHome reports whether this instance is certainly the home of a room; nil = of all
	// rooms. Other rooms are written too, but with one change in flight at a time, so
	// that a conflict with the home costs one change and not a chain of them.
	IsHome func(roomID id.RoomID) bool
	// ForgetUponLeave forgets a room for a user who leaves it, is kicked or banned.
	//
	// Spec: client-server-api#mforget_forced_upon_leave-capability
	ForgetUponLeave bool
	// KeepRedacted is how long the original bytes of a redacted event are kept, so that
	// the redaction can be reviewed; 0 = 7 days.
	KeepRedacted time.Duration
	// ResidentLimit bounds the rooms in memory; 0 = 4096.
	ResidentLimit int
	// ResidentBytes bounds their state; 0 = 96 MiB.
	ResidentBytes int64
	// EventBytes bounds the parsed events of states that are kept beside them; 0 = 32 MiB.
	EventBytes int
}

// Profiles has the profiles of local users.
type Profiles interface {
	Profile(ctx context.Context, user id.UserID) (Profile, error)
}

// PushRules has the push rules of local users.
type PushRules interface {
	// Rules returns a local user's compiled rules, including ignored users.
	Rules(ctx context.Context, user id.UserID) (*pushrule.Rules, error)
	// Unusual returns the joined local members of a room whose rules may differ from the
	// default.
	Unusual(ctx context.Context, room store.RoomNum) ([]id.UserID, error)
}

// Rooms writes all rooms. Its methods may be called concurrently.
type Rooms struct {
	opt      Options
	store    *store.Store
	server   id.ServerName
	resident residents
	events   *Events
	txns     *cache.Cache[Txn, id.EventID] // a transaction ID never gets another event
	sending  sending
	created  atomic.Int64 // the last creationTime
	metrics  metrics
}

// New creates the Rooms of a store. It reads nothing.
func New(opt Options) (*Rooms, error) {
	if opt.Store == nil || opt.Signer == nil {
		return nil, errors.New("rooms need a store and a signer")
	}
	if opt.DefaultVersion == "" {
		opt.DefaultVersion = roomversion.Default
	}
	if _, ok := roomversion.Of(opt.DefaultVersion); !ok {
		return nil, errors.New("unknown default room version " + opt.DefaultVersion)
	}
	if opt.Clock == nil {
		opt.Clock = time.Now
	}
	if opt.Rand == nil {
		opt.Rand = rand.Reader
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.ResidentLimit == 0 {
		opt.ResidentLimit = residentLimit
	}
	if opt.ResidentBytes == 0 {
		opt.ResidentBytes = residentBytes
	}
	if opt.EventBytes == 0 {
		opt.EventBytes = pduBytes
	}
	if opt.KeepRedacted == 0 {
		opt.KeepRedacted = keepRedacted
	}
	rs := &Rooms{opt: opt, store: opt.Store, server: opt.Signer.ServerName()}
	rs.resident.init(rs, opt.ResidentLimit, opt.ResidentBytes)
	rs.events = &Events{store: opt.Store, pdus: cache.New(cache.Options[store.EventNum, *event.PDU]{
		Name: "pdus", MaxBytes: opt.EventBytes,
		Size: func(_ store.EventNum, p *event.PDU) int { return 1024 + len(p.Bytes()) }, // about the size of the parsed event
	})}
	rs.txns = cache.New(cache.Options[Txn, id.EventID]{
		Name: "transactions", MaxBytes: txnBytes,
		Size: func(t Txn, e id.EventID) int {
			return len(t.UserID.String()) + len(t.DeviceID) + len(t.Path) + len(t.ID) + len(e.String())
		},
	})
	return rs, nil
}

// ServerName is the name of this server.
func (rs *Rooms) ServerName() id.ServerName { return rs.server }

// DefaultVersion is the version of new rooms.
func (rs *Rooms) DefaultVersion() string { return rs.opt.DefaultVersion }

func (rs *Rooms) isLocal(user id.UserID) bool { return user.ServerName() == rs.server }

// isLocalID is isLocal for user IDs that were parsed before.
func (rs *Rooms) isLocalID(userID string) bool {
	user, err := id.ParseUserID(userID)
	return err == nil && rs.isLocal(user)
}

// userNum returns the number of a local user, and assigns one if necessary.
func (rs *Rooms) userNum(ctx context.Context, user id.UserID) (store.UserNum, error) {
	nums, err := rs.store.InternUsers(ctx, rs.isLocalID, user.String())
	if err != nil {
		return 0, err
	}
	return nums[0], nil
}

// creationTime returns the time in ms for a new room. It never returns the same time
// twice: where the room ID is the hash of the create event, the time may be the only
// difference between two rooms of a user.
func (rs creating) creationTime() int64 {
	for {
		last := rs.created.Load()
		now := max(rs.now(), last+1)
		if rs.created.CompareAndSwap(last, now) {
			return now
		}
	}
}

// now is the time in ms.
func (rs *Rooms) now() int64 { return rs.opt.Clock().UnixMilli() }

// Remote makes requests to other servers. It returns raw events unchecked.
type Remote interface {
	// Keys returns a source of server keys. It fetches the wanted keys; a server that
	// can't be reached has none.
	Keys(ctx context.Context, wanted map[id.ServerName][]id.KeyID) (signing.KeySource, error)
	// Event fetches one event from a server.
	//
	// Spec: server-server-api#retrieving-events
	Event(ctx context.Context, from id.ServerName, rules *roomversion.Rules, eventID id.EventID) ([]byte, error)
	// MissingEvents fetches the events between known ones and latest, oldest first.
	//
	// Spec: server-server-api#backfilling-and-retrieving-missing-events
	MissingEvents(ctx context.Context, from id.ServerName, roomID id.RoomID, known, latest []id.EventID, limit int) ([][]byte, error)
	// StateIDs fetches the state before an event, and its auth chain.
	//
	// Spec: server-server-api#retrieving-events
	StateIDs(ctx context.Context, from id.ServerName, roomID id.RoomID, eventID id.EventID) (state, authChain []id.EventID, err error)
}
