package slidingsync

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"

	"stoa/internal/cache"
	"stoa/matrix/event"
	"stoa/matrix/id"
)

// Config is what a request asks for, beside its place in the stream. It never changes: requests with the same text share it.
type Config struct {
	// Lists are sorted by name.
	Lists []List
	// Subscriptions are the rooms that are asked for by their ID.
	Subscriptions map[string]Room
	Extensions    Extensions
	// Stable is the form of the accepted proposal, for requests and answers; otherwise that of the deployed one.
	Stable bool

	// filters are the different Room.State of the request, by their text.
	filters map[string]*StateFilter
	// digest stands for the whole configuration, on any instance.
	digest uint64
}

// List is a sliding window over the rooms of the user that pass a filter.
type List struct {
	Name string
	// Ranges are the indexes of the first and the last room of each window; nil = all rooms.
	Ranges [][2]int
	Room   Room
	Filter Filter
}

// Room says what is sent of a room.
type Room struct {
	TimelineLimit int
	State         *StateFilter
}

// Filter selects rooms. What is nil selects all.
type Filter struct {
	IsDM, IsEncrypted, IsInvite *bool
	// Spaces are rooms, of whose children one is selected.
	Spaces []string
	// RoomTypes and NotRoomTypes are the types of rooms; "" stands for rooms without one.
	RoomTypes, NotRoomTypes []string
	Tags, NotTags           []string
}

// asksFacts says that the filter needs to know more of a room than the user's membership.
func (f *Filter) asksFacts() bool {
	return f.IsEncrypted != nil || f.RoomTypes != nil || f.NotRoomTypes != nil
}

// StateFilter selects entries of the state of a room.
type StateFilter struct {
	Include, Exclude []Element
	// LazyMembers selects the members whom the timeline mentions, and takes all others out of Include's wildcards.
	LazyMembers bool

	text string
}

// Element selects entries of state.
type Element struct {
	Type, StateKey         string
	AnyType, AnyKey, OwnID bool
}

// selects reports whether the filter selects an entry for a viewer, apart from members who are loaded lazily.
func (f *StateFilter) selects(evType, key, viewer string) bool {
	match := func(e Element) bool {
		switch {
		case !e.AnyType && e.Type != evType:
			return false
		case e.AnyKey:
			return true
		case e.OwnID:
			return key == viewer
		}
		return e.StateKey == key
	}
	for _, e := range f.Include {
		if match(e) && !(f.LazyMembers && e.AnyType && e.AnyKey && evType == event.TypeMember) {
			return !slices.ContainsFunc(f.Exclude, match)
		}
	}
	return false
}

// selectsAllMembers says that the filter selects the members of a room without a limit.
func (f *StateFilter) selectsAllMembers() bool {
	return slices.ContainsFunc(f.Include, func(e Element) bool {
		return e.AnyKey && (e.Type == event.TypeMember && !e.AnyType || e.AnyType && !f.LazyMembers)
	})
}

// Extensions are the parts of an answer beside rooms.
type Extensions struct {
	ToDevice, E2EE, AccountData, Receipts, Typing, Presence bool
	// Scopes limit the rooms of account data, receipts and typing.
	AccountDataScope, ReceiptsScope, TypingScope Scope
	// ToDeviceLimit bounds the messages to the device.
	ToDeviceLimit int
}

// Scope limits an extension to rooms of some lists, and to some subscribed rooms; nil lists and rooms stand for all.
type Scope struct {
	Limited      bool
	Lists, Rooms []string
}

// Bounds of a request.
const (
	// MaxLists and MaxSubscriptions are those of the proposal.
	MaxLists, MaxSubscriptions = 100, 100
	// MaxElements bounds the elements of one state filter, MaxRanges the ranges of a list.
	MaxElements, MaxRanges = 200, 20
	// MaxTimeline is the greatest limit of a timeline that is obeyed.
	MaxTimeline = 50
)

