package store

import (
	"context"
	"errors"
)

func openPostgres(ctx context.Context, opt *Options) (engine, error) {
	return nil, errors.New("PostgreSQL is not there yet")
}
