package clientapi

import (
	"net/http"
	"strings"

	"stoa/internal/httpkit"
)

// Routes lists every endpoint of the client-server API that is served, in the
// order of the specification's chapters. What is not in it answers 404
// M_UNRECOGNIZED; a known path with another method, 405.
func (a *API) Routes() []httpkit.Route {
	return []httpkit.Route{
		// API versions and discovery. Spec: client-server-api#server-discovery
		probe("GET", "/_matrix/client/versions", a.versions),
		fixed("GET", "/.well-known/matrix/client", a.wellKnownClient),
		fixed("GET", "/.well-known/matrix/support", a.wellKnownSupport),
		route("GET", client+"/v3/capabilities", a.capabilities),

		// Login and logout. Spec: client-server-api#legacy-login
		open(httpkit.LimitPlain, "GET", client+"/v3/login", a.loginFlows),
		open(httpkit.LimitLogin, "POST", client+"/v3/login", a.login),
		route("POST", client+"/v1/login/get_token", a.loginToken),
		open(httpkit.LimitPlain, "POST", client+"/v3/refresh", a.refresh),
		route("POST", client+"/v3/logout", a.logout),
		route("POST", client+"/v3/logout/all", a.logoutAll),

		// Account registration. Spec: client-server-api#legacy-account-registration
		open(httpkit.LimitRegister, "POST", client+"/v3/register", a.register),
		open(httpkit.LimitRegister, "POST", client+"/v3/register/email/requestToken", a.registerEmailToken),
		open(httpkit.LimitRegister, "POST", client+"/v3/register/msisdn/requestToken", a.registerPhoneToken),
		open(httpkit.LimitLookup, "GET", client+"/v3/register/available", a.registerAvailable),
		open(httpkit.LimitLookup, "GET", client+"/v1/register/m.login.registration_token/validity", a.registrationTokenValidity),
		open(httpkit.LimitPlain, "GET", "/_synapse/admin/v1/register", a.sharedSecretNonce),
		open(httpkit.LimitPlain, "POST", "/_synapse/admin/v1/register", a.sharedSecretRegister),

		// Account management. Spec: client-server-api#legacy-account-management
		open(httpkit.LimitLogin, "POST", client+"/v3/account/password", a.changePassword),
		open(httpkit.LimitLogin, "POST", client+"/v3/account/deactivate", a.deactivate),
		open(httpkit.LimitLogin, "POST", client+"/v3/account/password/email/requestToken", a.passwordEmailToken),
		open(httpkit.LimitLogin, "POST", client+"/v3/account/password/msisdn/requestToken", a.passwordPhoneToken),
		route("GET", client+"/v3/account/3pid", a.threepids),
		route("POST", client+"/v3/account/3pid", a.addThreepidByIdentityServer),
		route("POST", client+"/v3/account/3pid/add", a.addThreepid),
		route("POST", client+"/v3/account/3pid/bind", a.bindThreepid),
		route("POST", client+"/v3/account/3pid/delete", a.deleteThreepid),
		route("POST", client+"/v3/account/3pid/unbind", a.unbindThreepid),
		route("POST", client+"/v3/account/3pid/email/requestToken", a.addEmailToken),
		route("POST", client+"/v3/account/3pid/msisdn/requestToken", a.addPhoneToken),
		route("GET", client+"/v3/account/whoami", a.whoami),

		// Profiles. Spec: client-server-api#profiles
		open(httpkit.LimitLookup, "GET", client+"/v3/profile/{userId}", a.profile),
		open(httpkit.LimitLookup, "GET", client+"/v3/profile/{userId}/{keyName}", a.profileField),
		route("PUT", client+"/v3/profile/{userId}/{keyName}", a.setProfileField),
		route("DELETE", client+"/v3/profile/{userId}/{keyName}", a.deleteProfileField),

		// Device management. Spec: client-server-api#device-management
		route("GET", client+"/v3/devices", a.devices),
		route("GET", client+"/v3/devices/{deviceId}", a.device),
		route("PUT", client+"/v3/devices/{deviceId}", a.updateDevice),
		route("DELETE", client+"/v3/devices/{deviceId}", a.deleteDevice),
		route("POST", client+"/v3/delete_devices", a.deleteDevices),

		// Server notices, as in the admin API of Synapse.
		route("POST", "/_synapse/admin/v1/send_server_notice", a.sendNotice),
		route("PUT", "/_synapse/admin/v1/send_server_notice/{txnId}", a.sendNotice),

		// Server administration. Spec: client-server-api#server-administration
		route("GET", client+"/v3/admin/whois/{userId}", a.whois),
		route("GET", client+"/v1/admin/lock/{userId}", a.locked),
		route("PUT", client+"/v1/admin/lock/{userId}", a.setLocked),
		route("GET", client+"/v1/admin/suspend/{userId}", a.suspended),
		route("PUT", client+"/v1/admin/suspend/{userId}", a.setSuspended),

		// Syncing. Spec: client-server-api#syncing
		syncs("GET", client+"/v3/sync", a.sync),
		slidingSyncs(client+"/v4/sync", a.slidingSync),
		slidingSyncs(unstable+"/org.matrix.simplified_msc3575/sync", a.slidingSyncDeployed),

		// Filtering. Spec: client-server-api#filtering
		route("POST", client+"/v3/user/{userId}/filter", a.addFilter),
		route("GET", client+"/v3/user/{userId}/filter/{filterId}", a.filter),

		// Client config and room tagging. Spec: client-server-api#client-config
		route("PUT", client+"/v3/user/{userId}/account_data/{type}", a.setAccountData),
		route("GET", client+"/v3/user/{userId}/account_data/{type}", a.accountData),
		route("PUT", client+"/v3/user/{userId}/rooms/{roomId}/account_data/{type}", a.setAccountData),
		route("GET", client+"/v3/user/{userId}/rooms/{roomId}/account_data/{type}", a.accountData),
		route("GET", client+"/v3/user/{userId}/rooms/{roomId}/tags", a.tags),
		route("PUT", client+"/v3/user/{userId}/rooms/{roomId}/tags/{tag}", a.setTag),
		route("DELETE", client+"/v3/user/{userId}/rooms/{roomId}/tags/{tag}", a.deleteTag),

		// OpenID. Spec: client-server-api#openid
		route("POST", client+"/v3/user/{userId}/openid/request_token", a.requestOpenIDToken),

		// Calls. Spec: client-server-api#voice-over-ip
		route("GET", client+"/v3/voip/turnServer", a.turnServer),
		route("GET", unstable+"/org.matrix.msc4143/rtc/transports", a.rtcTransports),

		// Rooms: creation, aliases, membership. Spec: client-server-api#rooms
		route("POST", client+"/v3/createRoom", a.createRoom),
		open(httpkit.LimitLookup, "GET", client+"/v3/directory/room/{roomAlias}", a.alias),
		route("PUT", client+"/v3/directory/room/{roomAlias}", a.setAlias),
		route("DELETE", client+"/v3/directory/room/{roomAlias}", a.deleteAlias),
		route("GET", client+"/v3/rooms/{roomId}/aliases", a.aliases),
		route("GET", client+"/v3/joined_rooms", a.joinedRooms),
		homed("roomId", "POST", client+"/v3/rooms/{roomId}/invite", a.invite),
		homed("roomIdOrAlias", "POST", client+"/v3/join/{roomIdOrAlias}", a.joinByName),
		homed("roomId", "POST", client+"/v3/rooms/{roomId}/join", a.join),
		homed("roomIdOrAlias", "POST", client+"/v3/knock/{roomIdOrAlias}", a.knock),
		homed("roomId", "POST", client+"/v3/rooms/{roomId}/leave", a.leave),
		homed("roomId", "POST", client+"/v3/rooms/{roomId}/forget", a.forget),
		homed("roomId", "POST", client+"/v3/rooms/{roomId}/kick", a.kick),
		homed("roomId", "POST", client+"/v3/rooms/{roomId}/ban", a.ban),
		homed("roomId", "POST", client+"/v3/rooms/{roomId}/unban", a.unban),
		homed("roomId", "POST", client+"/v3/rooms/{roomId}/upgrade", a.upgradeRoom),

		open(httpkit.LimitLookup, "GET", client+"/v3/directory/list/room/{roomId}", a.roomVisibility),
		route("PUT", client+"/v3/directory/list/room/{roomId}", a.setRoomVisibility),
		open(httpkit.LimitLookup, "GET", client+"/v3/publicRooms", a.publicRooms),
		route("POST", client+"/v3/publicRooms", a.searchPublicRooms),
		open(httpkit.LimitLookup, "GET", client+"/v1/room_summary/{roomIdOrAlias}", a.roomSummary),
		large("GET", client+"/v1/rooms/{roomId}/hierarchy", a.hierarchy),

		// Events: getting and sending them. Spec: client-server-api#events
		route("GET", client+"/v3/rooms/{roomId}/event/{eventId}", a.event),
		large("GET", client+"/v3/rooms/{roomId}/joined_members", a.joinedMembers),
		large("GET", client+"/v3/rooms/{roomId}/members", a.members),
		large("GET", client+"/v3/rooms/{roomId}/state", a.state),
		route("GET", client+"/v3/rooms/{roomId}/state/{eventType}", a.stateEvent),
		route("GET", client+"/v3/rooms/{roomId}/state/{eventType}/", a.stateEvent),
		route("GET", client+"/v3/rooms/{roomId}/state/{eventType}/{stateKey}", a.stateEvent),
		large("GET", client+"/v3/rooms/{roomId}/messages", a.messages),
		large("GET", client+"/v3/rooms/{roomId}/context/{eventId}", a.eventContext),
		route("GET", client+"/v1/rooms/{roomId}/timestamp_to_event", a.timestampToEvent),
		homed("roomId", "PUT", client+"/v3/rooms/{roomId}/state/{eventType}", a.sendState),
		homed("roomId", "PUT", client+"/v3/rooms/{roomId}/state/{eventType}/", a.sendState),
		homed("roomId", "PUT", client+"/v3/rooms/{roomId}/state/{eventType}/{stateKey}", a.sendState),
		homed("roomId", "PUT", client+"/v3/rooms/{roomId}/send/{eventType}/{txnId}", a.sendEvent),
		homed("roomId", "PUT", client+"/v3/rooms/{roomId}/redact/{eventId}/{txnId}", a.redact),

		// Event relationships, threads. Spec: client-server-api#relationships-api
		large("GET", client+"/v1/rooms/{roomId}/relations/{eventId}", a.relations),
		large("GET", client+"/v1/rooms/{roomId}/relations/{eventId}/{relType}", a.relations),
		large("GET", client+"/v1/rooms/{roomId}/relations/{eventId}/{relType}/{eventType}", a.relations),
		large("GET", client+"/v1/rooms/{roomId}/threads", a.threads),

		// Calls that /sync has replaced, and peeking. Spec: client-server-api#room-previews
		limited(httpkit.LimitLongPoll, "GET", client+"/v3/events", a.events),
		route("GET", client+"/v3/events/{eventId}", a.oneEvent),
		large("GET", client+"/v3/initialSync", a.initialSync),
		large("GET", client+"/v3/rooms/{roomId}/initialSync", a.roomInitialSync),

		// Reports, mutual rooms. Spec: client-server-api#reporting-content, client-server-api#mutual-rooms
		route("POST", client+"/v3/rooms/{roomId}/report", a.reportRoom),
		route("POST", client+"/v3/rooms/{roomId}/report/{eventId}", a.reportEvent),
		route("POST", client+"/v3/users/{userId}/report", a.reportUser),
		route("GET", client+"/v1/mutual_rooms", a.mutualRooms),

		// Server-side search. Spec: client-server-api#server-side-search
		large("POST", client+"/v3/search", a.searchEvents),

		// User directory. Spec: client-server-api#user-directory
		route("POST", client+"/v3/user_directory/search", a.searchUsers),

		// Typing, receipts, read markers, presence.
		// Spec: client-server-api#typing-notifications, client-server-api#receipts, client-server-api#presence
		route("PUT", client+"/v3/rooms/{roomId}/typing/{userId}", a.setTyping),
		route("POST", client+"/v3/rooms/{roomId}/receipt/{receiptType}/{eventId}", a.sendReceipt),
		route("POST", client+"/v3/rooms/{roomId}/read_markers", a.setReadMarkers),
		route("PUT", client+"/v3/presence/{userId}/status", a.setPresence),
		route("GET", client+"/v3/presence/{userId}/status", a.presenceOf),

		// Pushers. Spec: client-server-api#push-notifications
		route("GET", client+"/v3/pushers", a.pushers),
		route("POST", client+"/v3/pushers/set", a.setPusher),
		large("GET", client+"/v3/notifications", a.notifications),

		// Push rules. Spec: client-server-api#push-rules-api
		route("GET", client+"/v3/pushrules/", a.pushRules),
		route("GET", client+"/v3/pushrules/global/", a.pushRulesGlobal),
		route("GET", client+"/v3/pushrules/global/{kind}/{ruleId}", a.pushRule),
		route("PUT", client+"/v3/pushrules/global/{kind}/{ruleId}", a.putPushRule),
		route("DELETE", client+"/v3/pushrules/global/{kind}/{ruleId}", a.deletePushRule),
		route("GET", client+"/v3/pushrules/global/{kind}/{ruleId}/enabled", a.pushRuleEnabled),
		route("PUT", client+"/v3/pushrules/global/{kind}/{ruleId}/enabled", a.setPushRuleEnabled),
		route("GET", client+"/v3/pushrules/global/{kind}/{ruleId}/actions", a.pushRuleActions),
		route("PUT", client+"/v3/pushrules/global/{kind}/{ruleId}/actions", a.setPushRuleActions),

		// Send-to-device messaging. Spec: client-server-api#send-to-device-messaging
		route("PUT", client+"/v3/sendToDevice/{eventType}/{txnId}", a.sendToDevice),

		// End-to-end encryption. Spec: client-server-api#key-management-api
		route("POST", client+"/v3/keys/upload", a.uploadKeys),
		large("POST", client+"/v3/keys/query", a.queryKeys),
		route("POST", client+"/v3/keys/claim", a.claimKeys),
		route("GET", client+"/v3/keys/changes", a.keyChanges),
		route("POST", client+"/v3/keys/device_signing/upload", a.uploadCrossSigning),
		route("POST", client+"/v3/keys/signatures/upload", a.uploadSignatures),
		route("PUT", unstable+dehydratedPath, a.putDehydrated),
		route("GET", unstable+dehydratedPath, a.dehydrated),
		route("DELETE", unstable+dehydratedPath, a.deleteDehydrated),
		large("GET", unstable+dehydratedPath+"/{deviceId}/events", a.dehydratedEvents),
		large("POST", unstable+dehydratedPath+"/{deviceId}/events", a.postDehydratedEvents),
		route("POST", client+"/v3/room_keys/version", a.createBackup),
		route("GET", client+"/v3/room_keys/version", a.backup),
		route("GET", client+"/v3/room_keys/version/{version}", a.backup),
		route("PUT", client+"/v3/room_keys/version/{version}", a.updateBackup),
		route("DELETE", client+"/v3/room_keys/version/{version}", a.deleteBackup),
		keys("PUT", client+"/v3/room_keys/keys", a.putRoomKeys),
		large("GET", client+"/v3/room_keys/keys", a.roomKeys),
		route("DELETE", client+"/v3/room_keys/keys", a.deleteRoomKeys),
		keys("PUT", client+"/v3/room_keys/keys/{roomId}", a.putRoomKeysOfRoom),
		large("GET", client+"/v3/room_keys/keys/{roomId}", a.roomKeysOfRoom),
		route("DELETE", client+"/v3/room_keys/keys/{roomId}", a.deleteRoomKeys),
		route("PUT", client+"/v3/room_keys/keys/{roomId}/{sessionId}", a.putRoomKey),
		route("GET", client+"/v3/room_keys/keys/{roomId}/{sessionId}", a.roomKey),
		route("DELETE", client+"/v3/room_keys/keys/{roomId}/{sessionId}", a.deleteRoomKeys),
	}
}

