package canonicaljson_test

import (
	"testing"

	"stoa/matrix/canonicaljson"
)

// TestAppend/… are the examples of the specification.
//
// Spec: appendices#examples
func TestAppend(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, want string }{
		"empty object":        {`{}`, `{}`},
		"removes space":       {"{\n    \"one\": 1,\n    \"two\": \"Two\"\n}", `{"one":1,"two":"Two"}`},
		"sorts keys":          {"{\n    \"b\": \"2\",\n    \"a\": \"1\"\n}", `{"a":"1","b":"2"}`},
		"sorts dense keys":    {`{"b":"2","a":"1"}`, `{"a":"1","b":"2"}`},
		"sorts nested keys":   {`{"auth":{"success":true,"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":[{"medium":"email","address":"john.doe@example.org"},{"medium":"msisdn","address":"123456789"}]}}}`, `{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":[{"address":"john.doe@example.org","medium":"email"},{"address":"123456789","medium":"msisdn"}]},"success":true}}`},
		"keeps UTF-8":         {`{"a": "日本語"}`, `{"a":"日本語"}`},
		"sorts by code point": {`{"本": 2, "日": 1}`, `{"日":1,"本":2}`},
		"decodes escapes":     {`{"a": "\u65E5"}`, `{"a":"日"}`},
		"keeps null":          {`{"a": null}`, `{"a":null}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := canonicaljson.Append(nil, []byte(c.in))
			if err != nil || string(got) != c.want {
				t.Fatalf("Append(%s) = %s, %v; want %s", c.in, got, err, c.want)
			}
		})
	}
}
