package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// silent takes what the client would write to standard error, past our log: each
// failure comes as an error, too.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func init() { redis.SetLogger(silent{}) }

// NewRedis makes a member that speaks by channels of a Redis server, named by a
// redis:// URL. space keeps several servers apart that share it. Who writes has to
// publish TopicHead.
func NewRedis(url, space string, opt Options) (*Bus, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("address of Redis: %w", err)
	}
	// A bus tries again by itself, and listens for longer than any answer takes.
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
	// A read of this client does not end with ctx.
	defer context.AfterFunc(ctx, func() { _ = sub.Close() })()
	defer sub.Close() // nothing more is expected of it
	// What reads from Redis does not look at ctx: a stop, or the word that the bus
	// is deaf, would come only after the time for reading.
	defer context.AfterFunc(ctx, func() { _ = sub.Close() })()
	if _, err := sub.ReceiveTimeout(ctx, sendTime); err != nil {
		return err
	}
	ready()
	for {
		// A bus hears at least itself; ctx ends when it does not.
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
	_ = t.client.Close() // all its connections are of no use any more
}
