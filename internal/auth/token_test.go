package auth

import (
	"strings"
	"testing"
)

// TestAccessTokens_of_a_user_begin_alike, as far as the balancers of deploy/ look.
func TestAccessTokens_of_a_user_begin_alike(t *testing.T) {
	t.Parallel()
	const looked = 20
	header := func(user string) string { return "Bearer " + newAccessToken(user) }
	a, again, b := header("@a:stoa.test"), header("@a:stoa.test"), header("@b:stoa.test")
	if a[:looked] != again[:looked] || a[:looked] == b[:looked] {
		t.Errorf("tokens of one user are %q and %q, of another %q", a, again, b)
	}
	secret := strings.TrimPrefix(a, "Bearer "+AccessTokenStart("@a:stoa.test"))
	if len(secret) != 32 || strings.HasSuffix(again, secret) {
		t.Errorf("behind the first %d bytes there are no 24 random ones: %q, %q", looked, a, again)
	}
}
