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

// Bounds of what is kept in memory.
const (
	residentLimit = 4096     // rooms; Options.ResidentLimit changes it
	residentBytes = 96 << 20 // state and forward extremities of the rooms in memory
	stateBytes    = 8 << 20  // state of one room
	pduBytes      = 32 << 20 // parsed state and auth events
	txnBytes      = 8 << 20  // transaction IDs of late
	entryLimit    = 4096     // entries of one room's state
	threadLimit   = 256      // threads of one room
)

// Options are what rooms are made of.
type Options struct {
	Store *store.Store
	// Signer signs what users of this server do. Its server name is the server's.
	Signer *signing.Signer
	// DefaultVersion is the version of new rooms; empty = roomversion.Default.
	DefaultVersion string
	// Clock, Rand and Log may be nil: the system's clock and random numbers, no log.
	Clock func() time.Time
	Rand  io.Reader
	Log   *slog.Logger
	// Profiles are asked when a member event is made; nil = empty profiles.
	Profiles Profiles
	// PushRules are asked which members an event concerns more than others; nil
	// = all users have the usual rules.
	PushRules PushRules
	// Remote asks other servers; nil = there are none.
	Remote Remote
	// IsHome says whether this instance is the home of a room without doubt; nil = of
	// all. A room of which it is not is written all the same, but one change at a
	// time, so that a conflict with the home costs one change and not a chain.
	IsHome func(roomID id.RoomID) bool
	// ForgetUponLeave forgets a room for a user who leaves it, is kicked or
	// banned.
	//
	// Spec: client-server-api#mforget_forced_upon_leave-capability
	ForgetUponLeave bool
	// KeepRedacted is how long the bytes of a redacted event are kept as they
	// were sent, so that the redaction can be understood; 0 = 7 days.
	KeepRedacted time.Duration
	// ResidentLimit bounds the rooms in memory; 0 = 4096.
	ResidentLimit int
	// ResidentBytes bounds their state; 0 = 96 MiB.
	ResidentBytes int64
}

// Profiles knows what local users are called.
type Profiles interface {
	Profile(ctx context.Context, user id.UserID) (Profile, error)
}

// PushRules knows the push rules of local users.
type PushRules interface {
	// Rules returns a local user's rules, compiled, ignored users included.
	Rules(ctx context.Context, user id.UserID) (*pushrule.Rules, error)
	// Unusual returns those joined local members of a room who may have other
	// than the usual rules.
	Unusual(ctx context.Context, room store.RoomNum) ([]id.UserID, error)
}

// Rooms writes all rooms. Its methods may be called at the same time.
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

// New makes the rooms of a store. It reads nothing.
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
	if opt.KeepRedacted == 0 {
		opt.KeepRedacted = keepRedacted
	}
	rs := &Rooms{opt: opt, store: opt.Store, server: opt.Signer.ServerName()}
	rs.resident.init(rs, opt.ResidentLimit, opt.ResidentBytes)
	rs.events = &Events{store: opt.Store, pdus: cache.New(cache.Options[store.EventNum, *event.PDU]{
		Name: "pdus", MaxBytes: pduBytes,
		Size: func(_ store.EventNum, p *event.PDU) int { return 1024 + len(p.Bytes()) }, // what is parsed of it, about
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

// userNum returns the number of a local user, who gets one if they have none.
func (rs *Rooms) userNum(ctx context.Context, user id.UserID) (store.UserNum, error) {
	nums, err := rs.store.InternUsers(ctx, rs.isLocalID, user.String())
	if err != nil {
		return 0, err
	}
	return nums[0], nil
}

// creationTime is the time in ms of a room that is being made. No two rooms are
// made at the same time here: where the room ID is the hash of the create event,
// nothing else tells two rooms of one user apart.
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

// Remote is what rooms ask of other servers. All raw events are as they came:
// whoever gets them checks them.
type Remote interface {
	// Keys returns a source of the keys of servers, with those fetched that the
	// signers of some events need. A server that can't be reached has none.
	Keys(ctx context.Context, wanted map[id.ServerName][]id.KeyID) (signing.KeySource, error)
	// Event fetches one event from a server.
	//
	// Spec: server-server-api#retrieving-events
	Event(ctx context.Context, from id.ServerName, rules *roomversion.Rules, eventID id.EventID) ([]byte, error)
	// MissingEvents fetches events between some known ones and some that refer
	// to unknown ones, oldest first.
	//
	// Spec: server-server-api#backfilling-and-retrieving-missing-events
	MissingEvents(ctx context.Context, from id.ServerName, roomID id.RoomID, known, latest []id.EventID, limit int) ([][]byte, error)
	// StateIDs fetches the state before an event, and the auth chain of that.
	//
	// Spec: server-server-api#retrieving-events
	StateIDs(ctx context.Context, from id.ServerName, roomID id.RoomID, eventID id.EventID) (state, authChain []id.EventID, err error)
}
