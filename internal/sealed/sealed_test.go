package sealed_test

import (
	"encoding/hex"
	"errors"
	"testing"

	"stoa/internal/sealed"
)

func TestSeal(t *testing.T) {
	t.Parallel()
	const secret, purpose, name, text = "correct horse battery", "stoa test", "row 1", "a text"
	plain, err := sealed.Seal("", purpose, name, []byte(text))
	if err != nil || string(plain) != "p"+text || !sealed.IsPlain(plain) {
		t.Errorf("without a secret: %q, %v", plain, err)
	}
	stored, err := sealed.Seal(secret, purpose, name, []byte(text))
	if err != nil || stored[0] != 's' || sealed.IsPlain(stored) {
		t.Fatalf("with a secret: %x, %v", stored, err)
	}
	changed := append([]byte(nil), stored...)
	changed[len(changed)-1]++
	for what, c := range map[string]struct {
		secret, purpose, name string
		stored                []byte
		want                  error
	}{
		"the same":        {secret, purpose, name, stored, nil},
		"not encrypted":   {secret, purpose, name, plain, nil},
		"no secret":       {"", purpose, name, stored, sealed.ErrNoSecret},
		"another secret":  {"x", purpose, name, stored, sealed.ErrOtherSecret},
		"another purpose": {secret, "x", name, stored, sealed.ErrOtherSecret},
		"another row":     {secret, purpose, "x", stored, sealed.ErrOtherSecret},
		"changed":         {secret, purpose, name, changed, sealed.ErrOtherSecret},
		"cut off":         {secret, purpose, name, stored[:10], sealed.ErrForm},
		"another format":  {secret, purpose, name, []byte("x text"), sealed.ErrForm},
		"nothing":         {secret, purpose, name, nil, sealed.ErrForm},
	} {
		got, err := sealed.Open(c.secret, c.purpose, c.name, c.stored)
		if !errors.Is(err, c.want) || err == nil && string(got) != text {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
}

// TestOpen_what_earlier_releases_have_stored: the form never changes.
func TestOpen_what_earlier_releases_have_stored(t *testing.T) {
	t.Parallel()
	stored, err := hex.DecodeString(storedSeed)
	if err != nil {
		t.Fatal(err)
	}
	text, err := sealed.Open("correct horse battery", "stoa signing key", "ed25519:abc", stored)
	if err != nil || string(text) != "0123456789abcdef0123456789abcdef" {
		t.Errorf("%q, %v", text, err)
	}
}

// storedSeed was made by a release from before this package.
const storedSeed = "73b558f558ec7fc2c2da8d14ac2a5e7126cfd466ec83782f0f7b7946d22ad76cc03eb70ba2e3c7b545ca79a31bf191a0152903cf43d6d8c66f6caf2dd9c44268cdd844154f360e175fff592cc8"
