package canonicaljson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"stoa/matrix/canonicaljson"
)

// Spec: appendices#examples
func TestAppend(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, want string }{
		// the examples of the specification
		"keeps the empty object":   {`{}`, `{}`},
		"removes space":            {"{\n    \"one\": 1,\n    \"two\": \"Two\"\n}", `{"one":1,"two":"Two"}`},
		"sorts keys":               {"{\n    \"b\": \"2\",\n    \"a\": \"1\"\n}", `{"a":"1","b":"2"}`},
		"sorts keys without space": {`{"b":"2","a":"1"}`, `{"a":"1","b":"2"}`},
		"sorts nested keys":        {`{"auth":{"success":true,"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":[{"medium":"email","address":"john.doe@example.org"},{"medium":"msisdn","address":"123456789"}]}}}`, `{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":[{"address":"john.doe@example.org","medium":"email"},{"address":"123456789","medium":"msisdn"}]},"success":true}}`},
		"keeps UTF-8":              {`{"a": "日本語"}`, `{"a":"日本語"}`},
		"sorts by code point":      {`{"本": 2, "日": 1}`, `{"日":1,"本":2}`},
		"decodes escapes":          {`{"a": "\u65E5"}`, `{"a":"日"}`},
		"keeps null":               {`{"a": null}`, `{"a":null}`},
		// what the grammar says beyond them
		"keeps the short escapes":            {`"\b\t\n\f\r\"\\"`, `"\b\t\n\f\r\"\\"`},
		"shortens long escapes":              {`"\u0008\u0009\u000a\u000c\u000d\u0022\u005c"`, `"\b\t\n\f\r\"\\"`},
		"keeps other control escapes":        {`"\u0000\u0001\u000b\u000E\u001F"`, `"\u0000\u0001\u000b\u000e\u001f"`},
		"unescapes the slash":                {`"\/"`, `"/"`},
		"unescapes DEL":                      {`"\u007f"`, "\"\x7f\""},
		"joins surrogates":                   {`"\ud83d\uDE00"`, `"😀"`},
		"sorts keys, not their text":         {`{"\"":1,"!":2,"#":3,"\u0000":4}`, `{"\u0000":4,"!":2,"\"":1,"#":3}`},
		"sorts beyond the BMP by code point": {"{\"\U00010000\":1,\"\uffff\":2}", "{\"\uffff\":2,\"\U00010000\":1}"},
		"sorts a prefix first":               {`{"ab":1,"a":2,"":3}`, `{"":3,"a":2,"ab":1}`},
		"sorts objects in arrays":            {`[{"b":1,"a":2},[ {"d":1,"c":{"f":1,"e":2}} ]]`, `[{"a":2,"b":1},[{"c":{"e":2,"f":1},"d":1}]]`},
		"keeps empty arrays":                 {`[ ]`, `[]`},
		"takes the greatest integer":         {`9007199254740991`, `9007199254740991`},
		"takes the least integer":            {`-9007199254740991`, `-9007199254740991`},
		"takes zero":                         {`0`, `0`},
		"takes a text of one value":          {" true ", `true`},
		"takes the deepest nesting":          {strings.Repeat("[", 100) + strings.Repeat("]", 100), strings.Repeat("[", 100) + strings.Repeat("]", 100)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for form, f := range map[string]func(dst, src []byte) ([]byte, error){
				"Append": canonicaljson.Append, "AppendLoose": canonicaljson.AppendLoose, "AppendShortest": canonicaljson.AppendShortest,
			} {
				got, err := f([]byte("before"), []byte(c.in))
				if err != nil || string(got) != "before"+c.want {
					t.Errorf("%s(%s) = %s, %v; want %s", form, c.in, got, err, c.want)
				}
			}
			if err := canonicaljson.Check([]byte(c.in)); err != nil {
				t.Errorf("Check(%s): %v", c.in, err)
			}
		})
	}
}

