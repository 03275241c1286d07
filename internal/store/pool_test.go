package store_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"stoa/internal/store/storetest"
)

func TestOpen_takes_the_size_of_the_pool_from_the_address(t *testing.T) {
	t.Parallel()
	if os.Getenv("ENGINE") == "sqlite" {
		return
	}
	s := storetest.OpenURL(t, storetest.URL(t, "postgres")+"&pool_max_conns=3")
	for range 3 {
		r, err := s.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if r, err := s.Snapshot(ctx); err == nil {
		r.Close()
		t.Error("there was one more connection")
	} else if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	// What the stream and commits need is beside the pool.
	if _, err := s.Barrier(t.Context(), nil); err != nil {
		t.Error(err)
	}
}