const client = "/_matrix/client"

// route is a line of the list for requests with an access token, without a limit of its own.
func route[T any](method, pattern string, f func(*http.Request) (T, error)) httpkit.Route {
	return limited(httpkit.LimitPlain, method, pattern, f)
}

// limited is a line of the list for requests with an access token and a limit class.
func limited[T any](limit httpkit.Limit, method, pattern string, f func(*http.Request) (T, error)) httpkit.Route {
	r := open(limit, method, pattern, f)
	r.Token = true
	return r
}

// large is a line of the list for requests whose answers may be large.
func large[T any](method, pattern string, f func(*http.Request) (T, error)) httpkit.Route {
	r := route(method, pattern, f)
	r.Large = func(*http.Request) bool { return true }
	return r
}

// syncs is a line of the list for syncs. Those without a token, and those with the full state, have large answers and
// don't wait.
func syncs[T any](method, pattern string, f func(*http.Request) (T, error)) httpkit.Route {
	r := limited(httpkit.LimitLongPoll, method, pattern, f)
	r.Large = func(r *http.Request) bool {
		query, err := httpkit.ParseQuery(r)
		return err == nil && (query.Get("since") == "" || query.Get("full_state") == "true")
	}
	return r
}

// slidingSyncs is a line of the list for sliding syncs. Those without a pos don't wait, and may have large answers; the accepted form has it in
// the body.
func slidingSyncs[T any](pattern string, f func(*http.Request) (T, error)) httpkit.Route {
	r := limited(httpkit.LimitLongPoll, "POST", pattern, f)
	r.Large = func(r *http.Request) bool {
		query, err := httpkit.ParseQuery(r)
		return err == nil && strings.Contains(pattern, "/unstable/") && query.Get("pos") == ""
	}
	return r
}

