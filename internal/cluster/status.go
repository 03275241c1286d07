package cluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"stoa/internal/store"
)

// Status is the status of all instances, as they have reported it.
type Status struct {
	// Shared is false on SQLite, where the one instance reports nothing.
	Shared bool `json:"shared"`
	// Head is the newest position of the stream.
	Head      int64            `json:"head"`
	Instances []InstanceStatus `json:"instances"`
}

// InstanceStatus is what one instance reported at its last renewal.
type InstanceStatus struct {
	Name      string `json:"name"`
	Lease     int64  `json:"lease"`
	Address   string `json:"address"`
	Version   string `json:"version"`
	Schema    int64  `json:"schema"`
	StartedTS int64  `json:"started_ts"`
	// ExpiresMS is the time until the lease expires, in ms.
	ExpiresMS int64 `json:"expires_ms"`
	Draining  bool  `json:"draining"`
	// Rooms counts its rooms in memory.
	Rooms int64 `json:"rooms"`
	// Position is the position up to which it had read the stream, LagMS the age of that
	// relative to the head, in ms.
	Position int64 `json:"position"`
	LagMS    int64 `json:"lag_ms"`
	// Bus says that it receives the wake-ups of other instances.
	Bus bool `json:"bus_healthy"`
}

// ReadStatus reads the status of all instances from the store, sorted by name.
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
	status.Head = int64(s.Head()) // reading the instances has updated it
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
