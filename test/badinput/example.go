package main

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"stoa/internal/devtools/spec"
)

// deepestExample bounds schemas that hold themselves.
const deepestExample = 6

// body is a right body of an endpoint: what its schema asks for and, at place,
// what is to be broken.
func body(r spec.Request, place []string, h *fixture) any {
	right := example(r.Body, 0, place, h)
	if object, ok := right.(map[string]any); ok && strings.HasSuffix(r.Path, "/v3/login") {
		object["type"] = "m.login.password" // a schema can't say which there are
	}
	if object, ok := right.(map[string]any); ok && strings.HasSuffix(r.Path, "/v3/account/password") {
		object["new_password"] = "long enough for all" // nor how long a password is
	}
	if object, ok := right.(map[string]any); ok && strings.HasSuffix(r.Path, "/v3/pushers/set") {
		maps.Copy(object, map[string]any{"kind": "http", "app_display_name": "App", "device_display_name": "Phone", "lang": "en"})
		data, ok := object["data"].(map[string]any)
		if !ok {
			data = map[string]any{}
		}
		data["url"] = "https://bad.test/_matrix/push/v1/notify"
		object["data"] = data
	}
	return right
}

// example is a right value of a schema: with what is required, and with what is
// on the way to place.
func example(s *spec.Schema, depth int, place []string, h *fixture) any {
	switch {
	case s == nil || depth > deepestExample:
		return map[string]any{}
	case len(s.Enum) > 0:
		return s.Enum[0]
	case len(s.Types) == 0 && len(s.Choices) > 0:
		return example(s.Choices[len(s.Choices)-1], depth+1, place, h)
	}
	switch kindOf(s) {
	case "object":
		object := map[string]any{}
		for name, p := range s.Properties {
			var next []string
			if len(place) > 0 && place[0] == name {
				next = place[1:]
			} else if !slices.Contains(s.Required, name) {
				continue
			}
			object[name] = example(p, depth+1, next, h)
		}
		if s.Values != nil && len(s.Properties) == 0 && len(place) > 0 {
			object["x"] = example(s.Values, depth+1, place[1:], h)
		}
		return object
	case "array":
		if len(place) > 0 {
			place = place[1:]
		}
		return []any{example(s.Items, depth+1, place, h)}
	case "integer", "number":
		return 1
	case "boolean":
		return true
	}
	switch s.Format {
	case "mx-user-id":
		return h.values["userId"]
	case "mx-room-id":
		return h.values["roomId"]
	case "mx-event-id":
		return h.values["eventId"]
	case "mx-room-alias":
		return h.values["roomAlias"]
	case "mx-server-name":
		return "bad.test"
	case "mx-mxc-uri":
		return "mxc://bad.test/media"
	case "uri":
		return "https://bad.test/"
	case "email":
		return "alice@bad.test"
	}
	return "text"
}

func kindOf(s *spec.Schema) string {
	for _, t := range s.Types {
		if t != "null" {
			return t
		}
	}
	if len(s.Properties) > 0 || s.Values != nil {
		return "object"
	}
	return "string"
}

// walk visits the properties of a body, with the place of each.
func walk(s *spec.Schema, place []string, depth int, visit func(place []string, s *spec.Schema, required bool)) {
	if s == nil || depth > deepestExample {
		return
	}
	names := slices.Sorted(maps.Keys(s.Properties))
	for _, name := range names {
		p := s.Properties[name]
		if p == nil {
			continue
		}
		at := append(slices.Clone(place), name)
		visit(at, p, slices.Contains(s.Required, name))
		walk(p, at, depth+1, visit)
	}
	if s.Values != nil && len(s.Properties) == 0 {
		at := append(slices.Clone(place), "x")
		if len(s.Values.Choices) == 0 {
			visit(at, s.Values, false)
		}
		walk(s.Values, at, depth+1, visit)
	}
	if kindOf(s) == "array" && s.Items != nil {
		at := append(slices.Clone(place), "0")
		if len(s.Items.Choices) == 0 {
			visit(at, s.Items, false)
		}
		walk(s.Items, at, depth+1, visit)
	}
}

// with gives a copy of a value in which the place holds something else.
func with(value any, place []string, by any) any {
	if len(place) == 0 {
		return by
	}
	switch v := value.(type) {
	case map[string]any:
		c := maps.Clone(v)
		c[place[0]] = with(v[place[0]], place[1:], by)
		return c
	case []any:
		c := slices.Clone(v)
		c[0] = with(v[0], place[1:], by)
		return c
	}
	return value
}

// without gives a copy of a value that lacks the place.
func without(value any, place []string) any {
	switch v := value.(type) {
	case map[string]any:
		c := maps.Clone(v)
		if len(place) == 1 {
			delete(c, place[0])
		} else {
			c[place[0]] = without(v[place[0]], place[1:])
		}
		return c
	case []any:
		c := slices.Clone(v)
		if len(place) > 1 {
			c[0] = without(v[0], place[1:])
		}
		return c
	}
	return value
}

// wrongType is a value of none of the schema's types.
func wrongType(s *spec.Schema, rnd *rand.Rand) any {
	all := []struct {
		of    []string
		value any
	}{
		{[]string{"string"}, "text"}, {[]string{"integer", "number"}, 5}, {[]string{"boolean"}, true},
		{[]string{"array"}, []any{}}, {[]string{"object"}, map[string]any{}},
	}
	var wrong []any
	for _, one := range all {
		if !slices.ContainsFunc(one.of, func(t string) bool { return slices.Contains(s.Types, t) }) {
			wrong = append(wrong, one.value)
		}
	}
	return wrong[rnd.IntN(len(wrong))]
}
