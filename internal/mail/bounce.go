package mail

import (
	"context"
	"fmt"
	"strings"

	"stoa/internal/email"
	"stoa/internal/store"
	"stoa/internal/store/maildb"
)

const (
	// maxReason bounds the stored reason of a bounce, in bytes.
	maxReason = 500
	// MaxReported bounds the addresses of one report.
	MaxReported = 1000
)

// bounded cuts the reason of a bounce, and makes it one line of valid text.
func bounded(reason string) string {
	reason = strings.Join(strings.Fields(strings.ToValidUTF8(strings.ReplaceAll(reason, "\x00", ""), "\uFFFD")), " ")
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "")
	}
	return reason
}

// Report notes that mails to addresses came back. They get no more notifications.
func (m *Mailer) Report(ctx context.Context, addresses []email.Address, reason string) error {
	c := store.NewChange()
	for _, a := range addresses {
		maildb.AddBounce(c, a.String(), bounded(reason))
	}
	if c.Empty() {
		return nil
	}
	if _, err := m.store.Commit(ctx, c); err != nil {
		return fmt.Errorf("note mails that came back: %w", err)
	}
	m.counts.reported.Add(uint64(len(addresses)))
	return nil
}

// Works forgets in a change what came back from an address, since its owner has just shown
// that mails arrive.
func (m *Mailer) Works(c *store.Change, address email.Address) {
	maildb.DropBounce(c, address.String())
}

// Bounces returns addresses whose mails came back, the latest first.
func (m *Mailer) Bounces(ctx context.Context, limit int) (list []maildb.Bounce, err error) {
	err = m.store.Read(ctx, func(r *store.Read) (err error) {
		list, err = maildb.Bounces(r, limit)
		return err
	})
	return list, err
}

// Expire deletes what came back long ago.
func (m *Mailer) Expire(ctx context.Context) error {
	if err := store.CheckClocks(m.store); err != nil {
		return err
	}
	return m.store.Write(ctx, func(tx *store.Tx) error { return maildb.ExpireBounces(tx, keepBounces.Milliseconds()) })
}
