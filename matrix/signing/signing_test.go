package signing_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/id"
	"stoa/matrix/signing"
)

// Spec: appendices#unpadded-base64
func TestBase64(t *testing.T) {
	t.Parallel()
	for plain, text := range map[string]string{
		"": "", "f": "Zg", "fo": "Zm8", "foo": "Zm9v", "foob": "Zm9vYg", "fooba": "Zm9vYmE", "foobar": "Zm9vYmFy",
	} {
		if got := signing.Base64(plain).String(); got != text {
			t.Errorf("%q is written as %q, want %q", plain, got, text)
		}
		padded := text + strings.Repeat("=", (4-len(text)%4)%4)
		for _, in := range []string{text, padded} {
			if got, err := signing.ParseBase64(in); err != nil || string(got) != plain {
				t.Errorf("%q is read as %q, %v; want %q", in, got, err, plain)
			}
		}
	}
	if got := (signing.Base64{0xfb, 0xff}).URLSafe(); got != "-_8" {
		t.Errorf("URL-safe: %q", got)
	}
	if got, err := signing.ParseBase64URLSafe("-_8="); err != nil || !bytes.Equal(got, []byte{0xfb, 0xff}) {
		t.Errorf("URL-safe: %v, %v", got, err)
	}
	for _, bad := range []string{"Z", "Zm9v!", "-_8", "Zm 9v"} {
		if got, err := signing.ParseBase64(bad); err == nil {
			t.Errorf("%q is read as %q", bad, got)
		}
	}
	var field struct{ Key signing.Base64 }
	if err := json.Unmarshal([]byte(`{"Key":"Zm9v"}`), &field); err != nil || string(field.Key) != "foo" {
		t.Errorf("in JSON: %q, %v", field.Key, err)
	}
	if text := string(must(json.Marshal(field))); text != `{"Key":"Zm9v"}` {
		t.Errorf("in JSON: %s", text)
	}
}

// key is the key of the specification's test vectors.
//
// Spec: appendices#signing-key
func key(t testing.TB) *signing.Key {
	t.Helper()
	seed := must(signing.ParseBase64("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1"))
	return must(signing.NewKey(must(id.ParseKeyID("ed25519:1")), seed))
}

