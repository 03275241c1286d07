package server

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestHousekeepingGoesOnAfterAFailure(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	done := make(chan struct{}, 100)
	h := housekeeping{every: time.Millisecond, log: slog.New(slog.NewTextHandler(&log, nil)), chores: []chore{
		{"broken", func(context.Context) error { return errors.New("no room") }},
		{"good", func(context.Context) error { done <- struct{}{}; return nil }},
	}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- h.run(ctx) }()
	<-done
	<-done
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "chore=broken") || !strings.Contains(log.String(), "no room") {
		t.Errorf("the log does not tell of the failure: %s", log.String())
	}
}
