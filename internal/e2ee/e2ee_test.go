package e2ee_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"stoa/internal/e2ee"
	"stoa/internal/store"
	"stoa/internal/store/keydb"
	"stoa/internal/store/storetest"
	"stoa/internal/store/userdb"
	"stoa/internal/who"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
	"stoa/matrix/signing"
)

// fixture is a store with users and their keys.
type fixture struct {
	t     *testing.T
	store *store.Store
	keys  *e2ee.Keys
}

func onBothEngines(t *testing.T, f func(h *fixture)) {
	t.Helper()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		f(newFixture(t, open()))
	})
}

func newFixture(t *testing.T, s *store.Store) *fixture {
	server, err := id.ParseServerName("stoa.test")
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{t: t, store: s, keys: e2ee.New(e2ee.Options{Store: s, ServerName: server, Clock: time.Now, Log: slog.New(slog.DiscardHandler)})}
}

// device makes a device, and its user if need be.
func (h *fixture) device(userID, deviceID string) who.Device {
	h.t.Helper()
	user, err := id.ParseUserID(userID)
	if err != nil {
		h.t.Fatal(err)
	}
	nums, err := h.store.InternUsers(h.t.Context(), func(string) bool { return true }, userID)
	if err != nil {
		h.t.Fatal(err)
	}
	c := store.NewChange()
	userdb.PutDevice(c, nums[0], userdb.Device{ID: deviceID, CreatedTS: 1})
	h.commit(c)
	return who.Device{User: who.User{UserID: user, UserNum: nums[0]}, DeviceID: id.DeviceID(deviceID)}
}

func (h *fixture) commit(c *store.Change) {
	h.t.Helper()
	if _, err := h.store.Commit(h.t.Context(), c); err != nil {
		h.t.Fatal(err)
	}
}

func (h *fixture) read(f func(*store.Read) error) {
	h.t.Helper()
	if err := h.store.Read(h.t.Context(), f); err != nil {
		h.t.Fatal(err)
	}
}

func (h *fixture) upload(d who.Device, up e2ee.Upload) e2ee.Counts {
	h.t.Helper()
	counts, err := h.keys.Upload(h.t.Context(), d, up)
	if err != nil {
		h.t.Fatal(err)
	}
	return counts
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var m *mxerr.Error
	if !errors.As(err, &m) || m.Code != code {
		t.Fatalf("got %v, want %s", err, code)
	}
}

func oneTimeKeys(from, to int) e2ee.Object {
	keys := e2ee.Object{}
	for i := from; i < to; i++ {
		keys[fmt.Sprintf("signed_curve25519:K%04d", i)] = json.RawMessage(fmt.Sprintf(`{"key":"public%d","signatures":{}}`, i))
	}
	return keys
}

func (h *fixture) claim(d who.Device) string {
	h.t.Helper()
	claimed, err := h.keys.Claim(context.WithoutCancel(h.t.Context()), map[string]map[string]string{d.UserID.String(): {string(d.DeviceID): "signed_curve25519"}})
	if err != nil {
		h.t.Error(err)
		return ""
	}
	for name := range claimed.OneTimeKeys[d.UserID.String()][string(d.DeviceID)] {
		return name
	}
	return ""
}

