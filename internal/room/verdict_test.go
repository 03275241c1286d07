package room_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/doctor"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
	"stoa/matrix/id"
)

// report asks the doctor about an event and checks its verdict and rule.
func (h *fixture) report(f *remoteServer, eventID id.EventID, verdict, rule string) doctor.EventReport {
	h.t.Helper()
	got, err := doctor.Event(h.t.Context(), h.store, f.roomID.String(), eventID.String())
	if err != nil {
		h.t.Fatal(err)
	}
	if got.Verdict != verdict || got.Rule != rule || got.RoomVersion != f.rules.Version {
		h.t.Errorf("%s is %s by rule %q of room version %s (%s), want %s by rule %q", got.Type, got.Verdict, got.Rule, got.RoomVersion, got.Reason, verdict, rule)
	}
	if refused := verdict != doctor.Accepted; refused != (got.Reason != "") {
		h.t.Errorf("%s is %s for the reason %q", got.Type, got.Verdict, got.Reason)
	}
	return got
}

// The store has the rule that decided about each event.
func TestDoctorEvent(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		h, f := start(t, open(), "11")
		alice, bob, eve := user(t, "alice"), userOf(t, "bob", remoteName), userOf(t, "eve", remoteName)

		join := f.make(eve, f.heads(), "m.room.member", ptr(eve.String()), `{"membership":"join"}`)
		f.deliver(h, join, 0)
		if got := h.report(f, join.pdu.EventID(), doctor.Accepted, "4.3.6"); got.StateKey == nil || *got.StateKey != eve.String() {
			t.Errorf("the join has state key %v", got.StateKey)
		}
		h.report(f, f.list[0].pdu.EventID(), doctor.Accepted, "1.4")

		before := f.heads()
		ban := f.make(eve, before, "m.room.member", ptr(bob.String()), `{"membership":"ban"}`)
		f.deliver(h, ban, roomdb.Rejected)
		if got := h.report(f, ban.pdu.EventID(), doctor.Rejected, "4.6.3"); got.Outlier {
			t.Error("the ban is an outlier")
		}

		f.deliver(h, f.make(bob, before, "m.room.member", ptr(eve.String()), `{"membership":"ban"}`), 0)
		evading := f.make(eve, before, "m.room.message", nil, `{"body":"still here"}`)
		f.deliver(h, evading, roomdb.SoftFailed)
		h.report(f, evading.pdu.EventID(), doctor.SoftFailed, "5")

		// No rule rejects a redaction that waits for its target, and it is accepted
		// later.
		base := f.heads()
		target := f.make(bob, base, "m.room.message", nil, `{"body":"secret"}`)
		redaction := f.make(bob, base, "m.room.redaction", nil, fmt.Sprintf(`{"redacts":%q}`, target.pdu.EventID()))
		f.deliver(h, redaction, roomdb.SoftFailed)
		h.report(f, redaction.pdu.EventID(), doctor.SoftFailed, "")
		f.deliver(h, target, 0)
		h.report(f, redaction.pdu.EventID(), doctor.Accepted, "10")
		got := h.report(f, target.pdu.EventID(), doctor.Accepted, "10")
		if got.RedactedBy != redaction.pdu.EventID().String() || got.Replaced {
			t.Errorf("the redacted message is %+v", got)
		}
		h.clock.Add((8 * 24 * time.Hour).Milliseconds())
		if _, err := h.ReplaceRedacted(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := h.report(f, target.pdu.EventID(), doctor.Accepted, "10"); !got.Replaced {
			t.Error("the bytes of the redacted message are not replaced")
		}

		// After a gap the state comes as outliers.
		topic := f.make(bob, f.heads(), "m.room.topic", ptr(""), `{"topic":"unseen"}`)
		f.missing = func([]id.EventID) [][]byte { return nil }
		f.deliver(h, f.make(bob, f.heads(), "m.room.message", nil, `{"body":"after the gap"}`), 0)
		if got := h.report(f, topic.pdu.EventID(), doctor.Accepted, "10"); !got.Outlier {
			t.Error("the topic is no outlier")
		}

		other := newFixture(t, h.store).create(alice, func(r *room.CreateRequest) { r.Version = "11" })
		for _, ids := range [][2]string{
			{f.roomID.String(), "$unknown"},
			{"!unknown:stoa.test", join.pdu.EventID().String()},
			{other.String(), join.pdu.EventID().String()},
		} {
			if _, err := doctor.Event(t.Context(), h.store, ids[0], ids[1]); !errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), ids[1]) {
				t.Errorf("%s in %s: %v, want ErrNotFound", ids[1], ids[0], err)
			}
		}
	})
}
