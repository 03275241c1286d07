package server

import (
	"context"

	"stoa/internal/cluster"
	"stoa/internal/reader"
)

// Status describes the instances on one database, with their readers and jobs.
type Status struct {
	cluster.Status
	Readers []reader.ReaderStatus `json:"readers"`
	Jobs    []reader.KindStatus   `json:"jobs"`
}

// Status reads the status from the store. Every instance or command gets the same.
func (s *Services) Status(ctx context.Context) (Status, error) {
	instances, err := cluster.ReadStatus(ctx, s.Store)
	if err != nil {
		return Status{}, err
	}
	work, err := reader.ReadStatus(ctx, s.Store)
	return Status{instances, work.Readers, work.Jobs}, err
}