// Spec: appendices#canonical-json, rooms/v6#canonical-json
func TestNumbers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, loose, shortest string }{
		"a float":                       {`1.5`, `1.5`, `1.5`},
		"a float that is longer":        {`1.50`, `1.50`, `1.5`},
		"a float that is whole":         {`1.0`, `1.0`, `1.0`},
		"an exponent":                   {`1e10`, `10000000000`, `10000000000`},
		"a great exponent":              {`1e20`, `1e20`, `1e+20`},
		"a small float":                 {`0.00001`, `0.00001`, `1e-05`},
		"a float with exponent":         {`1.5E+2`, `1.5E+2`, `150.0`},
		"a negative exponent":           {`15e-1`, `15e-1`, `1.5`},
		"negative zero":                 {`-0`, `0`, `0`},
		"negative zero with a fraction": {`-0.0`, `-0.0`, `-0.0`},
		"2^53":                          {`9007199254740992`, `9007199254740992`, `9007199254740992`},
		"-2^53":                         {`-9007199254740992`, `-9007199254740992`, `-9007199254740992`},
		"an integer of 30 digits":       {`123456789012345678901234567890`, `123456789012345678901234567890`, `123456789012345678901234567890`},
		"what no double holds":          {`1e400`, `1e400`, ``},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var e *canonicaljson.Error
			if _, err := canonicaljson.Append(nil, []byte(c.in)); !errors.As(err, &e) {
				t.Errorf("Append(%s): %v", c.in, err)
			}
			if got, err := canonicaljson.AppendLoose(nil, []byte(c.in)); string(got) != c.loose {
				t.Errorf("AppendLoose(%s) = %s, %v; want %s", c.in, got, err, c.loose)
			}
			if got, err := canonicaljson.AppendShortest(nil, []byte(c.in)); string(got) != c.shortest || (err == nil) != (c.shortest != "") {
				t.Errorf("AppendShortest(%s) = %s, %v; want %s", c.in, got, err, c.shortest)
			}
			if err := canonicaljson.Check([]byte(c.in)); err != nil {
				t.Errorf("Check(%s): %v", c.in, err)
			}
		})
	}
}

// TestLooseFollowsTheExample is the last example of the specification, whose numbers no strict server takes.
//
// Spec: appendices#examples
func TestLooseFollowsTheExample(t *testing.T) {
	t.Parallel()
	got, err := canonicaljson.AppendLoose(nil, []byte("{\n    \"a\": -0,\n    \"b\": 1e10\n}"))
	if err != nil || string(got) != `{"a":0,"b":10000000000}` {
		t.Fatalf("%s, %v", got, err)
	}
}

