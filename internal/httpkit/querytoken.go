package httpkit

import (
	"net/http"
	"net/url"
	"strings"

	"stoa/matrix/mxerr"
)

// queryTokenName is the parameter in which old clients send their access token.
const queryTokenName = "access_token"

// takeQueryToken takes access tokens out of the query of a request, whoever serves it
// and whatever becomes of it: nobody after this can log one, or pass it on in an
// address. Where they are accepted, the token is put into the header.
//
// The header wins. M_UNKNOWN_TOKEN if there is another token in it, or if the query
// has two.
//
// Spec: client-server-api#using-access-tokens
func (m *Mux) takeQueryToken(r *http.Request) error {
	rest, tokens := removeQueryTokens(r.URL.RawQuery)
	if len(tokens) == 0 {
		return nil
	}
	r.URL.RawQuery = rest
	r.RequestURI = r.URL.RequestURI()
	if !m.queryTokens {
		return nil
	}
	m.metrics.queryTokens.Add(1)
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

// removeQueryTokens gives a query without its access tokens, and those that are not
// empty. One whose escapes are broken is given as it stands: it is nobody's.
func removeQueryTokens(query string) (rest string, tokens []string) {
	if !strings.Contains(query, "token") && !strings.Contains(query, "%") {
		return query, nil // as nearly every one
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

// BearerToken is the access token in the header of a request, or "". One in the
// query has been put there, where that is accepted.
func BearerToken(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
