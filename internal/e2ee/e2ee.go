// Package e2ee stores the data for end-to-end encryption: device keys, one-time and
// fallback keys, cross-signing keys and signatures, key backups, to-device messages, and
// dehydrated devices.
//
// It owns those tables of the store. It never sees a secret: its data are public or
// encrypted by clients, and it checks only their form, signatures and owners. It knows
// no rooms; package clientsync decides which users learn of a changed device list.
//
// The invariant: a one-time key is given out once, even with retries and concurrent
// claims. A claimed key keeps its row for a while, and the write that claims it decides,
// not the read before.
//
// Spec: client-server-api#end-to-end-encryption
package e2ee

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/keydb"
	"stoa/internal/store/userdb"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

const (
	// maxOneTimeKeys bounds the unclaimed keys of a device. Clients keep 50 to
	// 100 there; a device with more can't be using them.
	maxOneTimeKeys = 500
	// maxClaims bounds the keys asked for in one claim: every device of a room
	// of a thousand members, several times over.
	maxClaims = 10_000
	// maxQueriedUsers bounds the users of one query.
	maxQueriedUsers = 10_000
	// claimedKept is how long a claimed key is remembered, so that an upload
	// repeated after a lost answer can't bring it back.
	claimedKept = 7 * 24 * time.Hour
	// maxTries bounds how often a change is rebuilt after it lost a race. Claims of
	// one device through many instances lose to one another, and each loss means
	// that somebody else got on, so the bound is generous.
	maxTries = 100
)

// Options are what the package is made of.
type Options struct {
	Store      *store.Store
	ServerName id.ServerName
	Clock      func() time.Time
	Log        *slog.Logger
}

// Keys serves the keys of all users.
type Keys struct {
	store      *store.Store
	serverName id.ServerName
	clock      func() time.Time
	log        *slog.Logger

	// claiming serializes the claims of one device in this process, so that
	// they don't lose against one another; between processes the write decides.
	claiming [256]sync.Mutex
	seed     maphash.Seed

	acknowledged acknowledged
	queues       queues
}

// New makes the package's one object. It starts nothing.
func New(opt Options) *Keys {
	return &Keys{store: opt.Store, serverName: opt.ServerName, clock: opt.Clock, log: opt.Log, seed: maphash.MakeSeed(), acknowledged: newAcknowledged(),
		queues: queues{left: map[deviceKey]int{}}}
}

// isLocal reports whether a user belongs to this server.
func (k *Keys) isLocal(u id.UserID) bool { return u.ServerName() == k.serverName }

// retry builds and commits a change until it loses no race, a bounded number of
// times. build gets a fresh snapshot each time; a nil change means that nothing
// is to be written.
func (k *Keys) retry(ctx context.Context, what string, build func(*store.Read) (*store.Change, error)) error {
	var err error
	for range maxTries {
		var change *store.Change
		err = k.store.Read(ctx, func(r *store.Read) (err error) {
			change, err = build(r)
			return err
		})
		if err != nil {
			return err
		}
		if change == nil || change.Empty() {
			return nil
		}
		_, err = k.store.Commit(ctx, change)
		if !errors.Is(err, store.ErrConflict) && !errors.Is(err, keydb.ErrKeyTaken) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// begin is a change on behalf of a device: it is not committed once the device, or
// the user's account, has ended.
//
// Errors: M_UNKNOWN_TOKEN if that is so already.
func begin(r *store.Read, d who.Device) (*store.Change, error) {
	head, err := userdb.HeadOfDevice(r, d.UserNum, d.DeviceID.String())
	if errors.Is(err, store.ErrNotFound) {
		return nil, mxerr.UnknownToken(false)
	}
	if err != nil {
		return nil, err
	}
	c := store.NewChange()
	c.User(d.UserNum, head)
	return c, nil
}

// Expire forgets one-time keys that were claimed long ago. It is called now and
// then by the server's housekeeping.
func (k *Keys) Expire(ctx context.Context) error {
	if err := store.CheckClocks(k.store); err != nil {
		return fmt.Errorf("delete claimed one-time keys: %w", err)
	}
	return k.store.Write(ctx, func(tx *store.Tx) error {
		_, err := keydb.DeleteClaimedKeys(tx, k.clock().Add(-claimedKept))
		return err
	})
}

// jsonEqual compares two JSON texts as values.
func jsonEqual(a, b string) bool {
	ca, err1 := canonical([]byte(a))
	cb, err2 := canonical([]byte(b))
	return err1 == nil && err2 == nil && string(ca) == string(cb)
}

// Object is a JSON object whose members are kept as they came.
type Object = map[string]json.RawMessage
