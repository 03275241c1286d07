package config

import (
	"fmt"
	"strings"
)

// TURNURIs are the addresses of TURN and STUN servers, as clients get them.
type TURNURIs []string

// UnmarshalText reads addresses separated by commas or spaces.
func (u *TURNURIs) UnmarshalText(text []byte) error {
	*u = nil
	for _, uri := range strings.FieldsFunc(string(text), func(r rune) bool { return r == ',' || r == ' ' }) {
		scheme, rest, _ := strings.Cut(uri, ":")
		switch scheme {
		case "turn", "turns", "stun", "stuns":
		default:
			rest = ""
		}
		if rest == "" || strings.HasPrefix(rest, "/") {
			return fmt.Errorf("%q must be an address such as turn:turn.example.org:3478?transport=udp", uri)
		}
		*u = append(*u, uri)
	}
	return nil
}

// checkCalls makes the checks of settings for calls.
func (c *Config) checkCalls(bad func(string, ...any)) {
	if (len(c.TURNURIs) == 0) != (c.TURNSecret == "") {
		bad("turn_uris: turn_uris and turn_secret need each other")
	}
	if c.RTCLiveKitURL != "" && !isAddress(c.RTCLiveKitURL) {
		bad("rtc_livekit_url: %q must be an http:// or https:// address, such as https://rtc.example.org", c.RTCLiveKitURL)
	}
}