// broken is what no function takes.
var broken = map[string]string{
	"nothing":                         ``,
	"space":                           " \n",
	"two values":                      `1 2`,
	"something behind":                `{} x`,
	"an open object":                  `{"a":1`,
	"an open key":                     `{"a`,
	"an open array":                   `[1`,
	"an open string":                  `"a`,
	"a key without value":             `{"a"}`,
	"a key without colon":             `{"a" 1}`,
	"a key that is no string":         `{1:2}`,
	"a comma at the end of an object": `{"a":1,}`,
	"a comma at the end of an array":  `[1,]`,
	"a comma at the beginning":        `[,1]`,
	"a missing comma":                 `[1 2]`,
	"a wrong bracket":                 `[1}`,
	"a duplicate key":                 `{"a":1,"a":2}`,
	"a duplicate key far apart":       `{"b":1,"a":2,"c":3,"b":4}`,
	"a duplicate key by escapes":      `{"a":1,"\u0061":2}`,
	"a duplicate key deep down":       `[{"x":{"k":1,"j":0,"k":2}}]`,
	"a lone high surrogate":           `"\ud83d"`,
	"a lone low surrogate":            `"\ude00"`,
	"surrogates the wrong way round":  `"\ude00\ud83d"`,
	"a surrogate and a letter":        `"\ud83d\u0061"`,
	"a surrogate in UTF-8":            "\"\xed\xa0\x80\"",
	"invalid UTF-8":                   "\"\xff\"",
	"UTF-8 that is cut":               "\"\xe6\x97\"",
	"overlong UTF-8":                  "\"\xc0\xaf\"",
	"a control character":             "\"\x01\"",
	"a newline in a string":           "\"a\nb\"",
	"an unknown escape":               `"\x41"`,
	"a short escape":                  `"\u12"`,
	"an escape of no digits":          `"\uzzzz"`,
	"a backslash at the end":          `"\`,
	"a leading zero":                  `01`,
	"a negative leading zero":         `-01`,
	"a minus alone":                   `-`,
	"a plus":                          `+1`,
	"a point without digits":          `1.`,
	"a point at the beginning":        `.5`,
	"an exponent without digits":      `1e`,
	"an exponent of a sign":           `1e+`,
	"a hexadecimal number":            `0x10`,
	"NaN":                             `NaN`,
	"Infinity":                        `-Infinity`,
	"half a literal":                  `tru`,
	"a literal in upper case":         `True`,
	"a comment":                       `{/**/}`,
	"a byte order mark":               "\ufeff{}",
	"other space":                     "\u00a0{}",
	"nesting too deep":                strings.Repeat("[", 101) + strings.Repeat("]", 101),
	"nesting of objects too deep":     strings.Repeat(`{"a":`, 101) + "1" + strings.Repeat("}", 101),
	"nesting without end":             strings.Repeat("[", 1<<20),
}

func TestBrokenJSONIsRefused(t *testing.T) {
	t.Parallel()
	for name, in := range broken {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var e *canonicaljson.Error
			for form, f := range map[string]func(dst, src []byte) ([]byte, error){
				"Append": canonicaljson.Append, "AppendLoose": canonicaljson.AppendLoose, "AppendShortest": canonicaljson.AppendShortest,
			} {
				dst := []byte("before")
				got, err := f(dst, []byte(in))
				if !errors.As(err, &e) || e.Reason == "" || e.Offset > len(in) {
					t.Errorf("%s(%.60q): %v", form, in, err)
				}
				if string(got) != "before" {
					t.Errorf("%s(%.60q) left %.60q", form, in, got)
				}
			}
			if err := canonicaljson.Check([]byte(in)); !errors.As(err, &e) {
				t.Errorf("Check(%.60q): %v", in, err)
			}
		})
	}
}

func TestErrorsSayWhere(t *testing.T) {
	t.Parallel()
	var e *canonicaljson.Error
	_, err := canonicaljson.Append(nil, []byte(`{"a":1,"b":2.5}`))
	if !errors.As(err, &e) || e.Offset != 11 {
		t.Errorf("%v", err)
	}
}

func TestManyKeysAreSorted(t *testing.T) {
	t.Parallel()
	object := make(map[string]any)
	var text bytes.Buffer
	text.WriteByte('{')
	for i := range 5000 {
		key := strings.Repeat(string(rune('a'+i*7%26)), i*13%17) + string(rune('a'+i%26)) + string(rune(i+0x100))
		if _, ok := object[key]; ok {
			continue
		}
		if len(object) > 0 {
			text.WriteByte(',')
		}
		object[key] = map[string]any{"z": "x", "a": float64(i)}
		text.WriteString(string(must(json.Marshal(key))) + `:{"z":"x","a":` + string(must(json.Marshal(i))) + `}`)
	}
	text.WriteByte('}')
	got, err := canonicaljson.Append(nil, text.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if want := must(json.Marshal(object)); !bytes.Equal(got, want) { // encoding/json sorts the keys of maps
		t.Error("the order differs from that of encoding/json")
	}
}

func TestMarshal(t *testing.T) {
	t.Parallel()
	got, err := canonicaljson.Marshal(map[string]any{"b": "<&>\u2028", "a": []int{1}})
	if err != nil || string(got) != "{\"a\":[1],\"b\":\"<&>\u2028\"}" {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := canonicaljson.Marshal(1.5); err == nil {
		t.Errorf("a float became %s", got)
	}
	if got, err := canonicaljson.Marshal(func() {}); err == nil {
		t.Errorf("a function became %s", got)
	}
}

func TestAppendString(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                   `""`,
		"plain":              `"plain"`,
		"\"\\/<>&":           `"\"\\/<>&"`,
		"\x00\b\t\n\f\r\x1f": `"\u0000\b\t\n\f\r\u001f"`,
		"日本😀\x7f\u2028":      "\"日本😀\x7f\u2028\"",
		"a\xffb\xe6\x97":     "\"a\ufffdb\ufffd\ufffd\"",
	} {
		if got := string(canonicaljson.AppendString(nil, in)); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
		if got := string(canonicaljson.AppendString(nil, []byte(in))); got != want {
			t.Errorf("bytes of %q: %s, want %s", in, got, want)
		}
	}
}

func FuzzAppend(f *testing.F) {
	for _, seed := range []string{`{"b":[1,{"d":null,"c":"\u65e5"}],"a":-1}`, `"\ud83d\ude00"`, `1e10`, `[[],{}]`, `{"\"":1,"!":2}`, `-0`, `"\u0000"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		checked := canonicaljson.Check(src)
		if checked == nil && !json.Valid(src) {
			t.Fatalf("Check takes %q, encoding/json does not", src)
		}
		strict, err := canonicaljson.Append(nil, src)
		if err == nil && checked != nil {
			t.Fatalf("Append takes %q, Check: %v", src, checked)
		}
		loose, looseErr := canonicaljson.AppendLoose(nil, src)
		if (looseErr == nil) != (checked == nil) {
			t.Fatalf("%q: Check %v, AppendLoose %v", src, checked, looseErr)
		}
		if again, err := canonicaljson.AppendLoose(nil, loose); looseErr == nil && (err != nil || !bytes.Equal(again, loose)) {
			t.Fatalf("%q becomes %q becomes %q, %v", src, loose, again, err)
		}
		if shortest, err := canonicaljson.AppendShortest(nil, src); err == nil {
			if again, err := canonicaljson.AppendShortest(nil, shortest); err != nil || !bytes.Equal(again, shortest) {
				t.Fatalf("%q becomes %q becomes %q, %v", src, shortest, again, err)
			}
		}
		if err != nil {
			return
		}
		if !bytes.Equal(strict, loose) || !utf8.Valid(strict) {
			t.Fatalf("%q: Append %q, AppendLoose %q", src, strict, loose)
		}
		var before, after any
		if json.Unmarshal(src, &before) != nil || json.Unmarshal(strict, &after) != nil || !reflect.DeepEqual(before, after) {
			t.Fatalf("%q became %q, which says something else", src, strict)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	sorted := []byte(`{"auth_events":["$x","$y","$z"],"content":{"body":"` + strings.Repeat("hello ", 60) + `","msgtype":"m.text"},"depth":12,"hashes":{"sha256":"abc"},"origin_server_ts":1700000000000,"prev_events":["$p"],"room_id":"!a:b","sender":"@a:b","signatures":{"b":{"ed25519:1":"` + strings.Repeat("x", 86) + `"}},"type":"m.room.message","unsigned":{"age":1}}`)
	shuffled := []byte(`{"type":"m.room.message","content":{"msgtype":"m.text","body":"` + strings.Repeat("hello ", 60) + `"},"auth_events":["$x","$y","$z"],"unsigned":{"age":1},"depth":12,"hashes":{"sha256":"abc"},"prev_events":["$p"],"origin_server_ts":1700000000000,"sender":"@a:b","room_id":"!a:b","signatures":{"b":{"ed25519:1":"` + strings.Repeat("x", 86) + `"}}}`)
	for name, src := range map[string][]byte{"sorted": sorted, "shuffled": shuffled} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			dst := make([]byte, 0, 2*len(src))
			for b.Loop() {
				if _, err := canonicaljson.Append(dst, src); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
