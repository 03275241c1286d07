package main

import (
	"context"
	"fmt"
)

// roomListBody is what a client on matrix-rust-sdk asks for when it starts: the first twenty rooms.
const roomListBody = `{"conn_id":"room-list","lists":{"all_rooms":{"ranges":[[0,19]],"timeline_limit":1,"filters":{},"required_state":[
	["m.room.name",""],["m.room.encryption",""],["m.room.member","$LAZY"],["m.room.member","$ME"],["m.room.topic",""],["m.room.avatar",""],
	["m.room.canonical_alias",""],["m.room.power_levels",""],["org.matrix.msc3401.call.member","*"],["m.room.join_rules",""],["m.room.tombstone",""],
	["m.room.create",""],["m.room.history_visibility",""],["io.element.functional_members",""],["m.space.parent","*"],["m.space.child","*"],
	["org.matrix.msc3672.beacon_info","*"]]}},
	"extensions":{"account_data":{"enabled":true},"receipts":{"enabled":true,"rooms":["*"]},"typing":{"enabled":true}}}`

// slidingSync measures the first answer of a sliding sync: the very first, when nothing of the user is in memory, and the median of others
// after it.
func (b *bench) slidingSync(ctx context.Context) error {
	for _, c := range []struct {
		rooms, members int
		target         float64 // ms
	}{{1000, 10, 50}, {10_000, 3, 150}} {
		name := fmt.Sprintf("sliding.%d", c.rooms)
		d, err := b.seeded(ctx, name, "", func(d *dataset) error {
			if err := d.addUsers(ctx, c.members); err != nil {
				return err
			}
			_, err := d.addRooms(ctx, c.rooms, 5, func(int) []int { return all(0, c.members) })
			return err
		})
		if err != nil {
			return err
		}
		p, err := b.serve(d)
		if err != nil {
			return err
		}
		var r getResult
		client, err := runLoadProcess("get", getSpec{
			Addr: p.addr, Token: d.tokens[0], Times: 11, Body: roomListBody,
			Target: "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync",
		}, &r)
		p.Stop()
		if err != nil {
			return err
		}
		progress("%s: an answer of %d bytes", name, r.Bytes)
		figure{name + ".cold", r.FirstMS, "ms", 0, metIf(r.FirstMS <= c.target/b.scale), client}.print()
		figure{name, r.MedianMS, "ms", 0, metIf(r.MedianMS <= c.target/b.scale), client}.print()
	}
	return nil
}
