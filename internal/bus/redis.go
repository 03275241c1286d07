package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// silent discards the messages that the client library would log to standard error. Each
// failure is also returned as an error.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func init() { redis.SetLogger(silent{}) }

// NewRedis returns a member that uses channels of the Redis server at a redis:// URL.
// space separates several servers that share it. Instances must publish TopicHead after
// their commits.
func NewRedis(url, space string, opt Options) (*Bus, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("address of Redis: %w", err)
	}
	// The bus retries itself, and its reads take longer than any answer.
	o.MaxRetries = -1
	o.DialTimeout, o.WriteTimeout, o.ReadTimeout = sendTime, sendTime, sendTime
	o.PoolSize = 2
	o.DialerRetries = 1
	o.DisableIdentity = true
	return newBus(opt, &redisTransport{client: redis.NewClient(o), channel: "stoa:" + space}), nil
}

type redisTransport struct {
	client  *redis.Client
	channel string
}

func (t *redisTransport) listen(ctx context.Context, b *Bus, ready func()) error {
	sub := t.client.Subscribe(ctx, t.channel)
	// This client's reads ignore ctx.
	defer context.AfterFunc(ctx, func() { _ = sub.Close() })()
	defer sub.Close() // no error matters any more
	// Reads of this client ignore ctx: without this, a stop or a silent connection would
	// take effect only after the read timeout.
	defer context.AfterFunc(ctx, func() { _ = sub.Close() })()
	if _, err := sub.ReceiveTimeout(ctx, sendTime); err != nil {
		return err
	}
	ready()
	for {
		// A bus receives at least its own heartbeats; without them ctx ends.
		in, err := sub.ReceiveTimeout(ctx, deafness+time.Second)
		if err != nil {
			return err
		}
		if m, ok := in.(*redis.Message); ok {
			b.receive([]byte(m.Payload))
		}
	}
}

func (t *redisTransport) send(ctx context.Context, packets [][]byte) error {
	p := t.client.Pipeline()
	for _, packet := range packets {
		p.Publish(ctx, t.channel, packet)
	}
	_, err := p.Exec(ctx)
	return err
}

func (t *redisTransport) by() string { return "the setting redis" }

func (t *redisTransport) close() {
	_ = t.client.Close() // none of its connections is used any more
}