// Spec: appendices#json-signing
func TestSignJSON(t *testing.T) {
	t.Parallel()
	const one = `"ed25519:1":"KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw"`
	for name, c := range map[string]struct{ in, want string }{
		"signs the empty object":         {`{}`, `{"signatures":{"domain":{"ed25519:1":"K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"}}}`},
		"signs an object with values":    {`{"one":1,"two":"Two"}`, `{"one":1,"signatures":{"domain":{` + one + `}},"two":"Two"}`},
		"does not sign unsigned":         {`{"two":"Two","one":1,"unsigned":{"age":1}}`, `{"one":1,"signatures":{"domain":{` + one + `}},"two":"Two","unsigned":{"age":1}}`},
		"keeps signatures of others":     {`{"one":1,"two":"Two","signatures":{"a":{"x:1":"y"},"z":{}}}`, `{"one":1,"signatures":{"a":{"x:1":"y"},"domain":{` + one + `},"z":{}},"two":"Two"}`},
		"keeps signatures of other keys": {`{"one":1,"two":"Two","signatures":{"domain":{"ed25519:0":"y"}}}`, `{"one":1,"signatures":{"domain":{"ed25519:0":"y",` + one + `}},"two":"Two"}`},
		"replaces its own signature":     {`{"one":1,"two":"Two","signatures":{"domain":{"ed25519:1":"y"}}}`, `{"one":1,"signatures":{"domain":{` + one + `}},"two":"Two"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := signing.SignJSON([]byte(c.in), "domain", key(t))
			if err != nil || string(got) != c.want {
				t.Fatalf("%s, %v; want %s", got, err, c.want)
			}
			if err := signing.VerifyJSON(got, "domain", known(key(t))); err != nil {
				t.Errorf("it does not verify: %v", err)
			}
		})
	}
	for _, bad := range []string{`[]`, `{"a":1.5}`, `{"signatures":1}`, `{"signatures":{"domain":1}}`, `{`} {
		if got, err := signing.SignJSON([]byte(bad), "domain", key(t)); err == nil {
			t.Errorf("%s was signed: %s", bad, got)
		}
	}
}

// known makes a source of one key.
func known(k *signing.Key) func(id.KeyID) (ed25519.PublicKey, bool) {
	return func(keyID id.KeyID) (ed25519.PublicKey, bool) { return k.Public(), keyID == k.ID() }
}

// TestVerifyJSON has a case for each step of the algorithm.
//
// Spec: appendices#checking-for-a-signature
func TestVerifyJSON(t *testing.T) {
	t.Parallel()
	k := key(t)
	signed := string(must(signing.SignJSON([]byte(`{"one":1}`), "domain", k)))
	mine := string(canonicaljson.Get(canonicaljson.Get([]byte(signed), "signatures"), "domain"))
	mine = mine[1 : len(mine)-1]
	with := func(signatures string) string { return `{"one":1,"signatures":` + signatures + `}` }
	for name, c := range map[string]struct {
		in   string
		want error
	}{
		"1: refuses an object without signatures":  {`{"one":1}`, signing.ErrNotSigned},
		"1: refuses signatures of others":          {with(`{"other":{` + mine + `}}`), signing.ErrNotSigned},
		"1: refuses an entry that is no object":    {with(`{"domain":1}`), signing.ErrNotSigned},
		"2: refuses other algorithms alone":        {with(`{"domain":{"rsa:1":"x"}}`), signing.ErrNotSigned},
		"2: skips other algorithms":                {with(`{"domain":{` + mine + `,"rsa:1":"x"}}`), nil},
		"3: refuses unknown keys alone":            {with(`{"domain":{"ed25519:2":"x"}}`), signing.ErrUnknownKey},
		"3: skips unknown keys":                    {with(`{"domain":{` + mine + `,"ed25519:2":"x"}}`), nil},
		"4: refuses what is not Base64":            {with(`{"domain":{"ed25519:1":"` + strings.Repeat("!", 86) + `"}}`), signing.ErrBadSignature},
		"4: refuses what is too short":             {with(`{"domain":{"ed25519:1":"Zm9v"}}`), signing.ErrBadSignature},
		"4: refuses what is too long":              {with(`{"domain":{"ed25519:1":"` + strings.Repeat("A", 88) + `"}}`), signing.ErrBadSignature},
		"4: refuses what is no string":             {with(`{"domain":{"ed25519:1":1}}`), signing.ErrBadSignature},
		"4: takes Base64 with padding":             {with(`{"domain":{` + mine[:len(mine)-1] + `=="}}`), nil},
		"5: leaves unsigned out":                   {signed[:len(signed)-1] + `,"unsigned":{"x":15}}`, nil},
		"5: leaves signatures of others out":       {with(`{"domain":{` + mine + `},"other":{"ed25519:1":"x"}}`), nil},
		"6: takes any form of the same JSON":       {` { "signatures" : {"domain":{` + mine + `} } , "\u006fne" : 1 }`, nil},
		"7: refuses another object":                {strings.Replace(signed, `"one":1`, `"one":2`, 1), signing.ErrBadSignature},
		"7: refuses an object with one key more":   {`{"more":1,` + signed[1:], signing.ErrBadSignature},
		"7: refuses a signature of something else": {with(`{"domain":{"ed25519:1":"` + strings.Repeat("A", 86) + `"}}`), signing.ErrBadSignature},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := signing.VerifyJSON([]byte(c.in), "domain", known(k)); !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
		})
	}
}

func TestVerifyJSONTakesAllKnownKeysToTask(t *testing.T) {
	t.Parallel()
	first := key(t)
	second := must(signing.NewKey(must(id.ParseKeyID("ed25519:2")), bytes.Repeat([]byte{2}, 32)))
	both := func(keyID id.KeyID) (ed25519.PublicKey, bool) {
		if keyID == second.ID() {
			return second.Public(), true
		}
		return known(first)(keyID)
	}
	signed := must(signing.SignJSON(must(signing.SignJSON([]byte(`{"one":1}`), "domain", first)), "domain", second))
	if err := signing.VerifyJSON(signed, "domain", both); err != nil {
		t.Errorf("two good signatures: %v", err)
	}
	// A good signature does not make up for a bad one, whatever their order.
	for _, bad := range []*signing.Key{first, second} {
		broken := must(signing.SignJSON([]byte(`{"one":2}`), "domain", bad))
		signature := canonicaljson.Get(canonicaljson.Get(canonicaljson.Get(broken, "signatures"), "domain"), bad.ID().String())
		mine := canonicaljson.Get(canonicaljson.Get(signed, "signatures"), "domain")
		mixed := must(canonicaljson.AppendWith(nil, mine, bad.ID().String(), signature))
		object := []byte(`{"one":1,"signatures":{"domain":` + string(mixed) + `}}`)
		if err := signing.VerifyJSON(object, "domain", both); !errors.Is(err, signing.ErrBadSignature) {
			t.Errorf("a bad signature of %s beside a good one: %v", bad.ID(), err)
		}
	}
}

func TestNewKey(t *testing.T) {
	t.Parallel()
	seed := bytes.Repeat([]byte{1}, 32)
	for keyID, ok := range map[string]bool{
		"ed25519:auto": true, "ed25519:a_1": true, "curve25519:auto": false, "ed25519:a-b": false, "ed25519:a:b": false,
	} {
		if _, err := signing.NewKey(must(id.ParseKeyID(keyID)), seed); (err == nil) != ok {
			t.Errorf("%s: %v", keyID, err)
		}
	}
	if _, err := signing.NewKey(must(id.ParseKeyID("ed25519:1")), seed[1:]); err == nil {
		t.Error("a seed of 31 bytes was taken")
	}
	if k := key(t); !bytes.Equal(k.Seed(), must(signing.ParseBase64("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1"))) {
		t.Error("the key does not give back its seed")
	}
}

// Spec: server-server-api#validating-hashes-and-signatures-on-received-events, rooms/v5#signing-key-validity-period
func TestValidAt(t *testing.T) {
	t.Parallel()
	current, old := signing.VerifyKey{ValidUntilTS: 1000}, signing.VerifyKey{ValidUntilTS: 9000, ExpiredTS: 1000}
	for name, c := range map[string]struct {
		key    signing.VerifyKey
		ts     int64
		strict bool
		want   bool
	}{
		"strict: a current key counts until valid_until_ts":         {current, 1000, true, true},
		"strict: a current key does not count later":                {current, 1001, true, false},
		"before version 5: valid_until_ts is ignored":               {current, 1001, false, true},
		"strict: an old key counts until it expired":                {old, 1000, true, true},
		"strict: an old key does not count later":                   {old, 1001, true, false},
		"before version 5: an old key does not count after expired": {old, 1001, false, false},
	} {
		if got := c.key.ValidAt(c.ts, c.strict); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	now := time.UnixMilli(1_700_000_000_000)
	week := now.Add(7 * 24 * time.Hour).UnixMilli()
	if got := signing.BelievedUntil(week+1, now); got != week {
		t.Errorf("more than 7 days are believed: %d", got)
	}
	if got := signing.BelievedUntil(week-1, now); got != week-1 {
		t.Errorf("less than 7 days become %d", got)
	}
}

// Spec: server-server-api#publishing-keys
func TestServerKeys(t *testing.T) {
	t.Parallel()
	server := must(id.ParseServerName("domain"))
	k := key(t)
	other := must(signing.NewKey(must(id.ParseKeyID("ed25519:2")), bytes.Repeat([]byte{2}, 32)))
	published := &signing.ServerKeys{
		ServerName:    server,
		VerifyKeys:    map[id.KeyID]ed25519.PublicKey{k.ID(): k.Public(), other.ID(): other.Public()},
		OldVerifyKeys: map[id.KeyID]signing.OldVerifyKey{must(id.ParseKeyID("ed25519:0")): {Key: other.Public(), ExpiredTS: 5}},
		ValidUntilTS:  1_700_000_000_000,
	}
	text := string(must(published.Append(nil, k)))
	got, err := signing.ParseServerKeys(server, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.VerifyKeys) != 2 || !got.VerifyKeys[k.ID()].Equal(k.Public()) || got.ValidUntilTS != published.ValidUntilTS {
		t.Errorf("%+v", got)
	}
	if old := got.OldVerifyKeys[must(id.ParseKeyID("ed25519:0"))]; old.ExpiredTS != 5 || !old.Key.Equal(other.Public()) {
		t.Errorf("%+v", got.OldVerifyKeys)
	}
	resign := func(change func(string) string) string {
		var object map[string]json.RawMessage
		if err := json.Unmarshal([]byte(change(text)), &object); err != nil {
			t.Fatal(err)
		}
		delete(object, "signatures")
		return string(must(signing.SignJSON(must(json.Marshal(object)), "domain", k)))
	}
	replace := func(old, with string) func(string) string {
		return func(s string) string { return strings.Replace(s, old, with, 1) }
	}
	if _, err := signing.ParseServerKeys(server, []byte(resign(replace(`"verify_keys":{`, `"verify_keys":{"rsa:1":7,`)))); err != nil {
		t.Errorf("a key of another algorithm: %v", err)
	}
	for name, bad := range map[string]string{
		"not JSON":                 `{`,
		"no object":                `[]`,
		"changed":                  strings.Replace(text, `1700000000000`, `1700000000001`, 1),
		"not signed":               string(must(published.Append(nil))),
		"of another server":        resign(replace(`"server_name":"domain"`, `"server_name":"other"`)),
		"without server_name":      resign(replace(`"server_name"`, `"name"`)),
		"without valid_until_ts":   resign(replace(`"valid_until_ts"`, `"valid"`)),
		"without verify_keys":      resign(replace(`"verify_keys":`, `"keys":`)),
		"a key that is no object":  resign(replace(`"verify_keys":{`, `"verify_keys":{"ed25519:3":7,`)),
		"a key that is too short":  resign(replace(`"verify_keys":{`, `"verify_keys":{"ed25519:3":{"key":"Zm9v"},`)),
		"an old key without time":  resign(replace(`"expired_ts"`, `"expired"`)),
		"verify_keys no object":    resign(replace(`"verify_keys":{`, `"verify_keys":[],"more":{`)),
		"signed by an unused key":  string(must(published.Append(nil, must(signing.NewKey(must(id.ParseKeyID("ed25519:9")), bytes.Repeat([]byte{9}, 32)))))),
		"signed by a false key":    string(must(published.Append(nil, must(signing.NewKey(k.ID(), bytes.Repeat([]byte{9}, 32)))))),
		"with a duplicate of keys": `{"verify_keys":{},` + text[1:],
	} {
		if got, err := signing.ParseServerKeys(server, []byte(bad)); err == nil {
			t.Errorf("keys that are %s were taken: %+v", name, got)
		}
	}
}

func FuzzVerifyJSON(f *testing.F) {
	k := key(f)
	f.Add(must(signing.SignJSON([]byte(`{"one":1}`), "domain", k)))
	f.Add([]byte(`{"signatures":{"domain":{"ed25519:1":"x"}},"unsigned":[]}`))
	f.Add([]byte(`{"signatures":{"domain":[]}}`))
	f.Fuzz(func(t *testing.T, object []byte) {
		if signing.VerifyJSON(object, "domain", known(k)) == nil {
			// What verifies says what was signed: signing it again gives the same signature.
			again := must(signing.SignJSON(object, "domain", k))
			if canonical := must(canonicaljson.Append(nil, object)); !bytes.Equal(again, canonical) && !bytes.Contains(object, []byte("=")) {
				t.Errorf("%q verifies, but signed again it is %q", object, again)
			}
		}
		if signed, err := signing.SignJSON(object, "domain", k); err == nil {
			if err := signing.VerifyJSON(signed, "domain", known(k)); err != nil && len(canonicaljson.Get(canonicaljson.Get(signed, "signatures"), "domain")) < 120 {
				t.Errorf("%q was signed as %q, which does not verify: %v", object, signed, err)
			}
		}
	})
}

func FuzzParseServerKeys(f *testing.F) {
	k := key(f)
	server := must(id.ParseServerName("domain"))
	f.Add(must((&signing.ServerKeys{ServerName: server, ValidUntilTS: 1, VerifyKeys: map[id.KeyID]ed25519.PublicKey{k.ID(): k.Public()}}).Append(nil, k)))
	f.Add([]byte(`{"server_name":"domain","verify_keys":{"ed25519:1":{}},"old_verify_keys":[]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if keys, err := signing.ParseServerKeys(server, raw); err == nil && keys.ServerName != server {
			t.Errorf("%q gives keys of %s", raw, keys.ServerName)
		}
	})
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
