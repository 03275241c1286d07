package mail

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"stoa/internal/email"
	"stoa/internal/reader"
	"stoa/internal/store"
	"stoa/internal/store/maildb"
)

const (
	// sendLimit bounds the time of one attempt.
	sendLimit = 2 * time.Minute
	// The pauses after failed attempts to use the mail server.
	firstPause, longestPause = 5 * time.Second, 5 * time.Minute
	// keepBounces is how long an address counts as one whose mails come back.
	keepBounces = 90 * 24 * time.Hour
)

// Jobs are the kinds of jobs that send mails. Urgent mails have workers of their own.
func (m *Mailer) Jobs() []reader.Kind {
	kind := func(c class, atOnce int) reader.Kind {
		return reader.Kind{
			Name: c.kind(), AtOnce: atOnce, Limit: sendLimit, Backoff: reader.Backoff{First: firstPause, Most: 10 * time.Minute},
			// The end of its lifetime ends a mail, not a number of attempts.
			Tries:  1 << 30,
			Handle: func(ctx context.Context, w *reader.Work) error { return m.deliver(ctx, c, w) },
		}
	}
	return []reader.Kind{kind(classUrgent, 2), kind(classNotice, 1)}
}

// deliver tries once to hand a mail to the mail server. Nothing of the budget is taken
// before the server has let this one in.
func (m *Mailer) deliver(ctx context.Context, c class, w *reader.Work) error {
	l, err := m.open(w.Key, w.Payload)
	if err != nil {
		return err
	}
	to, err := email.Parse(l.To)
	if err != nil {
		return fmt.Errorf("the address of a mail: %w", err)
	}
	if drop, err := m.isObsolete(ctx, c, l); drop || err != nil {
		return err
	}
	if pause := m.pause(); pause > 0 {
		w.Again(jitter(pause))
		return nil
	}
	wait, err := m.wait(ctx, c)
	if err != nil {
		return err
	}
	if wait > 0 {
		m.counts.delayed.Add(1)
		w.Again(jitter(wait))
		return nil
	}
	conn, err := m.dial(ctx)
	if err != nil {
		w.Again(jitter(m.noteDown(ctx, err)))
		return nil
	}
	defer conn.close()
	if ok, err := m.take(ctx, c); !ok {
		w.Again(jitter(sendEvery))
		return err
	}
	err = conn.send(m, l)
	var refused *refusal
	switch {
	case err == nil:
		m.noteUp()
		m.counts.sent.Add(1)
		return nil
	case errors.As(err, &refused) && refused.recipient:
		m.noteUp()
		m.counts.refused.Add(1)
		m.log.Warn("a mail was refused for good", "key", w.Key, "domain", to.Domain(), "err", refused)
		maildb.AddBounce(w.Change, to.String(), bounded(refused.Error()))
		return nil
	case errors.As(err, &refused):
		w.Again(jitter(m.noteDown(ctx, err))) // the server refuses whatever this server sends
		return nil
	}
	m.counts.failed.Add(1)
	return err
}

// isObsolete reports whether a mail is not sent any more: its time is over, or it is a
// notification for an address whose mails come back.
func (m *Mailer) isObsolete(ctx context.Context, c class, l letter) (bool, error) {
	if m.clock().UnixMilli() >= l.ExpiresMS {
		m.counts.expired.Add(1)
		return true, nil
	}
	if c != classNotice {
		return false, nil
	}
	came, err := m.Bounced(ctx, l.To)
	if came {
		m.counts.bounced.Add(1)
	}
	return came, err
}

// Bounced reports whether mails to an address come back.
func (m *Mailer) Bounced(ctx context.Context, address string) (bool, error) {
	err := m.store.Read(ctx, func(r *store.Read) error {
		_, err := maildb.BounceOf(r, address)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// jitter lengthens a pause by up to a quarter, so that mails don't all come back at once.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/4+time.Millisecond) }

// pause is how long nobody on this instance tries the mail server.
func (m *Mailer) pause() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.retryAt.Sub(m.clock())
}

// noteDown notes that the mail server could not be used, and returns the pause before the
// next attempt. It logs the first failure in a row only.
func (m *Mailer) noteDown(ctx context.Context, err error) time.Duration {
	if ctx.Err() != nil { // this instance stops
		return time.Millisecond
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down == nil {
		m.log.Warn("the mail server can't be used; mails wait. 'stoa doctor mail' says more", "err", err)
	}
	m.down = err
	pause := min(firstPause<<min(m.fails, 10), longestPause)
	m.fails++
	m.retryAt = m.clock().Add(pause)
	m.counts.failed.Add(1)
	m.counts.down.Store(1)
	return pause
}

func (m *Mailer) noteUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down != nil {
		m.log.Info("the mail server can be used again")
	}
	m.down, m.fails, m.retryAt = nil, 0, time.Time{}
	m.counts.down.Store(0)
}