func TestClaimGivesEachKeyOnce(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		bob := h.device("@bob:stoa.test", "BOB")
		const keys, claimers = 60, 8
		h.upload(bob, e2ee.Upload{OneTimeKeys: oneTimeKeys(0, keys)})
		var mu sync.Mutex
		times := map[string]int{}
		var wg sync.WaitGroup
		other := newFixture(h.t, h.store) // a second instance shares no lock with the first
		for i := range claimers {
			wg.Go(func() {
				for range keys / claimers * 2 {
					who := h
					if i%2 == 1 {
						who = other
					}
					if name := who.claim(bob); name != "" {
						mu.Lock()
						times[name]++
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		if len(times) != keys {
			h.t.Errorf("%d different keys were given out, want %d", len(times), keys)
		}
		for name, n := range times {
			if n != 1 {
				h.t.Errorf("%s was given out %d times", name, n)
			}
		}
		h.read(func(r *store.Read) error {
			counts, err := h.keys.Counts(r, bob)
			if counts["signed_curve25519"] != 0 {
				h.t.Errorf("%d keys are left", counts["signed_curve25519"])
			}
			return err
		})
	})
}

func TestClaimGoesInOrderOfUpload(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		bob := h.device("@bob:stoa.test", "BOB")
		h.upload(bob, e2ee.Upload{OneTimeKeys: oneTimeKeys(5, 6)})
		h.upload(bob, e2ee.Upload{OneTimeKeys: oneTimeKeys(1, 3)})
		for _, want := range []string{"K0005", "K0001", "K0002", ""} {
			if got := strings.TrimPrefix(h.claim(bob), "signed_curve25519:"); got != want {
				h.t.Fatalf("claimed %q, want %q", got, want)
			}
		}
	})
}

func TestUpload(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		bob := h.device("@bob:stoa.test", "BOB")
		ctx := h.t.Context()
		if counts := h.upload(bob, e2ee.Upload{OneTimeKeys: oneTimeKeys(0, 3)}); counts["signed_curve25519"] != 3 {
			h.t.Errorf("counts are %v", counts)
		}
		if counts := h.upload(bob, e2ee.Upload{OneTimeKeys: oneTimeKeys(1, 4)}); counts["signed_curve25519"] != 4 {
			h.t.Errorf("an overlapping upload gives %v", counts)
		}
		_, err := h.keys.Upload(ctx, bob, e2ee.Upload{OneTimeKeys: e2ee.Object{"signed_curve25519:K0001": json.RawMessage(`{"key":"other"}`)}})
		wantCode(h.t, err, mxerr.CodeInvalidParam)

		first := h.claim(bob)
		if counts := h.upload(bob, e2ee.Upload{OneTimeKeys: oneTimeKeys(0, 3)}); counts["signed_curve25519"] != 3 {
			h.t.Errorf("after a repeated upload of the claimed key %s: %v", first, counts)
		}
		_, err = h.keys.Upload(ctx, bob, e2ee.Upload{OneTimeKeys: oneTimeKeys(10, 509)})
		wantCode(h.t, err, mxerr.CodeInvalidParam)
		_, err = h.keys.Upload(ctx, bob, e2ee.Upload{OneTimeKeys: e2ee.Object{"nocolon": json.RawMessage(`"x"`)}})
		wantCode(h.t, err, mxerr.CodeInvalidParam)
		_, err = h.keys.Upload(ctx, bob, e2ee.Upload{OneTimeKeys: e2ee.Object{"curve25519:A": json.RawMessage(`[]`)}})
		wantCode(h.t, err, mxerr.CodeBadJSON)
		_, err = h.keys.Upload(ctx, bob, e2ee.Upload{DeviceKeys: json.RawMessage(`{"user_id":"@eve:stoa.test","device_id":"BOB","algorithms":[],"keys":{},"signatures":{}}`)})
		wantCode(h.t, err, mxerr.CodeInvalidParam)
		_, err = h.keys.Upload(ctx, bob, e2ee.Upload{DeviceKeys: json.RawMessage(`{"user_id":"@bob:stoa.test"}`)})
		wantCode(h.t, err, mxerr.CodeBadJSON)
	})
}

func TestFallbackKeyIsUsedWhenNoneIsLeft(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		bob := h.device("@bob:stoa.test", "BOB")
		unused := func() (names []string) {
			h.read(func(r *store.Read) (err error) { names, err = h.keys.UnusedFallbackAlgorithms(r, bob); return err })
			return names
		}
		h.upload(bob, e2ee.Upload{OneTimeKeys: oneTimeKeys(0, 1), FallbackKeys: e2ee.Object{"signed_curve25519:F1": json.RawMessage(`{"key":"fall","fallback":true}`)}})
		if got := h.claim(bob); got != "signed_curve25519:K0000" {
			h.t.Fatalf("first claim gives %q", got)
		}
		if got := unused(); len(got) != 1 {
			h.t.Errorf("unused before: %v", got)
		}
		for range 2 {
			if got := h.claim(bob); got != "signed_curve25519:F1" {
				h.t.Fatalf("a claim without one-time keys gives %q", got)
			}
		}
		if got := unused(); len(got) != 0 {
			h.t.Errorf("unused after use: %v", got)
		}
		h.upload(bob, e2ee.Upload{FallbackKeys: e2ee.Object{"signed_curve25519:F2": json.RawMessage(`{"key":"fall2","fallback":true}`)}})
		if got := unused(); len(got) != 1 {
			h.t.Errorf("unused after a new one: %v", got)
		}
	})
}

