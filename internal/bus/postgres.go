package bus

import (
	"context"
	"encoding/base64"
	"strings"

	"stoa/internal/store"
)

// PostgreSQL channels. They belong to one database, so several servers can share a
// PostgreSQL cluster.
const (
	// HeadChannel is for store.Options.NotifyChannel.
	HeadChannel = "stoa_head"
	busChannel  = "stoa_bus"
)

// NewPostgres returns a member that uses notifications of the store's PostgreSQL. Commits
// through stores with HeadChannel and another name than this one arrive as TopicHead.
func NewPostgres(s *store.Store, name string, opt Options) (*Bus, error) {
	n, err := s.Notifier()
	if err != nil {
		return nil, err
	}
	return newBus(opt, &postgresTransport{store: s, name: name, notifier: n}), nil
}

type postgresTransport struct {
	store    *store.Store
	name     string
	notifier *store.Notifier
}

func (t *postgresTransport) listen(ctx context.Context, b *Bus, ready func()) error {
	return t.store.Listen(ctx, []string{HeadChannel, busChannel}, ready, func(channel, payload string) {
		if channel == HeadChannel {
			if at, name, _ := strings.Cut(payload, " "); name != t.name {
				b.deliver(TopicHead, []byte(at))
			}
			return
		}
		if p, err := base64.RawStdEncoding.DecodeString(payload); err == nil {
			b.receive(p)
		}
	})
}

func (t *postgresTransport) send(ctx context.Context, packets [][]byte) error {
	texts := make([]string, len(packets))
	for i, p := range packets {
		texts[i] = base64.RawStdEncoding.EncodeToString(p)
	}
	return t.notifier.Notify(ctx, busChannel, texts)
}

func (t *postgresTransport) by() string { return "the database" }

func (t *postgresTransport) close() { t.notifier.Close() }
