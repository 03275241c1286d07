package main

import (
	"context"
	"fmt"

	"stoa/matrix/id"
)

// The data set of the scaling table: one large room, and small ones in each of which
// are the senders and members of its own.
const (
	scalingUsers       = 6000
	scalingSenders     = 64
	scalingMembers     = 60 // of a small room
	scalingConnections = 600
)

// scaling prints the table of docs/scaling.md: what one, two and three instances do
// on the cores that they share with PostgreSQL and with the clients.
func (b *bench) scaling(ctx context.Context) error {
	w, err := b.watchDatabase(ctx)
	if err != nil {
		return err
	}
	defer w.close(ctx)
	var columns [][]string
	for n := 1; n <= 3; n++ {
		column, err := b.scalingColumn(ctx, w, n)
		if err != nil {
			return err
		}
		columns = append(columns, column)
	}
	fmt.Print("\n| measured | 1 instance | 2 instances | 3 instances |\n|---|---|---|---|\n")
	for i, name := range scalingRows {
		fmt.Printf("| %s | %s | %s | %s |\n", name, columns[0][i], columns[1][i], columns[2][i])
	}
	return nil
}

var scalingRows = []string{
	"messages/s into 100 rooms, 64 senders", "p50, ms", "p99, ms",
	"CPU of the instances, ms per message", "CPU of PostgreSQL, ms per message",
	"groups/s in the stream", "messages per group", "time of a group, ms", "log of PostgreSQL, bytes per message",
	"messages/s into one room, 8 senders", "rooms made/s, 8 creators",
	"deliveries/s, 536 members of one room", "memory per waiting connection, KiB",
	"CPU of 6,000 waiting connections, % of a core", "connections to PostgreSQL, after the load", "memory of each in PostgreSQL, MiB",
}

func (b *bench) scalingColumn(ctx context.Context, w *database, n int) (out []string, err error) {
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if err := b.clearPostgres(ctx); err != nil {
		return nil, err
	}
	var rooms []id.RoomID
	d, err := b.seeded(ctx, "scaling", b.postgres, func(d *dataset) (err error) {
		if err = d.addUsers(ctx, scalingUsers); err != nil {
			return err
		}
		rooms, err = d.addRooms(ctx, scalingUsers/scalingMembers, 0, func(i int) []int {
			switch i {
			case 0:
				return all(0, scalingConnections)
			case 1: // its own are among the senders
				return all(0, scalingSenders)
			}
			return append(all(0, scalingSenders), all(i*scalingMembers, scalingMembers)...)
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	f, err := b.serveMany(b.binary, d, n)
	if err != nil {
		return nil, err
	}
	defer f.stop()
	clients, err := b.hold(f, d.tokens, scalingUsers)
	if err != nil {
		return nil, err
	}
	if err := b.warm(f, d.tokens[:scalingSenders], names(rooms)); err != nil {
		return nil, err
	}
	s, err := b.measureOn(ctx, w, f, d.tokens[:scalingSenders], names(rooms), b.seconds)
	if err != nil {
		return nil, err
	}
	say("%.0f", s.perSecond())
	say("%.1f", s.p50())
	say("%.1f", s.p99())
	say("%.2f", perThousand(s.servers, s.sent))
	say("%.2f", perThousand(s.postgres, s.sent))
	say("%.0f", s.groups/s.seconds)
	say("%.1f", float64(s.sent)/s.groups)
	say("%.1f", s.inGroups/s.groups*1000)
	say("%.0f", float64(s.written)/float64(s.sent))
	one, _, _, err := b.measureSendsTo(f, d.tokens[:8], names(rooms[:1]), b.seconds/2)
	if err != nil {
		return nil, err
	}
	say("%.0f", one.PerSecond)
	var made connectionsResult
	if _, err := runLoadProcess("connections", connectionsSpec{
		Addrs: f.addrs(), Method: "POST", Target: "/_matrix/client/v3/createRoom", Body: []byte(`{"preset":"private_chat","name":"A room"}`),
		Tokens: d.tokens[:8], Seconds: b.seconds / 2,
	}, &made); err != nil {
		return nil, err
	}
	say("%.0f", float64(made.Answers)/(b.seconds/2))
	latencies, _, err := b.deliver(f, d.tokens[scalingSenders:scalingConnections], d.tokens[:8], rooms[0].String(), 0)
	if err != nil {
		return nil, err
	}
	say("%.0f", latencies.PerSecond)
	say("%.1f", clients.perPoll)
	say("%.1f", clients.cpu.Seconds()/pollWindow.Seconds()*100)
	connections, private, err := w.connections(ctx)
	if err != nil {
		return nil, err
	}
	say("%d", connections)
	say("%.1f", float64(private)/float64(max(connections, 1))/(1<<20))
	return out, nil
}
