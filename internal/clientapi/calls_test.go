package clientapi

import (
	"testing"
	"time"

	"stoa/matrix/id"
)

// TestTURNCredentials_are_what_a_TURN_server_computes compares with `openssl dgst -sha1 -hmac north`.
func TestTURNCredentials_are_what_a_TURN_server_computes(t *testing.T) {
	t.Parallel()
	user, err := id.ParseUserID("@user:example.com")
	if err != nil {
		t.Fatal(err)
	}
	name, password := turnCredentials("north", user, time.Unix(1443779631, 0))
	if name != "1443779631:@user:example.com" || password != "lamN4QwbavBEEp/krb3yR5mgsEg=" {
		t.Errorf("got %q %q", name, password)
	}
}
