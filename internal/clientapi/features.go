package clientapi

import (
	"encoding/json"
	"fmt"
	"strings"

	"stoa/internal/httpkit"
)

// feature is a line of the table of what clients ask for by a name or path from before it was in the specification.
type feature struct {
	// names are those in the unstable_features of /versions; none if clients never asked.
	names []string
	// paths are the unstable paths of endpoints that also have a stable one.
	paths []unstablePath
	// own are the ends of the endpoints that have no stable path: patterns of Routes after /_matrix/client/unstable.
	own []string
	// means is the behaviour that the names promise, of a feature without paths.
	means string
	// on reports whether the settings enable the feature; nil = always.
	on func(Options) bool
}

// unstablePath is the old path of a stable one. Both are whole patterns, or prefixes of patterns if they end with a slash.
type unstablePath struct{ old, stable string }

const unstable = client + "/unstable"

// features is the table. Each name is answered honestly: it is in /versions if, and only if, what it stands for is served.
var features = []feature{
	// Endpoints whose unstable paths answer as their stable ones.
	{names: []string{"org.matrix.e2e_cross_signing"}, paths: []unstablePath{
		{unstable + "/keys/device_signing/upload", client + "/v3/keys/device_signing/upload"},
		{unstable + "/keys/signatures/upload", client + "/v3/keys/signatures/upload"},
	}},
	{paths: []unstablePath{{unstable + "/room_keys/", client + "/v3/room_keys/"}}},
	{names: []string{"fi.mau.msc2246"}, paths: []unstablePath{
		{"/_matrix/media/unstable/fi.mau.msc2246/create", "/_matrix/media/v1/create"},
		{"/_matrix/media/unstable/fi.mau.msc2246/upload/", "/_matrix/media/v3/upload/"},
	}},
	{names: []string{"xyz.amorgan.knock"}, paths: []unstablePath{{unstable + "/xyz.amorgan.knock/knock/", client + "/v3/knock/"}}},
	{names: []string{"org.matrix.msc2432"}, paths: []unstablePath{
		{unstable + "/org.matrix.msc2432/rooms/{roomId}/aliases", client + "/v3/rooms/{roomId}/aliases"},
	}},
	{names: []string{"org.matrix.msc2675"}, paths: []unstablePath{
		{unstable + "/rooms/{roomId}/relations/", client + "/v1/rooms/{roomId}/relations/"},
	}},
	{names: []string{"org.matrix.msc2918"}, paths: []unstablePath{{unstable + "/org.matrix.msc2918/refresh", client + "/v3/refresh"}}},
	{names: []string{"org.matrix.msc2946"}, paths: []unstablePath{
		{unstable + "/org.matrix.msc2946/rooms/{roomId}/hierarchy", client + "/v1/rooms/{roomId}/hierarchy"},
	}},
	{names: []string{"org.matrix.msc3030"}, paths: []unstablePath{
		{unstable + "/org.matrix.msc3030/rooms/{roomId}/timestamp_to_event", client + "/v1/rooms/{roomId}/timestamp_to_event"},
	}},
	{names: []string{"org.matrix.msc3231"}, paths: []unstablePath{{
		unstable + "/org.matrix.msc3231/register/org.matrix.msc3231.login.registration_token/validity",
		client + "/v1/register/m.login.registration_token/validity",
	}}},
	{names: []string{"org.matrix.msc3266", "im.nheko.summary"}, paths: []unstablePath{
		{unstable + "/im.nheko.summary/summary/", client + "/v1/room_summary/"},
		{unstable + "/im.nheko.summary/rooms/{roomIdOrAlias}/summary", client + "/v1/room_summary/{roomIdOrAlias}"},
	}},
	{names: []string{"org.matrix.msc3856", "org.matrix.msc3856.stable"}, paths: []unstablePath{
		{unstable + "/org.matrix.msc3856/rooms/{roomId}/threads", client + "/v1/rooms/{roomId}/threads"},
	}},
	{names: []string{"org.matrix.msc3882"}, paths: []unstablePath{
		{unstable + "/org.matrix.msc3882/login/get_token", client + "/v1/login/get_token"},
	}},
	{names: []string{"org.matrix.msc3916", "org.matrix.msc3916.stable"}, paths: []unstablePath{
		{unstable + "/org.matrix.msc3916/media/", client + "/v1/media/"},
	}},
	{names: []string{"uk.tcpip.msc4133", "uk.tcpip.msc4133.stable"}, paths: []unstablePath{
		{unstable + "/uk.tcpip.msc4133/profile/", client + "/v3/profile/"},
	}},
	{names: []string{"uk.timedout.msc4323"}, paths: []unstablePath{{unstable + "/uk.timedout.msc4323/admin/", client + "/v1/admin/"}}},

	// Endpoints whose deployed form differs from the accepted one, or that have no stable path.
	{names: []string{"org.matrix.simplified_msc3575"}, own: []string{"/org.matrix.simplified_msc3575/sync"}},
	{names: []string{"org.matrix.msc3814"}, own: []string{dehydratedPath, dehydratedPath + "/{deviceId}/events"}},
	{names: []string{"org.matrix.msc4143"}, own: []string{"/org.matrix.msc4143/rtc/transports"}, on: func(o Options) bool { return o.LiveKitURL != "" }},

	// Behaviour of stable endpoints.
	{names: []string{"org.matrix.msc2285.stable"}, means: "private read receipts: m.read.private in receipts and read markers"},
	{names: []string{"org.matrix.msc3440.stable"}, means: "threads: m.thread relations, bundled in the unsigned of their root"},
	{names: []string{"org.matrix.msc3715", "org.matrix.msc3715.stable"}, means: "dir of /relations, also as org.matrix.msc3715.dir"},
	{names: []string{"org.matrix.msc3771"}, means: "thread_id of receipts"},
	{names: []string{"org.matrix.msc3773"}, means: "unread_thread_notifications of filters and of /sync"},
	{names: []string{"org.matrix.msc3827.stable"}, means: "room_types in the filter of /publicRooms"},
	{names: []string{"org.matrix.msc3952_intentional_mentions"}, means: "m.mentions and its push rules"},
	{names: []string{"org.matrix.msc3981"}, means: "recurse of /relations, also as org.matrix.msc3981.recurse"},
	{names: []string{"org.matrix.msc3890"}, means: "notification settings of a device in account data, which end with the device"},
	{names: []string{"org.matrix.msc3881"}, means: "org.matrix.msc3881.enabled of pushers"},
	{names: []string{"org.matrix.msc4380.stable"}, means: "m.invite_permission_config in account data"},
}