// testKey is a client's signing key: named by a device or by its public half.
type testKey struct {
	name    string
	private ed25519.PrivateKey
}

func newKey(seed string) testKey {
	bytes := make([]byte, ed25519.SeedSize)
	copy(bytes, seed)
	k := testKey{private: ed25519.NewKeyFromSeed(bytes)}
	k.name = k.public()
	return k
}

func (k testKey) public() string {
	return signing.Base64(k.private.Public().(ed25519.PublicKey)).String()
}

func (k testKey) id() string { return "ed25519:" + k.name }

// person has cross-signing keys and a device with keys.
type person struct {
	who.Device
	master, self, user, own testKey
}

func (h *fixture) person(userID, deviceID string) person {
	p := person{Device: h.device(userID, deviceID)}
	p.master, p.self, p.user, p.own = newKey(userID+"m"), newKey(userID+"s"), newKey(userID+"u"), newKey(deviceID)
	p.own.name = deviceID
	h.upload(p.Device, e2ee.Upload{DeviceKeys: p.deviceKeys()})
	return p
}

func (p person) deviceKeys() json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"user_id":%q,"device_id":%q,"algorithms":["m.olm.v1.curve25519-aes-sha2"],"keys":{%q:%q},"signatures":{}}`,
		p.UserID, p.DeviceID, p.own.id(), p.own.public()))
}

func (p person) identity(usage string, key testKey) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"user_id":%q,"usage":[%q],"keys":{%q:%q}}`, p.UserID, usage, key.id(), key.public()))
}

