package httpkit

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"stoa/matrix/mxerr"
)

// Query is the query of a request. It is parsed in place, so a request without one costs
// nothing. Invalid values give M_INVALID_PARAM, missing required ones M_MISSING_PARAM.
type Query struct{ raw string }

// ParseQuery returns the query of r. An invalid escape or text that is not UTF-8 gives
// M_INVALID_PARAM.
func ParseQuery(r *http.Request) (Query, error) {
	q := Query{raw: r.URL.RawQuery}
	at := 0
	for rest := q.raw; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		at++
		if strings.IndexByte(pair, '%') < 0 && isText(pair) {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		for _, part := range [2]string{name, value} {
			text, err := url.QueryUnescape(part)
			if err != nil || !isText(text) {
				// The text itself may be an access token, and this reaches the log.
				return Query{}, mxerr.InvalidParam("The query is not valid: parameter %d is not escaped UTF-8 text", at)
			}
		}
	}
	return q, nil
}

// Has reports whether the query has the parameter, even if empty.
func (q Query) Has(name string) bool {
	_, ok := q.Lookup(name)
	return ok
}

// Get returns the first value of name, or "".
func (q Query) Get(name string) string {
	value, _ := q.Lookup(name)
	return value
}

// Lookup returns the first value of name, and whether there is one.
func (q Query) Lookup(name string) (string, bool) {
	for rest := q.raw; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		if key, value, _ := strings.Cut(pair, "="); unescape(key) == name && pair != "" {
			return unescape(value), true
		}
	}
	return "", false
}

// All returns every value of name, in order.
func (q Query) All(name string) []string {
	var all []string
	for rest := q.raw; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		if key, value, _ := strings.Cut(pair, "="); unescape(key) == name && pair != "" {
			all = append(all, unescape(value))
		}
	}
	return all
}

// unescape is for text that ParseQuery has checked.
func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	text, err := url.QueryUnescape(s)
	if err != nil { // impossible after ParseQuery
		return s
	}
	return text
}

// Required returns the value of name, which must exist and not be empty.
func (q Query) Required(name string) (string, error) {
	value := q.Get(name)
	if value == "" {
		return "", mxerr.MissingParam("The query parameter %s is missing", name)
	}
	return value, nil
}

// Int returns an integer from low to high, or absent if the query has no name.
func (q Query) Int(name string, absent, low, high int64) (int64, error) {
	value, ok := q.Lookup(name)
	if !ok {
		return absent, nil
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < low || n > high {
		return 0, mxerr.InvalidParam("The query parameter %s must be an integer from %d to %d", name, low, high)
	}
	return n, nil
}

// Limit returns the size of a page: an integer of at least 1, reduced to high if it is
// larger; absent if the query has no name.
func (q Query) Limit(name string, absent, high int) (int, error) {
	value, ok := q.Lookup(name)
	if !ok {
		return absent, nil
	}
	n, err := strconv.ParseUint(value, 10, 63)
	if err != nil || n == 0 {
		return 0, mxerr.InvalidParam("The query parameter %s must be a positive integer", name)
	}
	return int(min(n, uint64(high))), nil
}

// Bool returns true or false, or absent if the query has no name.
func (q Query) Bool(name string, absent bool) (bool, error) {
	value, ok := q.Lookup(name)
	if !ok {
		return absent, nil
	}
	switch value {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, mxerr.InvalidParam("The query parameter %s must be true or false", name)
}

// Enum returns one of the allowed values, or the first of them if the query has no name.
func (q Query) Enum(name string, allowed ...string) (string, error) {
	value, ok := q.Lookup(name)
	if !ok {
		return allowed[0], nil
	}
	if !slices.Contains(allowed, value) {
		return "", mxerr.InvalidParam("The query parameter %s must be one of %s", name, strings.Join(allowed, ", "))
	}
	return value, nil
}
