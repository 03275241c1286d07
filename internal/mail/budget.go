package mail

import (
	"context"
	"errors"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/maildb"
)

// class is the priority of a mail.
type class int

const (
	classUrgent class = iota // somebody waits for it
	classNotice              // notifications
)

func (c class) kind() string {
	if c == classNotice {
		return "mail.notice"
	}
	return "mail.urgent"
}

// One mail a second, after a burst. Half of the burst and a quarter of the budget are kept
// for urgent mails, so that these never wait for others.
const (
	sendEvery    = time.Second
	sendBurst    = 4
	reserveBurst = sendBurst / 2
	reservePart  = 4
)

// pace is the bucket of the speed of sending.
func pace(c class) maildb.Bucket {
	b := maildb.Bucket{Name: "pace", EveryMS: sendEvery.Milliseconds(), Burst: sendBurst}
	if c == classNotice {
		b.Reserve = reserveBurst
	}
	return b
}

// period is the bucket of the budget in the settings.
func (m *Mailer) period(c class) maildb.Bucket {
	n := m.opt.BudgetCount
	b := maildb.Bucket{Name: "budget", EveryMS: max(1, m.opt.BudgetPer.Milliseconds()/n), Burst: n}
	if c == classNotice {
		b.Reserve = (n + reservePart - 1) / reservePart
	}
	return b
}

func (m *Mailer) buckets(c class) []maildb.Bucket {
	if m.opt.BudgetCount == 0 {
		return nil
	}
	return []maildb.Bucket{pace(c), m.period(c)}
}

// wait is the time until the budget allows a mail; 0 = now.
func (m *Mailer) wait(ctx context.Context, c class) (longest time.Duration, err error) {
	buckets := m.buckets(c)
	if len(buckets) == 0 {
		return 0, nil
	}
	err = m.store.Read(ctx, func(r *store.Read) error {
		longest = 0
		for _, b := range buckets {
			_, ms, err := maildb.Level(r, b)
			if err != nil {
				return err
			}
			longest = max(longest, time.Duration(ms)*time.Millisecond)
		}
		return nil
	})
	return longest, err
}

// take takes a mail from the budget. It reports false if another instance was faster.
func (m *Mailer) take(ctx context.Context, c class) (bool, error) {
	buckets := m.buckets(c)
	if len(buckets) == 0 {
		return true, nil
	}
	err := m.store.Write(ctx, func(tx *store.Tx) error { return maildb.Take(tx, buckets...) })
	if errors.Is(err, maildb.ErrSpent) {
		return false, nil
	}
	return err == nil, err
}