// sign replaces the signatures of an object by one of this person.
func (p person) sign(t *testing.T, object json.RawMessage, key testKey) json.RawMessage {
	t.Helper()
	var o e2ee.Object
	if err := json.Unmarshal(object, &o); err != nil {
		t.Fatal(err)
	}
	delete(o, "signatures")
	message, err := canonicaljson.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	signature := signing.Base64(ed25519.Sign(key.private, message)).String()
	o["signatures"] = json.RawMessage(fmt.Sprintf(`{%q:{%q:%q}}`, p.UserID, key.id(), signature))
	out, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (p person) crossSigning(t *testing.T) e2ee.CrossSigning {
	return e2ee.CrossSigning{
		MasterKey:      p.identity("master", p.master),
		SelfSigningKey: p.sign(t, p.identity("self_signing", p.self), p.master),
		UserSigningKey: p.sign(t, p.identity("user_signing", p.user), p.master),
	}
}

// proof is what says that a user has authenticated, or nil.
func proof(proved bool) func(*store.Read, *store.Change) error {
	if !proved {
		return nil
	}
	return func(*store.Read, *store.Change) error { return nil }
}

func TestCrossSigningUpload(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		alice := h.person("@alice:stoa.test", "ALICE")
		keys := alice.crossSigning(h.t)
		err := h.keys.UploadCrossSigning(ctx, alice.Device, e2ee.CrossSigning{SelfSigningKey: keys.SelfSigningKey}, nil)
		wantCode(h.t, err, mxerr.CodeMissingParam)
		err = h.keys.UploadCrossSigning(ctx, alice.Device, e2ee.CrossSigning{MasterKey: keys.MasterKey, SelfSigningKey: alice.sign(h.t, alice.identity("self_signing", alice.self), alice.user)}, nil)
		wantCode(h.t, err, mxerr.CodeInvalidSignature)
		err = h.keys.UploadCrossSigning(ctx, alice.Device, e2ee.CrossSigning{MasterKey: alice.identity("self_signing", alice.master)}, nil)
		wantCode(h.t, err, mxerr.CodeInvalidParam)

		upload := func(what string, up e2ee.CrossSigning, proved bool, want error) {
			if err := h.keys.UploadCrossSigning(ctx, alice.Device, up, proof(proved)); !errors.Is(err, want) {
				h.t.Errorf("%s: got %v, want %v", what, err, want)
			}
		}
		upload("the first keys", keys, false, nil)
		upload("the same keys again", keys, false, nil)
		other := alice
		other.master = newKey("another")
		upload("another master key", other.crossSigning(h.t), false, e2ee.ErrNeedsAuth)
		upload("another master key, with a proof", other.crossSigning(h.t), true, nil)
		upload("the first keys again", keys, false, e2ee.ErrNeedsAuth)
	})
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		alice, bob := h.person("@alice:stoa.test", "ALICE"), h.person("@bob:stoa.test", "BOB")
		for _, p := range []person{alice, bob} {
			if err := h.keys.UploadCrossSigning(ctx, p.Device, p.crossSigning(h.t), proof(false)); err != nil {
				h.t.Fatal(err)
			}
		}
		bobMaster := bob.master.public()
		failures, err := h.keys.UploadSignatures(ctx, alice.Device, map[string]e2ee.Object{
			"@alice:stoa.test": {"ALICE": alice.sign(h.t, alice.deviceKeys(), alice.self)},
			"@bob:stoa.test":   {bobMaster: alice.sign(h.t, bob.identity("master", bob.master), alice.user)},
		})
		if err != nil || len(failures) != 0 {
			h.t.Fatalf("failures %v, %v", failures, err)
		}
		for name, object := range map[string]json.RawMessage{
			"by the wrong key":     alice.sign(h.t, bob.identity("master", bob.master), alice.self),
			"on something else":    alice.sign(h.t, json.RawMessage(`{"user_id":"@bob:stoa.test"}`), alice.user),
			"with a bad signature": json.RawMessage(strings.Replace(string(alice.sign(h.t, bob.identity("master", bob.master), alice.user)), alice.user.public()+`":"`, alice.user.public()+`":"AAAA`, 1)),
		} {
			failures, err := h.keys.UploadSignatures(ctx, alice.Device, map[string]e2ee.Object{"@bob:stoa.test": {bobMaster: object}})
			if err != nil || failures["@bob:stoa.test"][bobMaster] == nil {
				h.t.Errorf("a signature %s is accepted: %v %v", name, failures, err)
			}
		}

		query := func(caller person) e2ee.Queried {
			q, err := h.keys.Query(ctx, caller.Device, map[string][]string{"@alice:stoa.test": nil, "@bob:stoa.test": nil, "@nobody:stoa.test": nil})
			if err != nil {
				h.t.Fatal(err)
			}
			return q
		}
		const byAlice = `"@alice:stoa.test":{`
		if q := query(alice); !strings.Contains(string(q.MasterKeys["@bob:stoa.test"]), byAlice) || q.UserSigningKeys["@bob:stoa.test"] != nil || q.UserSigningKeys["@alice:stoa.test"] == nil {
			h.t.Errorf("alice sees %s", q.MasterKeys["@bob:stoa.test"])
		}
		q := query(bob)
		if strings.Contains(string(q.MasterKeys["@bob:stoa.test"]), byAlice) {
			h.t.Error("bob sees alice's signature on his master key")
		}
		if !strings.Contains(string(q.DeviceKeys["@alice:stoa.test"]["ALICE"]), byAlice) {
			h.t.Error("bob does not see alice's signature on her device")
		}
		if q.DeviceKeys["@nobody:stoa.test"] != nil {
			h.t.Error("a user without keys is in the answer")
		}
	})
}

