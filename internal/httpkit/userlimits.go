package httpkit

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Rate is a kind of action of users that has a rate limit.
type Rate uint8

// The rates. RateNone has no limit.
const (
	RateNone Rate = iota
	RateSend
	RateSendBytes
	RateCreate
	RateInvite
	RateInvited
	RateJoin
	RateToDevice
	RateToDeviceBytes
	RateSearch
	RateNotice
	RateWrite
	RateLookup
	RateInvitedBy
	RateRoomJoins
	RatePreview
	RatePreviewBytes

	rates = int(RatePreviewBytes) + 1
)

// userLimit is a row of the table of limits.
type userLimit struct {
	name      string // label of the metric
	what      string
	burst     int
	perSecond float64
	reason    string
}

// userLimits is the table. A test compares it with the one in docs/operations.md.
var userLimits = [rates]userLimit{
	RateSend:          {"send", "events sent: messages, state, redactions, changes of other people's membership", 600, 20, "a bot that answers a full room; a person sends one a second"},
	RateSendBytes:     {"send_bytes", "bytes of events sent", 16 << 20, 256 << 10, "4 events of the maximum size a second, indefinitely"},
	RateCreate:        {"create", "rooms created and upgraded", 30, 0.2, "the rooms of a course, created by a script"},
	RateInvite:        {"invite", "invitations sent, including those of createRoom", 600, 1, "a room for a lecture of 500"},
	RateInvited:       {"invited", "invitations received", 100, 0.1, "a new student's rooms, all in one morning"},
	RateInvitedBy:     {"invited_by", "invitations from one user to another; those above this limit count against `invited`", 3, 0.002, "one account alone can't use up the `invited` limit of another"},
	RateRoomJoins:     {"room_joins", "joins of one room; counted for each room, not for each user", 1000, 20, "a lecture of 1,000 begins"},
	RateJoin:          {"join", "rooms joined, left, knocked at and forgotten", 300, 2, "a move to a new account with all rooms"},
	RateToDevice:      {"to_device", "requests that send to-device messages", 1000, 20, "a new key for a room of 26,000 members, in batches of 100 devices"},
	RateToDeviceBytes: {"to_device_bytes", "bytes of to-device messages sent", 32 << 20, 512 << 10, "the same; a key takes 1 KiB for each device"},
	RateSearch:        {"search", "searches of users, rooms and messages", 60, 3, "one for each letter typed"},
	RateNotice:        {"notice", "typing, receipts, presence", 600, 20, "scrolling through many rooms"},
	RatePreview:       {"preview", "links fetched for previews; those in the cache don't count", 120, 1, "opening a room in which many links were posted"},
	RatePreviewBytes:  {"preview_bytes", "bytes of the images of previews", 64 << 20, 16 << 10, "100 previews with an image of 600 KiB; 1.3 GiB a day"},
	RateLookup:        {"lookup", "profiles, room aliases, published rooms and summaries read", 1000, 50, "the profiles of everybody in a large room"},
	RateWrite:         {"write", "other writes: account data, keys, backups, profile, devices, aliases", 1000, 20, "a first login with a backup of all keys"},
}

// UserLimits limits the actions of logged-in users. It counts in memory, and shares the
// counts with other instances once a second. A nil UserLimits has no limits.
type UserLimits struct {
	report   bool // only count, and refuse nothing
	limiters [rates]*Limiter
	limited  [rates]atomic.Uint64

	mu    sync.Mutex // guards spent; nothing is locked after it
	spent map[spending]int
}

// spending is a user's bucket.
type spending struct {
	rate Rate
	key  string
}

// NewUserLimits returns UserLimits. With report, they only count the requests that they
// would refuse.
func NewUserLimits(report bool, clock func() time.Time) *UserLimits {
	u := &UserLimits{report: report, spent: map[spending]int{}}
	for rate, l := range userLimits {
		if Rate(rate) != RateNone {
			u.limiters[rate] = NewLimiter(l.perSecond, l.burst, clock)
		}
	}
	return u
}

// Take counts n actions of a rate for a user, or returns M_LIMIT_EXCEEDED with the time
// to wait. One request takes at most a full bucket, however much it asks for.
//
// Spec: client-server-api#rate-limiting
func (u *UserLimits) Take(rate Rate, user string, n int) error {
	if u == nil || rate == RateNone || n <= 0 {
		return nil
	}
	if err := u.limiters[rate].TakeN(user, n); err != nil {
		u.limited[rate].Add(1)
		if !u.report {
			return err
		}
	}
	u.note(rate, user, n)
	return nil
}

