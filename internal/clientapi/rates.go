package clientapi

import (
	"net/http"
	"strings"

	"stoa/internal/httpkit"
)

// rateOf says what a request of a route counts against, by the end of its pattern. Reads have no limit but the slots of their user.
func rateOf(r httpkit.Route) httpkit.Rate {
	path, isClient := strings.CutPrefix(r.Pattern, client+"/v3")
	switch {
	case r.Limit == httpkit.LimitLookup:
		return httpkit.RateLookup
	case r.Pattern == unstable+dehydratedPath && r.Method != http.MethodGet:
		return httpkit.RateWrite
	case !isClient || !r.Token:
		return httpkit.RateNone
	case path == "/user_directory/search" || path == "/publicRooms" || path == "/search":
		return httpkit.RateSearch
	case r.Method == http.MethodGet, strings.HasPrefix(path, "/logout"), path == "/keys/query", path == "/keys/claim":
		return httpkit.RateNone
	case path == "/createRoom" || strings.HasSuffix(path, "/upgrade"):
		return httpkit.RateCreate
	case strings.HasPrefix(path, "/sendToDevice/"):
		return httpkit.RateToDevice
	case strings.HasPrefix(path, "/join/"), strings.HasPrefix(path, "/knock/"):
		return httpkit.RateJoin
	case strings.HasPrefix(path, "/presence/"):
		return httpkit.RateNotice
	case !strings.HasPrefix(path, "/rooms/"):
		return httpkit.RateWrite
	}
	_, act, _ := strings.Cut(strings.TrimPrefix(path, "/rooms/"), "/")
	switch act, _, _ = strings.Cut(act, "/"); act {
	case "typing", "receipt", "read_markers":
		return httpkit.RateNotice
	case "join", "leave", "forget":
		return httpkit.RateJoin
	case "report":
		return httpkit.RateWrite
	case "invite":
		return httpkit.RateInvite
	default:
		return httpkit.RateSend
	}
}

// WithRates gives the routes with what they count against of their users.
func WithRates(routes []httpkit.Route) []httpkit.Route {
	for i := range routes {
		routes[i].Rate = rateOf(routes[i])
	}
	return routes
}
