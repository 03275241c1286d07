package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"stoa/internal/devtools/spec"
)

// deepest bounds schemas that hold themselves.
const deepest = 8

// documents reads the files of the specification, which refer to each other.
type documents map[string]any

func (d documents) load(file string) (any, error) {
	if doc, ok := d[file]; ok {
		return doc, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var doc any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	d[file] = doc
	return doc, nil
}

// follow gives what a $ref leads to, and the file it stands in.
func (d documents) follow(file string, node any) (string, map[string]any, error) {
	for range deepest {
		m, _ := node.(map[string]any)
		ref, ok := m["$ref"].(string)
		if !ok {
			return file, m, nil
		}
		target, pointer, _ := strings.Cut(ref, "#")
		if target != "" {
			file = filepath.Join(filepath.Dir(file), target)
		}
		doc, err := d.load(file)
		if err != nil {
			return "", nil, err
		}
		node = doc
		for _, part := range strings.Split(strings.Trim(pointer, "/"), "/") {
			if part == "" {
				continue
			}
			m, _ := node.(map[string]any)
			if node, ok = m[part]; !ok {
				return "", nil, fmt.Errorf("%s has no %s", file, pointer)
			}
		}
	}
	return "", nil, fmt.Errorf("%s: references go in circles", file)
}

// readRequests gives the requests of the endpoints, in their order.
func readRequests(folder string, endpoints []spec.Endpoint) ([]spec.Request, error) {
	d := documents{}
	all := make([]spec.Request, 0, len(endpoints))
	for _, e := range endpoints {
		file := filepath.Join(folder, e.File+".yaml")
		base, _, err := readAPI(file)
		if err != nil {
			return nil, err
		}
		doc, err := d.load(file)
		if err != nil {
			return nil, err
		}
		paths, _ := doc.(map[string]any)["paths"].(map[string]any)
		for path, node := range paths {
			if strings.TrimSpace(base+path) != e.Path {
				continue
			}
			item, _ := node.(map[string]any)
			r, err := d.request(file, item, strings.ToLower(e.Method))
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", e.Method, e.Path, err)
			}
			r.Method, r.Path = e.Method, e.Path
			all = append(all, r)
		}
	}
	return all, nil
}

func (d documents) request(file string, item map[string]any, method string) (r spec.Request, err error) {
	op, _ := item[method].(map[string]any)
	_, secured := op["security"]
	r.Public = !secured
	shared, _ := item["parameters"].([]any)
	own, _ := op["parameters"].([]any)
	for _, node := range slices.Concat(shared, own) {
		at, p, err := d.follow(file, node)
		if err != nil {
			return r, err
		}
		schema, err := d.schema(at, p["schema"], 0)
		if err != nil {
			return r, err
		}
		name, _ := p["name"].(string)
		in, _ := p["in"].(string)
		required, _ := p["required"].(bool)
		if in == "path" || in == "query" {
			r.Parameters = append(r.Parameters, spec.Parameter{Name: name, In: in, Required: required, Schema: schema})
		}
	}
	at, body, err := d.follow(file, op["requestBody"])
	if err != nil {
		return r, err
	}
	content, _ := body["content"].(map[string]any)
	if media, ok := content["application/json"].(map[string]any); ok {
		r.Body, err = d.schema(at, media["schema"], 0)
	}
	return r, err
}

// schema keeps of a schema what can be broken.
func (d documents) schema(file string, node any, depth int) (*spec.Schema, error) {
	if node == nil || depth > deepest {
		return nil, nil
	}
	file, m, err := d.follow(file, node)
	if err != nil {
		return nil, err
	}
	s := &spec.Schema{}
	switch t := m["type"].(type) {
	case string:
		s.Types = []string{t}
	case []any:
		for _, one := range t {
			s.Types = append(s.Types, fmt.Sprint(one))
		}
	}
	s.Format, _ = m["format"].(string)
	s.Enum, _ = m["enum"].([]any)
	required, _ := m["required"].([]any)
	for _, name := range required {
		s.Required = append(s.Required, fmt.Sprint(name))
	}
	properties, _ := m["properties"].(map[string]any)
	for name, p := range properties {
		if s.Properties == nil {
			s.Properties = map[string]*spec.Schema{}
		}
		if s.Properties[name], err = d.schema(file, p, depth+1); err != nil {
			return nil, err
		}
	}
	if values, ok := m["additionalProperties"].(map[string]any); ok {
		if s.Values, err = d.schema(file, values, depth+1); err != nil {
			return nil, err
		}
	}
	if s.Items, err = d.schema(file, m["items"], depth+1); err != nil {
		return nil, err
	}
	for _, key := range []string{"oneOf", "anyOf"} {
		choices, _ := m[key].([]any)
		for _, c := range choices {
			choice, err := d.schema(file, c, depth+1)
			if err != nil {
				return nil, err
			}
			s.Choices = append(s.Choices, choice)
		}
	}
	parts, _ := m["allOf"].([]any)
	for _, p := range parts {
		part, err := d.schema(file, p, depth+1)
		if err != nil {
			return nil, err
		}
		join(s, part)
	}
	return s, nil
}

// join adds what a part of allOf asks for.
func join(s, part *spec.Schema) {
	if part == nil {
		return
	}
	if s.Types == nil {
		s.Types = part.Types
	}
	if s.Values == nil {
		s.Values = part.Values
	}
	for name, p := range part.Properties {
		if s.Properties == nil {
			s.Properties = map[string]*spec.Schema{}
		}
		if s.Properties[name] == nil {
			s.Properties[name] = p
		}
	}
	for _, name := range part.Required {
		if !slices.Contains(s.Required, name) {
			s.Required = append(s.Required, name)
		}
	}
	s.Choices = append(s.Choices, part.Choices...)
}