// TakeInvitation counts an invitation that a user receives. The first few from one user
// to another count for the pair, and only further ones against RateInvited: otherwise one
// account could use that up, and nobody else could invite the user any more. Instances
// don't share the counts of pairs.
func (u *UserLimits) TakeInvitation(from, to string) error {
	if u == nil || u.limiters[RateInvitedBy].Take(from+" "+to) == nil {
		return nil
	}
	return u.Take(RateInvited, to, 1)
}

// Check returns the error with which Take would refuse one action, and counts none. It is
// for limits that only actions that succeed count against.
func (u *UserLimits) Check(rate Rate, key string) error {
	if u == nil {
		return nil
	}
	err := u.limiters[rate].check(key)
	if err == nil {
		return nil
	}
	u.limited[rate].Add(1)
	if u.report {
		return nil
	}
	return err
}

// Count counts an action that Check has allowed.
func (u *UserLimits) Count(rate Rate, key string) {
	if u != nil {
		u.limiters[rate].add(key, 1)
		u.note(rate, key, 1)
	}
}

// note records usage for the other instances.
func (u *UserLimits) note(rate Rate, key string, n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.spent) < maxKeys { // otherwise the other instances learn of it too late
		u.spent[spending{rate, key}] += n
	}
}

// byteRate is the rate for the bytes of requests of a rate.
func byteRate(rate Rate) Rate {
	switch rate {
	case RateSend:
		return RateSendBytes
	case RateToDevice:
		return RateToDeviceBytes
	default:
		return RateNone
	}
}

// request counts a request with the bytes of its body.
func (u *UserLimits) request(rate Rate, user string, bytes int) error {
	if err := u.Take(rate, user, 1); err != nil {
		return err
	}
	return u.Take(byteRate(rate), user, bytes)
}

const (
	shareEvery = time.Second
	// sharePart is a divisor: usage below 1/sharePart of one second at the long-run rate
	// is not shared.
	sharePart = 4
	// maxShared bounds a message to the other instances, in bytes.
	maxShared = 2 << 10
)

// Share sends the users' usage to the other instances once a second, until ctx ends.
func (u *UserLimits) Share(ctx context.Context, publish func([]byte)) error {
	t := time.NewTicker(shareEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			u.share(publish)
		}
	}
}

func (u *UserLimits) share(publish func([]byte)) {
	u.mu.Lock()
	spent := u.spent
	u.spent = map[spending]int{}
	u.mu.Unlock()
	var text []byte
	for s, n := range spent {
		if float64(n) <= userLimits[s.rate].perSecond/sharePart {
			continue
		}
		if len(text)+len(s.key)+32 > maxShared && len(text) > 0 {
			publish(text)
			text = nil
		}
		text = strconv.AppendInt(text, int64(s.rate), 10)
		text = strconv.AppendInt(append(text, ' '), int64(n), 10)
		text = append(append(append(text, ' '), s.key...), '\n')
	}
	if len(text) > 0 {
		publish(text)
	}
}

// Hear adds usage on another instance. It skips lines that it can't parse, which are of
// another version.
func (u *UserLimits) Hear(text []byte) {
	for line := range strings.Lines(string(text)) {
		rate, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		count, key, ok := strings.Cut(rest, " ")
		r, err := strconv.ParseUint(rate, 10, 8)
		n, bad := strconv.Atoi(count)
		if ok && err == nil && bad == nil && r > 0 && int(r) < rates && n > 0 {
			u.limiters[r].add(key, n)
		}
	}
}

var descLimited = prometheus.NewDesc("stoa_httpkit_limited_users_total",
	"Requests above a limit on what a user does, by limit; refused, or only counted if user_limits is report.", []string{"limit"}, nil)

// Describe implements prometheus.Collector.
func (u *UserLimits) Describe(ch chan<- *prometheus.Desc) { ch <- descLimited }

// Collect implements prometheus.Collector.
func (u *UserLimits) Collect(ch chan<- prometheus.Metric) {
	for rate := range u.limited {
		if Rate(rate) != RateNone {
			ch <- prometheus.MustNewConstMetric(descLimited, prometheus.CounterValue, float64(u.limited[rate].Load()), userLimits[rate].name)
		}
	}
}
