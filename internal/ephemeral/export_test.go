package ephemeral

import (
	"time"

	"stoa/internal/store"
	"stoa/matrix/id"
)

// What tests bound.
const (
	MaxTypingRooms = maxTypingRooms
	MaxPeople      = maxPeople
	MaxAllPeople   = maxAllPeople
	MaxTypists     = maxTypists
	MaxUserRooms   = maxUserRooms
	CompareEvery   = compareEvery
	AskEvery       = askEvery
	FellSilent     = fellSilent
	AbsentAfter    = absentAfter
)

// Share has it hear the other instances until stop.
func (t *Typing) Share() (stop func()) { return t.share() }

// Compare does what Run does now and then.
func (t *Typing) Compare() { t.compare() }

// Expire does what Run does when something has ended.
func (t *Typing) Expire() { t.expire() }

// Say is Set without a look at who is in the room.
func (t *Typing) Say(num store.RoomNum, user id.UserID, typing bool, timeout time.Duration) {
	if t.set(num, user, typing, timeout, true) {
		t.changed(num, typing)
	}
}

// Sum is the digest of all that it knows.
func (t *Typing) Sum() uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sum()
}

// Rooms are those in which somebody types or has just stopped, with their digests.
func (t *Typing) Rooms() map[store.RoomNum]uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	rooms := map[store.RoomNum]uint32{}
	for num, room := range t.rooms {
		if room.typed {
			rooms[num] = room.digest
		}
	}
	return rooms
}

// Size is how many rooms and people it keeps.
func (t *Typing) Size() (rooms, people, most int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, room := range t.rooms {
		people += len(room.people)
		most = max(most, len(room.people))
	}
	return len(t.rooms), people, most
}

// Listen has it hear the other instances until stop.
func (p *Presence) Listen() (stop func()) { return p.bus.Subscribe(topicSeen, p.hear) }

// Tell does what Run does each second.
func (p *Presence) Tell() { p.tell() }
