package main

import "stoa/internal/devtools/spec"

// unstable are the requests of endpoints that are not in the specification yet, in the form of its index.
func unstable() []spec.Request {
	text := &spec.Schema{Types: []string{"string"}}
	object := &spec.Schema{Types: []string{"object"}}
	inPath := func(name string) spec.Parameter {
		return spec.Parameter{Name: name, In: "path", Required: true, Schema: text}
	}
	inQuery := func(name, kind string) spec.Parameter {
		return spec.Parameter{Name: name, In: "query", Schema: &spec.Schema{Types: []string{kind}}}
	}
	fields := func(required []string, properties map[string]*spec.Schema) *spec.Schema {
		return &spec.Schema{Types: []string{"object"}, Required: required, Properties: properties}
	}
	const dehydrated = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"
	return []spec.Request{
		{Method: "PUT", Path: dehydrated, Body: fields([]string{"device_id", "device_data", "device_keys"}, map[string]*spec.Schema{
			"device_id": text, "initial_device_display_name": text,
			"device_data": fields([]string{"algorithm"}, map[string]*spec.Schema{"algorithm": text}),
			"device_keys": fields([]string{"user_id", "device_id", "algorithms", "keys", "signatures"}, map[string]*spec.Schema{
				"user_id": {Types: []string{"string"}, Format: "mx-user-id"}, "device_id": text,
				"algorithms": {Types: []string{"array"}, Items: text}, "keys": {Types: []string{"object"}, Values: text}, "signatures": object,
			}),
			"one_time_keys": {Types: []string{"object"}, Values: object}, "fallback_keys": {Types: []string{"object"}, Values: object},
		})},
		{Method: "POST", Path: dehydrated + "/{deviceId}/events", Parameters: []spec.Parameter{inPath("deviceId"), inQuery("limit", "integer")},
			Body: fields(nil, map[string]*spec.Schema{"next_batch": text})},
		{Method: "GET", Path: dehydrated + "/{deviceId}/events", Parameters: []spec.Parameter{inPath("deviceId"), inQuery("limit", "integer")}},
	}
}
