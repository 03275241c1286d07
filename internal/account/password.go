package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"

	"stoa/matrix/mxerr"
)

// Cost is the cost of one argon2id hash. The hash string contains it, so that a login can
// recognise an earlier cost and re-hash.
type Cost struct {
	MemoryKiB uint32
	Passes    uint32
	Threads   uint8
}

// DefaultCost is 19 MiB, two passes, one thread: about 26 ms of one core.
var DefaultCost = Cost{MemoryKiB: 19 * 1024, Passes: 2, Threads: 1}

const (
	saltBytes = 16
	keyBytes  = 32

	// MaxPasswordBytes bounds a password; longer ones are refused.
	MaxPasswordBytes = 512

	// hashesWaiting bounds the callers that wait for a hashing slot. At 26 ms a hash the
	// last of them waits 1.7 s. A lecture hall may log in at once.
	hashesWaiting = 64
	hashRetry     = time.Second
)

// errNoHash marks a stored password hash of an unknown form.
var errNoHash = errors.New("unknown form of password hash")

// Hasher hashes and checks passwords, a bounded number at once.
//
// A hash takes 26 ms of one core and 19 MiB of garbage, so this bound also limits a flood
// of logins: one core remains for other work (with one core only, the scheduler shares
// it), a short queue waits, and further requests are refused.
type Hasher struct {
	cost  Cost
	slots chan struct{}
	queue int64
	dummy string // a hash without a password, to spend the same time on unknown users

	waiting       atomic.Int64 // including those being computed
	done, refused atomic.Uint64
}

// NewHasher returns a hasher with a cost that computes at most atOnce hashes at a time; 0
// means one less than the cores, but at least one.
func NewHasher(cost Cost, atOnce int) *Hasher {
	if atOnce <= 0 {
		atOnce = max(1, runtime.GOMAXPROCS(0)-1)
	}
	h := &Hasher{cost: cost, slots: make(chan struct{}, atOnce), queue: int64(atOnce * hashesWaiting)}
	h.dummy = encodePHC(cost, make([]byte, saltBytes), make([]byte, keyBytes))
	return h
}

// Hash returns the PHC string of a password: $argon2id$v=19$m=19456,t=2,p=1$<salt>$<key>,
// unpadded base64.
//
// It returns M_LIMIT_EXCEEDED when too many hashes are waiting.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltBytes)
	rand.Read(salt)
	key, err := h.derive(ctx, password, salt, h.cost, keyBytes)
	if err != nil {
		return "", err
	}
	return encodePHC(h.cost, salt, key), nil
}

// Check compares a password with a stored hash. outdated is true if the password is right
// but should be hashed again: the hash has another cost, or is the bcrypt hash of an
// imported account.
//
// An empty hash (no password, or no such user) takes the same time as a real one and is
// never right. Check returns M_LIMIT_EXCEEDED when too many hashes are waiting.
func (h *Hasher) Check(ctx context.Context, stored, password string) (ok, outdated bool, err error) {
	if len(password) > MaxPasswordBytes {
		return false, false, nil
	}
	if strings.HasPrefix(stored, "$2") {
		return h.checkBcrypt(ctx, stored, password)
	}
	known := stored != ""
	if !known {
		stored = h.dummy
	}
	cost, salt, want, err := decodePHC(stored)
	if err != nil {
		return false, false, err
	}
	got, err := h.derive(ctx, password, salt, cost, uint32(len(want)))
	if err != nil {
		return false, false, err
	}
	ok = subtle.ConstantTimeCompare(got, want) == 1 && known
	return ok, ok && cost != h.cost, nil
}

func (h *Hasher) checkBcrypt(ctx context.Context, stored, password string) (ok, outdated bool, err error) {
	release, err := h.acquire(ctx)
	if err != nil {
		return false, false, err
	}
	defer release()
	err = bcrypt.CompareHashAndPassword([]byte(stored), []byte(password))
	if errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("%w: %w", errNoHash, err)
	}
	return true, true, nil
}

func (h *Hasher) derive(ctx context.Context, password string, salt []byte, c Cost, length uint32) ([]byte, error) {
	release, err := h.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return argon2.IDKey([]byte(password), salt, c.Passes, c.MemoryKiB, c.Threads, length), nil
}

// acquire waits for a hashing slot, unless too many callers are waiting.
func (h *Hasher) acquire(ctx context.Context) (release func(), err error) {
	if h.waiting.Add(1) > h.queue+int64(cap(h.slots)) {
		h.waiting.Add(-1)
		h.refused.Add(1)
		return nil, mxerr.LimitExceeded(hashRetry)
	}
	select {
	case h.slots <- struct{}{}:
		return func() {
			<-h.slots
			h.waiting.Add(-1)
			h.done.Add(1)
		}, nil
	case <-ctx.Done():
		h.waiting.Add(-1)
		return nil, ctx.Err()
	}
}

func encodePHC(c Cost, salt, key []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		c.MemoryKiB, c.Passes, c.Threads, b64.EncodeToString(salt), b64.EncodeToString(key))
}

func decodePHC(s string) (c Cost, salt, key []byte, err error) {
	parts := strings.Split(s, "$") // "", argon2id, v=, m=,t=,p=, salt, key
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return c, nil, nil, errNoHash
	}
	var version int
	if _, err := fmt.Sscanf(parts[2], "v=%d", &version); err != nil || version != argon2.Version {
		return c, nil, nil, errNoHash
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &c.MemoryKiB, &c.Passes, &c.Threads); err != nil {
		return c, nil, nil, errNoHash
	}
	if c.MemoryKiB == 0 || c.MemoryKiB > maxMemoryKiB || c.Passes == 0 || c.Passes > maxPasses || c.Threads == 0 {
		return c, nil, nil, errNoHash
	}
	b64 := base64.RawStdEncoding.Strict()
	salt, err1 := b64.DecodeString(parts[4])
	key, err2 := b64.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(key) < 16 || len(key) > 64 {
		return c, nil, nil, errNoHash
	}
	return c, salt, key, nil
}

// Bounds of a stored hash: an imported one must not be able to stop the server.
const (
	maxMemoryKiB = 256 * 1024
	maxPasses    = 10
)
