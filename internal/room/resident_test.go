package room_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"stoa/internal/room"
	"stoa/internal/store/storetest"
	"stoa/matrix/id"
)

// residentBytes is the memory that the rooms report.
func (h *fixture) residentBytes() int64 {
	h.t.Helper()
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(h.Rooms); err != nil {
		h.t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "stoa_room_resident_bytes" {
			return int64(f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	h.t.Fatal("no such metric")
	return 0
}

func TestResidentRooms_are_bounded_in_bytes(t *testing.T) {
	t.Parallel()
	large := `{"x":"` + strings.Repeat("x", 60_000) + `"}`
	alice := user(t, "alice")
	t.Run("of_all_rooms", func(t *testing.T) {
		t.Parallel()
		h := newFixture(t, storetest.SQLite(t), func(o *room.Options) { o.ResidentBytes = 1 << 20 })
		var rooms []id.RoomID
		for i := range 10 {
			roomID := h.create(alice)
			rooms = append(rooms, roomID)
			for j := range 6 {
				h.set(roomID, alice, "org.example", fmt.Sprint(j), large)
			}
			if bytes := h.residentBytes(); bytes > 3<<19 || bytes < 300_000 {
				t.Fatalf("%d rooms take %d bytes", i+1, bytes)
			}
		}
		for _, roomID := range rooms {
			h.say(roomID, alice, "hello")
		}
	})
	t.Run("of_one_room", func(t *testing.T) {
		t.Parallel()
		h := newFixture(t, storetest.SQLite(t))
		roomID := h.create(alice)
		for j := range 200 {
			h.set(roomID, alice, "org.example", fmt.Sprint(j), large)
		}
		if bytes := h.residentBytes(); bytes > 9<<20 || bytes < 4<<20 {
			t.Errorf("a room with 12 MB of state takes %d bytes", bytes)
		}
		h.say(roomID, alice, "hello")
	})
}