// open is a line of the list for requests that need no access token.
func open[T any](limit httpkit.Limit, method, pattern string, f func(*http.Request) (T, error)) httpkit.Route {
	return httpkit.Route{Method: method, Pattern: pattern, Handler: httpkit.Adapt(f), Limit: limit}
}

// keys is a line of the list for requests with many keys of a backup.
func keys[T any](method, pattern string, f func(*http.Request) (T, error)) httpkit.Route {
	r := route(method, pattern, f)
	r.MaxBody = maxKeysBody
	return r
}

// probe is a line of the list for requests that ask whether the server is there.
func probe[T any](method, pattern string, f func(*http.Request) (T, error)) httpkit.Route {
	r := fixed(method, pattern, f)
	r.Limit = httpkit.LimitProbe
	return r
}

// fixed is a line of the list for answers that only the settings decide.
func fixed[T any](method, pattern string, f func(*http.Request) (T, error)) httpkit.Route {
	r := open(httpkit.LimitPlain, method, pattern, f)
	r.NoBarrier = true
	return r
}

// homed is a line of the list for requests that write a room, which its home does:
// the path value names the room.
func homed[T any](room, method, pattern string, f func(*http.Request) (T, error)) httpkit.Route {
	r := route(method, pattern, f)
	r.Home = room
	return r
}

// LegacyRoutes are the v3 routes under r0, the prefix of clients from before
// version 1.1 of the specification, which many scripts still use.
func LegacyRoutes(routes []httpkit.Route) []httpkit.Route {
	var legacy []httpkit.Route
	for _, r := range routes {
		if rest, ok := strings.CutPrefix(r.Pattern, client+"/v3/"); ok {
			r.Pattern = client + "/r0/" + rest
			legacy = append(legacy, r)
		}
	}
	return legacy
}
