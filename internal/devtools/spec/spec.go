// Package spec is the pinned index of the Matrix specification: the names of its
// sections and the list of its client-server endpoints. It holds none of its
// text.
//
// It owns headings.txt and endpoints.json, which the tool specindex writes from
// a copy of the specification. It never reads that copy itself. It serves the
// checks of the repository only; the server does not know it.
//
// The invariant that matters: a reference in the code is right if and only if
// its section is in headings.txt.
package spec

import (
	_ "embed" // for the index
	"encoding/json"
	"regexp"
	"strings"
)

//go:embed headings.txt
var headings string

//go:embed endpoints.json
var endpoints []byte

// Endpoint is one endpoint of the client-server API.
type Endpoint struct {
	Method      string `json:"method"`
	Path        string `json:"path"` // with its base: /_matrix/client/v3/…
	OperationID string `json:"operation_id"`
	File        string `json:"file"` // of the specification's data/api/client-server, without .yaml
	Deprecated  bool   `json:"deprecated,omitempty"`
}

// Sections is the set of "page" and "page#section".
func Sections() map[string]bool {
	all := map[string]bool{}
	for line := range strings.Lines(headings) {
		section := strings.TrimSpace(line)
		if section == "" || strings.HasPrefix(section, "//") {
			continue
		}
		all[section] = true
		page, _, _ := strings.Cut(section, "#")
		all[page] = true
	}
	return all
}

// Endpoints lists the endpoints of the client-server API, by file.
func Endpoints() ([]Endpoint, error) {
	var all []Endpoint
	return all, json.Unmarshal(endpoints, &all)
}

// reference is "page#section", or a page where the comment says Spec: alone.
var reference = regexp.MustCompile(`\b(?:(?:client-server|server-server|application-service|identity-service|push-gateway)-api|appendices|olm-megolm(?:/[a-z]+)?|rooms(?:/v[0-9]+)?)(?:#[A-Za-z0-9_-]+)?`)

// hasSection finds what looks like a reference to any page.
var hasSection = regexp.MustCompile(`\S+#\S+`)

// References gives the references in a comment: those in the lines from one that
// begins with "Spec:" to the end of its paragraph. What looks like a reference
// to a page that does not exist is given too.
func References(comment string) []string {
	var all []string
	inside := false
	for line := range strings.Lines(comment) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "Spec:"); ok {
			inside, line = true, rest
		} else if at := strings.Index(line, " Spec: "); at >= 0 && !inside {
			inside, line = true, line[at:]
		}
		if line == "" {
			inside = false
		}
		if !inside {
			continue
		}
		found := reference.FindAllString(line, -1)
		for _, word := range hasSection.FindAllString(line, -1) {
			word = strings.Trim(word, ",.;()")
			if !reference.MatchString(word) {
				found = append(found, word)
			}
		}
		all = append(all, found...)
	}
	return all
}

// Request is what the specification says of the requests of an endpoint: names
// and types only.
type Request struct {
	Method     string      `json:"method"`
	Path       string      `json:"path"`
	Parameters []Parameter `json:"parameters,omitempty"`
	Body       *Schema     `json:"body,omitempty"` // nil: no JSON body
	Public     bool        `json:"public,omitempty"`
}

// Parameter is a value in a path or a query.
type Parameter struct {
	Name     string  `json:"name"`
	In       string  `json:"in"` // path or query
	Required bool    `json:"required,omitempty"`
	Schema   *Schema `json:"schema,omitempty"`
}

// Schema is a JSON schema without its words.
type Schema struct {
	Types      []string           `json:"types,omitempty"` // of JSON; any if empty
	Format     string             `json:"format,omitempty"`
	Enum       []any              `json:"enum,omitempty"`
	Required   []string           `json:"required,omitempty"`
	Properties map[string]*Schema `json:"properties,omitempty"`
	Values     *Schema            `json:"values,omitempty"` // of keys that are not in Properties
	Items      *Schema            `json:"items,omitempty"`
	Choices    []*Schema          `json:"choices,omitempty"` // one of these
}

//go:embed requests.json
var requests []byte

// Requests lists what is known of requests, in the order of Endpoints.
func Requests() ([]Request, error) {
	var all []Request
	return all, json.Unmarshal(requests, &all)
}