func TestToDevice(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		alice, phone, laptop := h.device("@alice:stoa.test", "ALICE"), h.device("@bob:stoa.test", "PHONE"), h.device("@bob:stoa.test", "LAPTOP")
		send := func(txnID, device string, n int) {
			err := h.keys.SendToDevice(ctx, alice, "m.test", txnID, map[string]e2ee.Object{"@bob:stoa.test": {device: json.RawMessage(fmt.Sprintf(`{"n":%d}`, n))}, "@nobody:stoa.test": {"*": json.RawMessage(`{}`)}})
			if err != nil {
				h.t.Fatal(err)
			}
		}
		waiting := func(d who.Device, after store.Slot) (bodies []string, upTo store.Slot) {
			h.read(func(r *store.Read) error {
				messages, to, _, err := h.keys.ToDevice(r, d, after, 100)
				for _, m := range messages {
					bodies = append(bodies, string(m))
				}
				upTo = to
				return err
			})
			return bodies, upTo
		}
		send("1", "PHONE", 1)
		send("1", "PHONE", 1) // sent again
		send("2", "*", 2)
		send("3", "GONE", 3)
		bodies, upTo := waiting(phone, 0)
		if len(bodies) != 2 || bodies[0] != `{"content":{"n":1},"sender":"@alice:stoa.test","type":"m.test"}` {
			h.t.Fatalf("the phone gets %v", bodies)
		}
		if again, _ := waiting(phone, 0); len(again) != 2 {
			h.t.Errorf("the same token gives %v", again)
		}
		if unclaimed, _ := waiting(laptop, 0); len(unclaimed) != 1 {
			h.t.Errorf("the laptop gets %v", unclaimed)
		}
		send("4", "PHONE", 4)
		if err := h.keys.Acknowledge(ctx, phone, upTo); err != nil {
			h.t.Fatal(err)
		}
		if left, _ := waiting(phone, 0); len(left) != 1 || !strings.Contains(left[0], `"n":4`) {
			h.t.Errorf("after the acknowledgement: %v", left)
		}
		if unclaimed, _ := waiting(laptop, 0); len(unclaimed) != 1 {
			h.t.Errorf("the laptop's are gone too: %v", unclaimed)
		}
	})
}

func TestBackup(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		alice := h.device("@alice:stoa.test", "ALICE")
		auth := json.RawMessage(`{"public_key":"x"}`)
		_, err := h.keys.Backup(ctx, alice, "")
		wantCode(h.t, err, mxerr.CodeNotFound)
		first, err := h.keys.CreateBackup(ctx, alice, "m.alg", auth)
		if err != nil {
			h.t.Fatal(err)
		}
		session := func(index, forwarded int64, verified bool) map[string]e2ee.RoomKeyBackup {
			return map[string]e2ee.RoomKeyBackup{"!r": {Sessions: map[string]e2ee.KeyBackupData{"s": {FirstMessageIndex: &index, ForwardedCount: &forwarded, IsVerified: &verified,
				SessionData: json.RawMessage(fmt.Sprintf(`{"i":%d,"f":%d,"v":%v}`, index, forwarded, verified))}}}}
		}
		etag := ""
		for _, step := range []struct {
			index, forwarded int64
			verified, wins   bool
		}{{5, 5, false, true}, {5, 5, false, false}, {6, 0, false, false}, {4, 9, false, true}, {4, 8, false, true}, {9, 9, true, true}, {1, 1, false, false}, {8, 9, true, true}} {
			state, err := h.keys.PutBackup(ctx, alice, first, session(step.index, step.forwarded, step.verified))
			if err != nil || state.Count != 1 {
				h.t.Fatalf("%+v: %+v %v", step, state, err)
			}
			if won := state.ETag != etag; won != step.wins {
				h.t.Errorf("%+v: replaced %v", step, won)
			}
			etag = state.ETag
		}
		rooms, err := h.keys.BackedUp(ctx, alice, first, "", "")
		if err != nil || *rooms["!r"].Sessions["s"].FirstMessageIndex != 8 {
			h.t.Errorf("%+v %v", rooms, err)
		}
		second, err := h.keys.CreateBackup(ctx, alice, "m.alg", auth)
		if err != nil || second == first {
			h.t.Fatalf("%q after %q: %v", second, first, err)
		}
		_, err = h.keys.PutBackup(ctx, alice, first, session(0, 0, true))
		wantCode(h.t, err, mxerr.CodeWrongRoomKeysVersion)
		if err := h.keys.DeleteBackup(ctx, alice, second); err != nil {
			h.t.Fatal(err)
		}
		_, err = h.keys.Backup(ctx, alice, second)
		wantCode(h.t, err, mxerr.CodeNotFound)
		if b, err := h.keys.Backup(ctx, alice, ""); err != nil || b.Version != first || b.Count != 1 {
			h.t.Errorf("%+v %v", b, err)
		}
		if state, err := h.keys.DeleteBackedUp(ctx, alice, first, "!r", ""); err != nil || state.Count != 0 || state.ETag == etag {
			h.t.Errorf("%+v %v", state, err)
		}
		wantCode(h.t, h.keys.UpdateBackup(ctx, alice, first, "", "m.other", auth), mxerr.CodeInvalidParam)
	})
}

