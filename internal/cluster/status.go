package cluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"stoa/internal/store"
)

// Status is what all instances have told of themselves.
type Status struct {
	// Shared is false if the database is SQLite: there is one instance, which
	// announces nothing.
	Shared bool `json:"shared"`
	// Head is the newest position of the stream.
	Head      int64            `json:"head"`
	Instances []InstanceStatus `json:"instances"`
}

// InstanceStatus is what one instance has told of itself with its last renewal.
type InstanceStatus struct {
	Name      string `json:"name"`
	Lease     int64  `json:"lease"`
	Address   string `json:"address"`
	Version   string `json:"version"`
	Schema    int64  `json:"schema"`
	StartedTS int64  `json:"started_ts"`
	// ExpiresMS is how long the lease still holds, in ms.
	ExpiresMS int64 `json:"expires_ms"`
	Draining  bool  `json:"draining"`
	// Rooms counts the rooms that it holds in memory.
	Rooms int64 `json:"rooms"`
	// Position is up to where it had read the stream when it last said so, LagMS how
	// far that was behind the head, in ms.
	Position int64 `json:"position"`
	LagMS    int64 `json:"lag_ms"`
	// Bus says that the wake-ups of others reach it.
	Bus bool `json:"bus_healthy"`
}

// ReadStatus reads the status of all instances from the store, whichever of them
// asks, by name.
func ReadStatus(ctx context.Context, s *store.Store) (Status, error) {
	status := Status{Instances: []InstanceStatus{}}
	live, now, err := s.LiveInstances(ctx)
	if errors.Is(err, errors.ErrUnsupported) {
		status.Head = int64(s.Head())
		return status, nil
	}
	if err != nil {
		return Status{}, err
	}
	status.Shared = true
	status.Head = int64(s.Head()) // the reading of the instances has looked
	for _, i := range live {
		status.Instances = append(status.Instances, InstanceStatus{
			Name: i.Name, Lease: i.Lease, Address: i.Address, Version: i.Version, Schema: i.Schema,
			StartedTS: i.StartedTS, ExpiresMS: i.ExpiresTS - now, Draining: i.Draining, Rooms: i.Rooms,
			Position: int64(i.Position), Bus: i.Bus,
			LagMS: (time.Duration(i.Head-i.Position) * time.Microsecond).Milliseconds(),
		})
	}
	slices.SortFunc(status.Instances, func(a, b InstanceStatus) int { return strings.Compare(a.Name, b.Name) })
	return status, nil
}
