package peers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/cryptohelper"
	"maunium.net/go/mautrix/crypto/verificationhelper"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"stoa/test/kit"
)

// seeWithin bounds the wait for one event, restarts of the server included.
const seeWithin = 60 * time.Second

// goClient is one mautrix-go client that syncs in the background.
type goClient struct {
	t   *testing.T
	cli *mautrix.Client
	cry *cryptohelper.CryptoHelper
	ver *verificationhelper.VerificationHelper
	log kit.Output

	mu      sync.Mutex // guards what follows
	changed chan struct{}
	events  map[id.EventID]*event.Event
	order   []id.EventID
	invites map[id.RoomID]bool
	ready   map[id.VerificationTransactionID]bool
	done    map[id.VerificationTransactionID]bool
	sas     map[id.VerificationTransactionID][]int
	failure error
}

func newGoClient(t *testing.T, url, username, password string) *goClient {
	t.Helper()
	ctx := t.Context()
	cli, err := mautrix.NewClient(url, "", "")
	if err != nil {
		t.Fatal(err)
	}
	c := &goClient{t: t, cli: cli, changed: make(chan struct{}), events: map[id.EventID]*event.Event{}, invites: map[id.RoomID]bool{},
		ready: map[id.VerificationTransactionID]bool{}, done: map[id.VerificationTransactionID]bool{}, sas: map[id.VerificationTransactionID][]int{}}
	cli.Log = zerolog.New(&c.log).Level(zerolog.DebugLevel)
	cli.DefaultHTTPRetries = 20
	cli.DefaultHTTPBackoff = 200 * time.Millisecond
	registered, err := cli.RegisterDummy(ctx, &mautrix.ReqRegister[any]{Username: username, Password: password, InitialDeviceDisplayName: "go"})
	if err != nil {
		t.Fatalf("register %s: %v", username, err)
	}
	cli.UserID, cli.DeviceID, cli.AccessToken = registered.UserID, registered.DeviceID, registered.AccessToken
	cli.StateStore = mautrix.NewMemoryStateStore()
	syncer := mautrix.NewDefaultSyncer()
	cli.Syncer = syncer
	syncer.OnEvent(cli.StateStoreSyncHandler)
	syncer.OnEvent(c.take)
	if c.cry, err = cryptohelper.NewCryptoHelper(cli, []byte("stoa"), crypto.NewMemoryStore(nil)); err != nil {
		t.Fatal(err)
	}
	c.cry.DecryptErrorCallback = func(evt *event.Event, err error) { c.fail(fmt.Errorf("decrypt %s: %w", evt.ID, err)) }
	if err := c.cry.Init(ctx); err != nil {
		t.Fatalf("start the crypto of %s: %v", username, err)
	}
	cli.Crypto = c.cry
	c.ver = verificationhelper.NewVerificationHelper(cli, c.cry.Machine(), nil, c, false, false, true)
	if err := c.ver.Init(ctx); err != nil {
		t.Fatal(err)
	}
	cli.Verification = c.ver
	c.sync()
	return c
}

// sync runs the library's own loop, which goes on by itself after a failure.
func (c *goClient) sync() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := c.cli.SyncWithContext(ctx); err != nil && !errors.Is(err, context.Canceled) {
			c.fail(fmt.Errorf("sync: %w", err))
		}
	}()
	c.t.Cleanup(func() {
		cancel()
		<-ended
		if c.t.Failed() {
			c.t.Logf("the log of %s:\n%s", c.cli.UserID, lastOf(c.log.String(), 20000))
		}
	})
}

func (c *goClient) update(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *goClient) fail(err error) { c.update(func() { c.failure = errors.Join(c.failure, err) }) }

func (c *goClient) take(_ context.Context, evt *event.Event) {
	if evt.ID == "" && evt.Type != event.StateMember {
		return
	}
	c.update(func() {
		if evt.Type == event.StateMember && evt.GetStateKey() == c.cli.UserID.String() && evt.Content.AsMember().Membership == event.MembershipInvite {
			c.invites[evt.RoomID] = true
		}
		if evt.ID == "" {
			return
		}
		if old, ok := c.events[evt.ID]; !ok || old.Type == event.EventEncrypted {
			if !ok {
				c.order = append(c.order, evt.ID)
			}
			c.events[evt.ID] = evt
		}
	})
}

// until waits for test to hold; it is asked again after every change.
func (c *goClient) until(what string, test func() bool) {
	c.t.Helper()
	deadline := time.After(seeWithin)
	for {
		c.mu.Lock()
		ok, failure, changed := test(), c.failure, c.changed
		c.mu.Unlock()
		if ok {
			return
		}
		if failure != nil {
			c.t.Fatalf("%s: waiting for %s: %v", c.cli.UserID, what, failure)
		}
		select {
		case <-changed:
		case <-deadline:
			c.t.Fatalf("%s did not see within %v: %s", c.cli.UserID, seeWithin, what)
		}
	}
}

// see waits for an event in its decrypted form.
func (c *goClient) see(eventID string) *event.Event {
	c.t.Helper()
	var found *event.Event
	c.until("event "+eventID, func() bool {
		found = c.events[id.EventID(eventID)]
		return found != nil && found.Type != event.EventEncrypted
	})
	return found
}

func (c *goClient) join(roomID id.RoomID) {
	c.t.Helper()
	c.until("an invite to "+roomID.String(), func() bool { return c.invites[roomID] })
	if _, err := c.cli.JoinRoomByID(c.t.Context(), roomID); err != nil {
		c.t.Fatalf("join %s: %v", roomID, err)
	}
	c.untilEncrypted(roomID)
}

func (c *goClient) untilEncrypted(roomID id.RoomID) {
	c.t.Helper()
	c.until("encryption of "+roomID.String(), func() bool {
		on, err := c.cli.StateStore.IsEncrypted(context.Background(), roomID)
		return err == nil && on
	})
}

// send goes on with one transaction ID until the server has answered.
func (c *goClient) send(roomID id.RoomID, eventType event.Type, content any) string {
	c.t.Helper()
	sent, err := c.cli.SendMessageEvent(c.t.Context(), roomID, eventType, content, mautrix.ReqSendEvent{TransactionID: c.cli.TxnID()})
	if err != nil {
		c.t.Fatalf("%s sends %s: %v", c.cli.UserID, eventType.Type, err)
	}
	return sent.EventID.String()
}

// The callbacks of the verification helper.

func (c *goClient) VerificationRequested(context.Context, id.VerificationTransactionID, id.UserID, id.DeviceID) {
}

func (c *goClient) VerificationReady(_ context.Context, txn id.VerificationTransactionID, _ id.DeviceID, _, _ bool, _ *verificationhelper.QRCode) {
	c.update(func() { c.ready[txn] = true })
}

func (c *goClient) VerificationCancelled(_ context.Context, txn id.VerificationTransactionID, code event.VerificationCancelCode, reason string) {
	c.fail(fmt.Errorf("verification %s was cancelled: %s %s", txn, code, reason))
}

func (c *goClient) VerificationDone(_ context.Context, txn id.VerificationTransactionID, _ event.VerificationMethod) {
	c.update(func() { c.done[txn] = true })
}

func (c *goClient) ShowSAS(_ context.Context, txn id.VerificationTransactionID, _ []rune, _ []string, decimals []int) {
	c.update(func() { c.sas[txn] = decimals })
}
