package clientapi_test

import (
	"regexp"
	"testing"

	"stoa/internal/clientapi"
)

// open are the endpoints that answer people without a token: the specification
// asks for none, or has them authenticate in another way.
var open = map[string]bool{
	"GET /_matrix/client/versions":                                        true,
	"GET /.well-known/matrix/client":                                      true,
	"GET /.well-known/matrix/support":                                     true,
	"GET /_matrix/client/v3/login":                                        true,
	"POST /_matrix/client/v3/login":                                       true,
	"POST /_matrix/client/v3/refresh":                                     true,
	"POST /_matrix/client/v3/register":                                    true,
	"GET /_matrix/client/v3/register/available":                           true,
	"GET /_matrix/client/v1/register/m.login.registration_token/validity": true,
	"GET /_synapse/admin/v1/register":                                     true,
	"POST /_synapse/admin/v1/register":                                    true,
	"POST /_matrix/client/v3/account/password":                            true,
	"POST /_matrix/client/v3/account/deactivate":                          true,
	"POST /_matrix/client/v3/account/password/email/requestToken":         true,
	"POST /_matrix/client/v3/account/password/msisdn/requestToken":        true,
	"POST /_matrix/client/v3/register/email/requestToken":                 true,
	"POST /_matrix/client/v3/register/msisdn/requestToken":                true,
	"GET /_matrix/client/v3/profile/{userId}":                             true,
	"GET /_matrix/client/v3/profile/{userId}/{keyName}":                   true,
	"GET /_matrix/client/v3/directory/room/{roomAlias}":                   true,
	"GET /_matrix/client/v3/directory/list/room/{roomId}":                 true,
	"GET /_matrix/client/v3/publicRooms":                                  true,
	"GET /_matrix/client/v1/room_summary/{roomIdOrAlias}":                 true,
}

// Every other endpoint wants a token before it looks at anything else of a
// request, so that who has none learns nothing.
func TestATokenIsAskedForFirst(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	value := regexp.MustCompile(`\{[^}]*\}`)
	closed := 0
	for _, route := range clientapi.New(clientapi.Options{}).Routes() {
		name := route.Method + " " + route.Pattern
		if open[name] {
			continue
		}
		closed++
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			path := value.ReplaceAllString(route.Pattern, "x")
			var body any
			if route.Method != "GET" {
				body = "{"
			}
			s.do(route.Method, path, "", body).want(401, "M_MISSING_TOKEN")
			s.do(route.Method, path, "nonsense", body).want(401, "M_UNKNOWN_TOKEN")
		})
	}
	if closed < 90 {
		t.Errorf("only %d endpoints were looked at", closed)
	}
}
