package mail

import (
	"time"

	"stoa/internal/email"
	"stoa/internal/store"
)

// EnqueueNotice enqueues a text as if it were a notification.
func (m *Mailer) EnqueueNotice(c *store.Change, to email.Address, text string, lifetime time.Duration) error {
	return m.enqueue(c, classNotice, letter{To: to.String(), Text: text, Language: "en"}, lifetime)
}
