package clientapi_test

import (
	"fmt"
	"strings"
	"testing"
)

// Whatever stands in a request, no answer is a fault.
func TestHostileTextIsNoFault(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice := s.signUp("alice")
		const v3 = "/_matrix/client/v3"
		for _, text := range []string{`"\u0000"`, `"a\u0000b"`, `"\ud800"`, `"\udc00\ud800"`, `""`, `" "`, `"🏳️‍🌈"`, `"%00"`, `"../.."`, `"'; --"`,
			`null`, `1`, `-1e999`, `true`, `[]`, `{}`, `[null]`, `"` + strings.Repeat("x", 70_000) + `"`} {
			for _, request := range [][3]string{
				{"POST", v3 + "/login", `{"type":"m.login.password","user":%s,"password":%[1]s,"device_id":%[1]s}`},
				{"POST", v3 + "/login", `{"type":"m.login.password","user":"alice","password":"pw of alice","device_id":%s}`},
				{"POST", v3 + "/login", `{"type":"m.login.password","user":"alice","password":"pw of alice","initial_device_display_name":%s}`},
				{"POST", v3 + "/login", `{"type":"m.login.password","identifier":%s,"password":"x"}`},
				{"POST", v3 + "/login", `{"type":"m.login.token","token":%s}`},
				{"POST", v3 + "/login", `{"type":%s}`},
				{"POST", v3 + "/refresh", `{"refresh_token":%s}`},
				{"POST", v3 + "/register", `{"username":%s,"password":"x","auth":{"type":"m.login.dummy"}}`},
				{"POST", v3 + "/register", `{"password":%s,"auth":{"type":"m.login.dummy"}}`},
				{"POST", v3 + "/register", `{"password":"x","device_id":%s,"auth":{"type":"m.login.dummy"}}`},
				{"POST", v3 + "/register", `{"password":"x","auth":{"type":%s}}`},
				{"POST", v3 + "/register", `{"password":"x","auth":{"session":%s}}`},
				{"POST", v3 + "/register", `{"password":"x","auth":%s}`},
				{"POST", v3 + "/account/password", `{"new_password":%s}`},
				{"POST", v3 + "/account/deactivate", `{"erase":%s,"id_server":%[1]s}`},
				{"POST", v3 + "/delete_devices", `{"devices":%s}`},
				{"POST", v3 + "/delete_devices", `{"devices":[%s]}`},
				{"PUT", v3 + "/devices/" + alice.Device, `{"display_name":%s}`},
				{"DELETE", v3 + "/devices/" + alice.Device, `{"auth":{"type":"m.login.password","identifier":{"type":"m.id.user","user":%s},"password":"x"}}`},
				{"PUT", v3 + "/profile/" + alice.UserID + "/displayname", `{"displayname":%s}`},
				{"PUT", v3 + "/profile/" + alice.UserID + "/org.example.x", `{"org.example.x":%s}`},
			} {
				a := s.do(request[0], request[1], alice.Token, fmt.Sprintf(request[2], text))
				if a.Status >= 500 {
					t.Errorf("%s %s with %.40s: %d %s", request[0], request[1], text, a.Status, a.raw)
				}
			}
		}
		s.whoami(alice.Token).want(200, "")
		s.do("GET", v3+"/profile/"+alice.UserID, "", nil).want(200, "")
		s.do("GET", v3+"/devices", alice.Token, nil).want(200, "")
	})
}
