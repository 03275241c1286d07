package httpkit

import (
	"net/http"
	"net/url"
	"strings"

	"stoa/matrix/mxerr"
)

// queryTokenName is the parameter in which old clients send their access token.
const queryTokenName = "access_token"

// takeQueryToken removes access tokens from the query of every request, so that no later
// code can log one or pass it on in a URL. If QueryTokens accepts them, or the route has
// one as its parameter, it moves the token into the header.
//
// The header takes precedence. If it has another token, or if the query has two, the
// error is M_UNKNOWN_TOKEN.
//
// Spec: client-server-api#using-access-tokens
func (m *Mux) takeQueryToken(r *http.Request, isParameter bool) error {
	rest, tokens := removeQueryTokens(r.URL.RawQuery)
	if len(tokens) == 0 {
		return nil
	}
	r.URL.RawQuery = rest
	r.RequestURI = r.URL.RequestURI()
	switch {
	case isParameter:
	case !m.queryTokens:
		return nil
	default:
		m.metrics.queryTokens.Add(1)
	}
	if in := BearerToken(r); in != "" {
		tokens = append(tokens, in)
	}
	for _, other := range tokens[1:] {
		if other != tokens[0] {
			return mxerr.UnknownToken(false)
		}
	}
	r.Header["Authorization"] = []string{"Bearer " + tokens[0]}
	return nil
}

// removeQueryTokens returns a query without its access tokens, and the tokens that are
// not empty. A parameter with invalid escapes stays, since it is not a token.
func removeQueryTokens(query string) (rest string, tokens []string) {
	if !strings.Contains(query, "token") && !strings.Contains(query, "%") {
		return query, nil // as nearly always
	}
	pairs := strings.Split(query, "&")
	kept := pairs[:0]
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		if unescape(name) != queryTokenName {
			kept = append(kept, pair)
			continue
		}
		if text, err := url.QueryUnescape(value); err == nil {
			value = text
		}
		if value != "" {
			tokens = append(tokens, value)
		}
	}
	return strings.Join(kept, "&"), tokens
}

// BearerToken is the access token in the header of a request, or "". If tokens in the
// query are accepted, they have been moved to the header.
func BearerToken(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
