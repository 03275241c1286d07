package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"

	"stoa/internal/devtools/spec"
)

// breaker is one way in which the requests of an endpoint can be malformed, and
// how that must be answered.
type breaker struct {
	kind     string
	what     string
	statuses []int
	errcodes []string
	make     func(*rand.Rand) call
}

// The errcodes with which a kind may be refused.
var (
	notJSON    = []string{"M_NOT_JSON"}
	badJSON    = []string{"M_BAD_JSON"}
	badValue   = []string{"M_BAD_JSON", "M_INVALID_PARAM"}
	missing    = []string{"M_BAD_JSON", "M_MISSING_PARAM", "M_INVALID_PARAM"}
	badChoice  = []string{"M_BAD_JSON", "M_INVALID_PARAM", "M_UNRECOGNIZED", "M_UNSUPPORTED_ROOM_VERSION"}
	tooLarge   = []string{"M_TOO_LARGE"}
	badName    = []string{"M_INVALID_PARAM", "M_BAD_JSON", "M_NOT_FOUND", "M_FORBIDDEN", "M_INVALID_USERNAME"}
	onlyBad    = []int{400}
	badOrThere = []int{400, 403, 404}
)

// isOpen says whether values outside an enumeration are taken on purpose: deployed
// clients use push rules of kinds, and key backups of algorithms, that the
// specification does not name, and get them back as sent.
func isOpen(r spec.Request, name string) bool {
	return name == "kind" && strings.Contains(r.Path, "/pushrules/") || name == "algorithm" && strings.Contains(r.Path, "/room_keys/version")
}

// breakersOf lists the ways for an endpoint. What an endpoint does not read
// can't be malformed.
func breakersOf(r spec.Request, h *fixture) []breaker {
	var all []breaker
	if r.Body != nil {
		all = append(all, bodyBreakers(r, h)...)
	}
	for _, p := range r.Parameters {
		all = append(all, parameterBreakers(r, h, p)...)
	}
	return all
}

func bodyBreakers(r spec.Request, h *fixture) []breaker {
	send := func(text string) func(*rand.Rand) call {
		return func(*rand.Rand) call {
			path, _ := h.path(r, "", "")
			return call{r.Method, path, []byte(text)}
		}
	}
	var all []breaker
	for _, bad := range []string{"{", "nonsense", `{"a":}`, `{'a':1}`, "{}{}", `{"a":1,}`, "{\"a\":\"\xff\"}", "\x00", `{"a":01}`} {
		all = append(all, breaker{"not JSON", fmt.Sprintf("%q", bad), onlyBad, notJSON, send(bad)})
	}
	for _, bad := range []string{"[]", "null", "true", "5", `"text"`} {
		all = append(all, breaker{"wrong top level", bad, onlyBad, badJSON, send(bad)})
	}
	small := body(r, nil, h)
	object, ok := small.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	text := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err) // made of maps and texts
		}
		return string(b)
	}
	rest := strings.TrimPrefix(text(object), "{")
	join := ","
	if rest == "}" {
		join = ""
	}
	all = append(all,
		breaker{"duplicate keys", "the same key twice", onlyBad, badJSON, send(`{"zz":1,"zz":2` + join + rest)},
		breaker{"duplicate keys", "the same key twice, further in", onlyBad, badJSON, send(`{"zz":{"a":1,"a":1}` + join + rest)},
		breaker{"depth", "objects in objects", onlyBad, badJSON, send(`{"zz":` + strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200) + join + rest)},
		breaker{"depth", "lists in lists", onlyBad, badJSON, send(`{"zz":` + strings.Repeat(`[`, 5000) + strings.Repeat("]", 5000) + join + rest)},
		breaker{"over a limit", "a body of 64 MiB", []int{413}, tooLarge, send(`{"zz":"` + strings.Repeat("x", 64<<20) + `"` + join + rest)},
	)
	if isEvent(r) {
		all = append(all,
			breaker{"over a limit", "an event of 70 KiB", []int{413}, tooLarge, send(`{"body":"` + strings.Repeat("x", 70<<10) + `","msgtype":"m.text","topic":"t"}`)},
			breaker{"floats in events", "a fraction", onlyBad, badJSON, send(`{"body":"a","msgtype":"m.text","topic":"t","zz":1.5}`)},
			breaker{"floats in events", "a number that is too great", onlyBad, badJSON, send(`{"body":"a","msgtype":"m.text","topic":"t","zz":9007199254740993}`)},
			breaker{"floats in events", "an exponent, further in", onlyBad, badJSON, send(`{"body":"a","msgtype":"m.text","topic":"t","zz":[{"a":1e300}]}`)},
		)
	}
	first := len(all)
	walk(r.Body, nil, 0, func(place []string, s *spec.Schema, required bool) {
		where := strings.Join(place, ".")
		// What is not needed is left out, so that nothing else is looked at first.
		right := body(r, place, h)
		if required {
			all = append(all, breaker{"a required property is missing", where, onlyBad, missing, send(text(without(right, place)))})
		}
		if len(s.Types) > 0 {
			all = append(all, breaker{"a property of the wrong type", where, onlyBad, badValue, func(rnd *rand.Rand) call {
				return send(text(with(right, place, wrongType(s, rnd))))(rnd)
			}})
		}
		if len(s.Enum) > 0 && !isOpen(r, where) {
			all = append(all, breaker{"outside its enumeration", where, onlyBad, badChoice, send(text(with(right, place, "no_such_value")))})
		}
		if bad := badIdentifiers(s.Format); bad != nil {
			all = append(all, breaker{"outside its grammar", where, badOrThere, badName, func(rnd *rand.Rand) call {
				return send(text(with(right, place, bad[rnd.IntN(len(bad))])))(rnd)
			}})
		}
	})
	for i := range all[first:] {
		allowRefusals(r, &all[first+i])
	}
	return all
}