// A client that does not know whether its upload arrived sends it again.
func TestFallbackKeySentAgainStaysUsed(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		bob := h.device("@bob:stoa.test", "BOB")
		key := func(text string) e2ee.Upload {
			return e2ee.Upload{FallbackKeys: e2ee.Object{"signed_curve25519:F": json.RawMessage(`{"key":"` + text + `","fallback":true}`)}}
		}
		unused := func() (algorithms []string) {
			h.read(func(r *store.Read) (err error) {
				algorithms, err = h.keys.UnusedFallbackAlgorithms(r, bob)
				return err
			})
			return algorithms
		}
		h.upload(bob, key("x"))
		if _, err := h.keys.Claim(h.t.Context(), map[string]map[string]string{"@bob:stoa.test": {"BOB": "signed_curve25519"}}); err != nil {
			h.t.Fatal(err)
		}
		h.upload(bob, key("x"))
		if got := unused(); len(got) != 0 {
			h.t.Errorf("unused again: %v", got)
		}
		h.upload(bob, key("y"))
		if got := unused(); len(got) != 1 {
			h.t.Errorf("a new key counts as used: %v", got)
		}
	})
}

// What a device says of itself wins over what was said of it before.
func TestSignaturesOfAnUploadWinOverStoredOnes(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		alice := h.person("@alice:stoa.test", "ALICE")
		if err := h.keys.UploadCrossSigning(ctx, alice.Device, alice.crossSigning(h.t), nil); err != nil {
			h.t.Fatal(err)
		}
		signed := alice.sign(h.t, alice.deviceKeys(), alice.self)
		failures, err := h.keys.UploadSignatures(ctx, alice.Device, map[string]e2ee.Object{"@alice:stoa.test": {"ALICE": signed}})
		if err != nil || len(failures) > 0 {
			h.t.Fatal(failures, err)
		}
		signature := func() string {
			q, err := h.keys.Query(ctx, alice.Device, map[string][]string{"@alice:stoa.test": nil})
			if err != nil {
				h.t.Fatal(err)
			}
			var o struct {
				Signatures map[string]map[string]string `json:"signatures"`
			}
			if err := json.Unmarshal(q.DeviceKeys["@alice:stoa.test"]["ALICE"], &o); err != nil {
				h.t.Fatal(err)
			}
			return o.Signatures["@alice:stoa.test"][alice.self.id()]
		}
		before := signature()
		if before == "" {
			h.t.Fatal("the signature is not there")
		}
		h.upload(alice.Device, e2ee.Upload{DeviceKeys: alice.deviceKeys()})
		if got := signature(); got != before {
			h.t.Errorf("the same keys, sent again, have lost a signature: %q", got)
		}
		// Other algorithms, signed again by the same key.
		changed := json.RawMessage(strings.Replace(string(alice.deviceKeys()), "m.olm.v1", "m.olm.v2", 1))
		again := alice.sign(h.t, changed, alice.self)
		h.upload(alice.Device, e2ee.Upload{DeviceKeys: again})
		if got := signature(); got == before || !strings.Contains(string(again), got) {
			h.t.Errorf("the stored signature %q hides that of %s", got, again)
		}
		// Other algorithms, and no signature: the old one would not fit.
		h.upload(alice.Device, e2ee.Upload{DeviceKeys: json.RawMessage(strings.Replace(string(alice.deviceKeys()), "m.olm.v1", "m.olm.v3", 1))})
		if got := signature(); got != "" {
			h.t.Errorf("a signature on other keys is shown: %q", got)
		}
	})
}

