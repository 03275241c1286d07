package ephemeral

import (
	"encoding/json"
	"time"

	"stoa/internal/store"
	"stoa/matrix/id"
)

// Bus carries messages between instances. One may be lost, and an instance does
// not hear itself.
type Bus interface {
	Publish(topic string, payload []byte)
	Subscribe(topic string, f func(payload []byte)) (cancel func())
	OnConnect(f func()) (cancel func())
	// Healthy says whether the other instances are heard.
	Healthy() bool
}

// topicTyping is the topic of what instances tell one another of who types.
const topicTyping = "typing"

const (
	// compareEvery is how often an instance tells the digest of all that it knows,
	// so that others notice what they have missed.
	compareEvery = 5 * time.Second
	// askEvery and tellEvery bound how often everything is asked for and told.
	askEvery  = 10 * time.Second
	tellEvery = time.Second
	// sayings bounds the sayings of one message: with the longest user IDs they fit.
	sayings = 10
	// allSayings bounds what is told at once when all is asked for. Of more, some is
	// told, and other parts when it is asked for again.
	allSayings = 5_000
)

// saying is what was said of a user in a room. Without a user it is only the
// newest mark of a room in which somebody has typed.
type saying struct {
	Room   store.RoomNum `json:"r"`
	User   string        `json:"u,omitempty"`
	Mark   uint64        `json:"m"`
	Typing bool          `json:"t,omitempty"`
	// MS is how long it still matters, in ms.
	MS int64 `json:"ms,omitempty"`
}

// typingMessage is one message of the topic: sayings, the wish to be told all, or a
// digest to compare.
type typingMessage struct {
	Said []saying `json:"said,omitempty"`
	Ask  bool     `json:"ask,omitempty"`
	Sum  uint32   `json:"sum,omitempty"`
}

// share lets the instances tell one another who types, until stop.
func (t *Typing) share() (stop func()) {
	if t.bus == nil {
		return func() {}
	}
	hear := t.bus.Subscribe(topicTyping, t.hear)
	ask := func() { t.publish(typingMessage{Ask: true}) }
	connect := t.bus.OnConnect(ask)
	ask()
	return func() {
		hear()
		connect()
	}
}

func (t *Typing) publish(m typingMessage) {
	if t.bus == nil {
		return
	}
	if payload, err := json.Marshal(m); err == nil { // numbers, texts and truth values
		t.bus.Publish(topicTyping, payload)
	}
}

// tell tells the other instances. Publish does not wait, so the lock may be held.
func (t *Typing) tell(said ...saying) {
	for len(said) > 0 && t.bus != nil {
		n := min(len(said), sayings)
		t.publish(typingMessage{Said: said[:n]})
		said = said[n:]
	}
}

// hear takes over what another instance tells.
func (t *Typing) hear(payload []byte) {
	var m typingMessage
	if json.Unmarshal(payload, &m) != nil {
		return // of another version, or none of ours
	}
	now := t.clock()
	began := map[store.RoomNum]bool{} // of the rooms that changed
	t.mu.Lock()
	for _, s := range m.Said {
		if t.heard(s, now) {
			began[s.Room] = began[s.Room] || s.Typing
		}
	}
	if m.Ask && now.Sub(t.sharedAt) >= tellEvery {
		t.sharedAt = now
		t.tellAll(now)
	}
	if m.Sum != 0 && m.Sum != t.sum() && now.Sub(t.asked) >= askEvery {
		t.asked = now
		t.publish(typingMessage{Ask: true})
	}
	t.mu.Unlock()
	for num, began := range began {
		t.changed(num, began)
	}
}

// heard takes one saying over. Called with the lock held.
func (t *Typing) heard(s saying, now time.Time) (changed bool) {
	room := t.rooms[s.Room]
	if s.User == "" {
		if room != nil {
			room.top, room.typed = max(room.top, s.Mark), true
			return room.seal()
		}
		return false
	}
	user, err := id.ParseUserID(s.User)
	if err != nil || s.Room == 0 {
		return false
	}
	lasts := min(time.Duration(s.MS)*time.Millisecond, longestTyping)
	if !s.Typing {
		lasts = min(time.Duration(s.MS)*time.Millisecond, fellSilent)
	}
	changed, _ = t.take(s.Room, typist{user: user, mark: s.Mark, typing: s.Typing, until: now.Add(lasts)})
	return changed
}

// tellAll tells all that is known. Called with the lock held.
func (t *Typing) tellAll(now time.Time) {
	var said []saying
	for num, room := range t.rooms {
		if len(said) >= allSayings {
			break
		}
		for _, p := range room.people {
			said = append(said, saying{
				Room: num, User: p.user.String(), Mark: p.mark, Typing: p.typing, MS: p.until.Sub(now).Milliseconds(),
			})
		}
		if room.typed {
			said = append(said, saying{Room: num, Mark: room.top})
		}
	}
	t.tell(said...)
}

// compare tells the digest of all that is known.
func (t *Typing) compare() {
	t.mu.Lock()
	sum := t.sum()
	t.mu.Unlock()
	if sum != 0 {
		t.publish(typingMessage{Sum: sum})
	}
}

// sum is a digest of all that is known. Called with the lock held.
func (t *Typing) sum() (sum uint32) {
	for num, room := range t.rooms {
		if room.typed {
			sum += room.digest*2654435761 + uint32(num)*40503
		}
	}
	return sum
}