// allowRefusals adds the answers of what this server refuses whatever its form:
// it has no identity server, so an invitation by address is refused as such.
func allowRefusals(r spec.Request, b *breaker) {
	byAddress := strings.HasPrefix(b.what, "invite_3pid") || strings.HasSuffix(r.Path, "/invite")
	if byAddress {
		b.statuses = append(slices.Clone(b.statuses), 403)
		b.errcodes = append(slices.Clone(b.errcodes), "M_THREEPID_DENIED")
	}
}

// isEvent says whether the body is the content of an event.
func isEvent(r spec.Request) bool {
	return strings.Contains(r.Path, "/send/") || r.Method == "PUT" && strings.Contains(r.Path, "/state/")
}

func parameterBreakers(r spec.Request, h *fixture, p spec.Parameter) []breaker {
	content := []byte(nil)
	if r.Body != nil {
		text, err := json.Marshal(body(r, nil, h))
		if err != nil {
			panic(err) // made of maps and texts
		}
		content = text
	}
	broken := func(kind, what string, statuses []int, errcodes []string, values ...string) breaker {
		return breaker{kind, p.In + " " + p.Name + ": " + what, statuses, errcodes, func(rnd *rand.Rand) call {
			path, _ := h.path(r, p.Name, values[rnd.IntN(len(values))])
			return call{r.Method, path, content}
		}}
	}
	all := []breaker{broken("outside its grammar", "not UTF-8, or NUL", onlyBad, []string{"M_INVALID_PARAM"}, "%FF", "a%00b", "%C3%28")}
	if p.Schema == nil {
		return all
	}
	var bad []string
	for _, b := range badIdentifiers(p.Schema.Format) {
		if b, isText := b.(string); isText && b != "" { // an empty value is another path
			bad = append(bad, url.PathEscape(b))
		}
	}
	if bad != nil {
		all = append(all, broken("outside its grammar", p.Schema.Format, badOrThere, badName, bad...))
	}
	if len(p.Schema.Enum) > 0 && !isOpen(r, p.Name) {
		statuses := onlyBad
		if p.In == "path" {
			statuses = badOrThere
		}
		all = append(all, broken("outside its enumeration", "no such value", statuses, append(slices.Clone(badName), badChoice...), "no_such_value", "1"))
	}
	if p.In == "query" && slices.Contains(p.Schema.Types, "integer") {
		all = append(all, broken("a property of the wrong type", "not an integer", onlyBad, []string{"M_INVALID_PARAM"}, "abc", "1.5", "99999999999999999999999", "0x10"))
	}
	if p.In == "query" && slices.Contains(p.Schema.Types, "boolean") {
		all = append(all, broken("a property of the wrong type", "not a boolean", onlyBad, []string{"M_INVALID_PARAM"}, "maybe", "2", "TRUE"))
	}
	// Without room_id, /events is another endpoint of the specification.
	if p.In == "query" && p.Required && p.Name != "room_id" {
		all = append(all, breaker{"a required property is missing", "query " + p.Name, onlyBad, missing, func(*rand.Rand) call {
			path, _ := h.path(r, "", "")
			path, _, _ = strings.Cut(path, "?")
			return call{r.Method, path, content}
		}})
	}
	return all
}

// badIdentifiers are texts outside of the grammar of a format; nil if it is none
// that the specification gives a grammar.
func badIdentifiers(format string) []any {
	long := strings.Repeat("x", 300)
	switch format {
	case "mx-user-id":
		return []any{"nonsense", "@", "@:", "@a", "@a:", "a:bad.test", "@" + long + ":bad.test", "@a:not a server", "#a:bad.test"}
	case "mx-room-id":
		return []any{"nonsense", "!", "!" + long, "#a:bad.test", "@a:bad.test", "$a"}
	case "mx-event-id":
		return []any{"nonsense", "$", "$" + long, "!a:bad.test"}
	case "mx-room-alias":
		return []any{"nonsense", "#", "#a", "#" + long + ":bad.test", "!a:bad.test"}
	}
	return nil
}
