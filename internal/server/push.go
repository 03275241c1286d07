package server

import (
	"fmt"

	"stoa/internal/outbound"
	"stoa/internal/push"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/unread"
	"stoa/internal/who"
	"stoa/matrix/id"
)

// gatewayConnections is the number of connections to one push gateway.
const gatewayConnections = 64

func (srv *Server) newPush() *push.Push {
	s, private := srv.services, bool(srv.opt.Config.FederationAllowPrivate)
	return push.New(push.Options{
		Store: s.Store, Accounts: s.Accounts, Rules: s.Rules, Unread: pushUnread{unread.New(s.Store, s.Rules)}, History: s.History,
		AllowPrivate: private, Log: srv.opt.Log,
		Timeout: srv.opt.GatewayTimeout,
		Client: outbound.New(outbound.Options{
			AllowPrivate: private, RootCAs: srv.opt.GatewayCAs, MaxPerHost: gatewayConnections, IdlePerHost: gatewayConnections, UserAgent: "Stoa/" + srv.opt.Version,
		}),
	})
}

// pushUnread adapts package unread to the interface of package push.
type pushUnread struct{ counter *unread.Counter }

// Unread implements push.Unread.
func (u pushUnread) Unread(r *store.Read, user who.User) (n int64, err error) {
	rooms, err := roomdb.SyncRooms(r, user.UserNum, false)
	if err != nil {
		return 0, fmt.Errorf("read the rooms of %s: %w", user.UserID, err)
	}
	places := make([]unread.Place, 0, len(rooms))
	for _, x := range rooms {
		if x.Membership != roomdb.Join || !x.Resident {
			continue
		}
		roomID, err := id.ParseRoomID(x.RoomID)
		if err != nil {
			return 0, fmt.Errorf("room number %d: %w", x.Room, err)
		}
		places = append(places, unread.Place{Room: x.Room, RoomID: roomID, Joined: x.Slot, Slot: x.RoomSlot, Totals: x.Totals, Members: x.Joined})
	}
	counters, err := u.counter.RoomCounters(r, user, places)
	for _, c := range counters {
		main, _ := c.Counts(false)
		n += main.Notifications
	}
	return n, err
}