// seal computes what depends on everything else.
func (c *Config) seal() {
	slices.SortFunc(c.Lists, func(a, b List) int { return strings.Compare(a.Name, b.Name) })
	c.filters = map[string]*StateFilter{}
	share := func(r *Room) {
		r.TimelineLimit = min(r.TimelineLimit, MaxTimeline)
		r.State.text = string(mustJSON(r.State))
		if same := c.filters[r.State.text]; same != nil {
			r.State = same
			return
		}
		c.filters[r.State.text] = r.State
	}
	for i := range c.Lists {
		share(&c.Lists[i].Room)
	}
	for roomID, r := range c.Subscriptions {
		share(&r)
		c.Subscriptions[roomID] = r
	}
	sum := sha256.Sum256(mustJSON(c))
	c.digest = binary.BigEndian.Uint64(sum[:])&^(bitSet|bitAccountData) | bitSet
	if c.Extensions.AccountData {
		c.digest |= bitAccountData
	}
}

// The lowest bits of a digest: it is set in all, and says whether account data was asked for. The digest of a connection with rooms that
// did not fit into the answer has nothing else.
const (
	bitSet uint64 = 1 << iota
	bitAccountData
)

func mustJSON(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // made of texts and numbers
	}
	return text
}

// configCache holds configurations by their text: each waiting request would hold a copy.
type configCache struct {
	texts *cache.Cache[[sha256.Size]byte, cachedConfig]
}

type cachedConfig struct {
	config *Config
	bytes  int
}

const (
	// configBytes bounds the configurations in memory.
	configBytes = 16 << 20
	// configPart bounds the memory of a configuration for each byte of its text, configBase what it has besides. A longer text than
	// configText is not kept.
	configPart, configBase, configText = 16, 1024, 16 << 10
)

func newConfigCache() configCache {
	return configCache{cache.New(cache.Options[[sha256.Size]byte, cachedConfig]{
		Name: "sliding_configs", MaxBytes: configBytes,
		Size: func(_ [sha256.Size]byte, c cachedConfig) int { return configBase + configPart*c.bytes },
	})}
}

// Config returns the configuration with a text, which parse reads unless it is in memory.
func (r *Renderer) Config(text []byte, parse func() (*Config, error)) (*Config, error) {
	sum := sha256.Sum256(text)
	if c, ok := r.configs.texts.Get(sum); ok {
		return c.config, nil
	}
	c, err := parse()
	if err != nil {
		return nil, err
	}
	c.seal()
	if len(text) <= configText {
		r.configs.texts.Add(sum, cachedConfig{c, len(text)})
	}
	return c, nil
}

// asked is what a request asks for of one room, by all rules that the room matches.
type asked struct {
	// lists are indexes of Config.Lists.
	lists      []int
	subscribed bool
	limit      int
	filters    []*StateFilter
}

func (a *asked) matches() bool { return a.subscribed || len(a.lists) > 0 }

func (a *asked) add(r Room) {
	a.limit = max(a.limit, r.TimelineLimit)
	if !slices.Contains(a.filters, r.State) {
		a.filters = append(a.filters, r.State)
	}
}

// lazily says that members are loaded lazily: by one of the filters, and none selects all.
func (a *asked) lazily() bool {
	lazy := false
	for _, f := range a.filters {
		if f.selectsAllMembers() {
			return false
		}
		lazy = lazy || f.LazyMembers
	}
	return lazy
}

func anySelects(filters []*StateFilter, evType, key, viewer string) bool {
	return slices.ContainsFunc(filters, func(f *StateFilter) bool { return f.selects(evType, key, viewer) })
}

// includes says whether an extension is to tell of a room.
func (s *Scope) includes(c *Config, a *asked, roomID string) bool {
	if !s.Limited {
		return true
	}
	for _, i := range a.lists {
		if s.Lists == nil || slices.Contains(s.Lists, c.Lists[i].Name) || slices.Contains(s.Lists, "*") {
			return true
		}
	}
	return a.subscribed && (s.Rooms == nil || slices.Contains(s.Rooms, roomID) || slices.Contains(s.Rooms, "*"))
}

// ownMember is the entry of state of a user's membership.
func ownMember(user id.UserID) (evType, key string) { return event.TypeMember, user.String() }