// versionsAnswer is what a balancer and every client asks for first. The versions before v1.1 had other paths, which are
// not in the list.
func versionsAnswer(opt Options) httpkit.Raw {
	named := map[string]bool{}
	for _, f := range features {
		if f.on != nil && !f.on(opt) {
			continue
		}
		for _, name := range f.names {
			named[name] = true
		}
	}
	list, err := json.Marshal(named)
	if err != nil {
		panic(err) // made of texts
	}
	return httpkit.Raw(fmt.Sprintf(`{"versions":["v1.1","v1.2","v1.3","v1.4","v1.5","v1.6","v1.7","v1.8","v1.9","v1.10",`+
		`"v1.11","v1.12","v1.13","v1.14","v1.15","v1.16","v1.17","v1.18","v1.19"],"unstable_features":%s}`, list))
}

// UnstableRoutes are the stable routes of the table under their unstable paths.
func UnstableRoutes(routes []httpkit.Route) []httpkit.Route {
	var list []httpkit.Route
	for _, f := range features {
		for _, path := range f.paths {
			for _, r := range routes {
				if pattern, ok := path.of(r.Pattern); ok {
					r.Pattern = pattern
					list = append(list, r)
				}
			}
		}
	}
	return list
}

// of gives the unstable path of a pattern.
func (p unstablePath) of(pattern string) (string, bool) {
	if pattern == p.stable {
		return p.old, true
	}
	rest, ok := strings.CutPrefix(pattern, p.stable)
	return p.old + rest, ok && strings.HasSuffix(p.stable, "/")
}

// either gives the name of a query parameter: the stable one, or the old one if only that is there.
func either(query httpkit.Query, stable, old string) string {
	if query.Has(old) && !query.Has(stable) {
		return old
	}
	return stable
}