// Signatures by keys that a user has no more would add up.
func TestSignaturesDoNotAddUp(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		alice, bob := h.person("@alice:stoa.test", "ALICE"), h.person("@bob:stoa.test", "BOB")
		if err := h.keys.UploadCrossSigning(ctx, bob.Device, bob.crossSigning(h.t), nil); err != nil {
			h.t.Fatal(err)
		}
		sign := func(user, key string, object json.RawMessage) {
			h.t.Helper()
			failures, err := h.keys.UploadSignatures(ctx, alice.Device, map[string]e2ee.Object{user: {key: object}})
			if err != nil || len(failures) != 0 {
				h.t.Fatal(failures, err)
			}
		}
		for i := range 3 {
			self, user := newKey(fmt.Sprint("self", i)), newKey(fmt.Sprint("user", i))
			alice.self, alice.user = self, user
			if err := h.keys.UploadCrossSigning(ctx, alice.Device, alice.crossSigning(h.t), proof(true)); err != nil {
				h.t.Fatal(err)
			}
			sign("@alice:stoa.test", "ALICE", alice.sign(h.t, alice.deviceKeys(), self))
			sign("@bob:stoa.test", bob.master.public(), alice.sign(h.t, bob.identity("master", bob.master), user))
			sign("@alice:stoa.test", alice.master.public(), alice.sign(h.t, alice.identity("master", alice.master), alice.own))
		}
		count := func() (n int) {
			h.read(func(r *store.Read) error {
				rows, err := keydb.KeySignatures(r, []store.UserNum{alice.UserNum, bob.UserNum}, alice.UserNum)
				n = len(rows)
				return err
			})
			return n
		}
		if n := count(); n != 3 {
			h.t.Errorf("%d signatures are stored, want one of each kind", n)
		}
		c := store.NewChange()
		keydb.DeleteKeysOfDevice(c, alice.UserNum, "ALICE")
		h.commit(c)
		if n := count(); n != 1 {
			h.t.Errorf("%d signatures are stored, want that on bob's key alone", n)
		}
	})
}

// Clients may encrypt their backups as they like.
func TestBackupOfAnyAlgorithm(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		bob := h.device("@bob:stoa.test", "BOB")
		auth := json.RawMessage(`{"x":[1],"signatures":{}}`)
		version, err := h.keys.CreateBackup(ctx, bob, "org.example.backup.v9", auth)
		if err != nil {
			h.t.Fatal(err)
		}
		if b, err := h.keys.Backup(ctx, bob, version); err != nil || b.Algorithm != "org.example.backup.v9" || string(b.AuthData) != string(auth) {
			h.t.Errorf("got %+v, %v", b, err)
		}
	})
}

func TestBackupBounds(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		alice := h.device("@alice:stoa.test", "ALICE")
		create := func() (string, error) {
			return h.keys.CreateBackup(ctx, alice, "m.alg", json.RawMessage(`{"public_key":"x"}`))
		}
		var last string
		for i := range 100 {
			var err error
			if last, err = create(); err != nil {
				h.t.Fatal(i, err)
			}
		}
		_, err := create()
		wantCode(h.t, err, mxerr.CodeUserLimitExceeded)
		for range 120 { // deleted versions are not kept for ever
			if err := h.keys.DeleteBackup(ctx, alice, last); err != nil {
				h.t.Fatal(err)
			}
			if last, err = create(); err != nil {
				h.t.Fatal(err)
			}
		}
		wantCode(h.t, h.keys.DeleteBackup(ctx, alice, "100"), mxerr.CodeNotFound)
		if err := h.keys.DeleteBackup(ctx, alice, "219"); err != nil {
			h.t.Errorf("a version that was deleted a moment ago: %v", err)
		}

		put := func(session string, size int) error {
			zero, verified := int64(0), true
			data := json.RawMessage(`{"x":"` + strings.Repeat("x", size) + `"}`)
			_, err := h.keys.PutBackup(ctx, alice, last, map[string]e2ee.RoomKeyBackup{"!r": {Sessions: map[string]e2ee.KeyBackupData{
				session: {FirstMessageIndex: &zero, ForwardedCount: &zero, IsVerified: &verified, SessionData: data},
			}}})
			return err
		}
		wantCode(h.t, put("large", 9_000), mxerr.CodeTooLarge)
		if err := put("one", 1_000); err != nil {
			h.t.Fatal(err)
		}
		c := store.NewChange()
		keydb.SetBackupCounts(c, alice.UserNum, 1, 1, 499_999)
		h.commit(c)
		wantCode(h.t, put("two", 1_000), mxerr.CodeTooLarge)
		if err := put("one", 1_000); err != nil {
			h.t.Errorf("a session that is there already: %v", err)
		}
	})
}
