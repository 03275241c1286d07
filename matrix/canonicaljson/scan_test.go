package canonicaljson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"stoa/matrix/canonicaljson"
)

func TestObjectWalksInOrder(t *testing.T) {
	t.Parallel()
	var got []string
	err := canonicaljson.Object([]byte(` { "b" : [1, {"x":"}"}] , "a\u0062" : "q\"" , "":{} ,"n": -1.5e3 , "t":true } `), func(key string, value []byte) error {
		got = append(got, key+"="+string(value))
		return nil
	})
	want := []string{`b=[1, {"x":"}"}]`, `ab="q\""`, `={}`, `n=-1.5e3`, `t=true`}
	if err != nil || len(got) != len(want) {
		t.Fatalf("%q, %v", got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("member %d is %s, want %s", i, got[i], want[i])
		}
	}
}

func TestWalksEndWithTheCallersError(t *testing.T) {
	t.Parallel()
	count := 0
	if err := canonicaljson.Object([]byte(`{"a":1,"b":2}`), func(string, []byte) error { count++; return io.EOF }); err != io.EOF || count != 1 {
		t.Errorf("object: %v after %d", err, count)
	}
	if err := canonicaljson.Array([]byte(`[1,2]`), func([]byte) error { count++; return io.EOF }); err != io.EOF || count != 2 {
		t.Errorf("array: %v after %d", err, count)
	}
}

func TestWalksRefuseBrokenStructure(t *testing.T) {
	t.Parallel()
	var e *canonicaljson.Error
	for _, in := range []string{``, `1`, `[1]`, `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{"a" 1}`, `{a:1}`, `{"a":}`, `{"a":[}`, `{"a":"x}`, `{"a":1} 2`, `{"a`} {
		if err := canonicaljson.Object([]byte(in), func(string, []byte) error { return nil }); !errors.As(err, &e) {
			t.Errorf("Object(%s): %v", in, err)
		}
	}
	for _, in := range []string{``, `1`, `{}`, `[`, `[1`, `[1,`, `[1,]`, `[,]`, `[1 2]`, `["a]`, `[1] 2`, `[{]`} {
		if err := canonicaljson.Array([]byte(in), func([]byte) error { return nil }); !errors.As(err, &e) {
			t.Errorf("Array(%s): %v", in, err)
		}
	}
}

func TestReadingValues(t *testing.T) {
	t.Parallel()
	if s, ok := canonicaljson.String([]byte(`"a\u65e5\n\ud83d\ude00b"`)); !ok || s != "a日\n😀b" {
		t.Errorf("string %q, %v", s, ok)
	}
	for _, bad := range []string{``, `"`, `1`, `null`, `{}`} {
		if s, ok := canonicaljson.String([]byte(bad)); ok {
			t.Errorf("%s is the string %q", bad, s)
		}
	}
	if n, ok := canonicaljson.Int([]byte(`-9223372036854775808`)); !ok || n != -1<<63 {
		t.Errorf("integer %d, %v", n, ok)
	}
	for _, bad := range []string{``, `1.0`, `1e3`, `"1"`, `+1`, `9223372036854775808`, `null`, `1_000`} {
		if n, ok := canonicaljson.Int([]byte(bad)); ok {
			t.Errorf("%s is the integer %d", bad, n)
		}
	}
	if b, ok := canonicaljson.Bool([]byte(`true`)); !b || !ok {
		t.Error("true is not true")
	}
	if b, ok := canonicaljson.Bool([]byte(`1`)); b || ok {
		t.Error("1 is a boolean")
	}
	object := []byte(`{"a":1,"b":{"c":"d"},"e":[]}`)
	if v := canonicaljson.Get(object, "b"); string(v) != `{"c":"d"}` || !canonicaljson.IsObject(v) {
		t.Errorf("b is %s", v)
	}
	if v := canonicaljson.Get(object, "e"); !canonicaljson.IsArray(v) {
		t.Errorf("e is %s", v)
	}
	if canonicaljson.Get(object, "x") != nil || canonicaljson.Get([]byte(`[]`), "x") != nil || canonicaljson.Get(nil, "x") != nil {
		t.Error("something was found that is not there")
	}
}

func TestEditing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ object, key, value, want string }{
		"fills an empty object": {`{}`, "a", `1`, `{"a":1}`},
		"adds in front":         {`{"b":1}`, "a", `2`, `{"a":2,"b":1}`},
		"adds in between":       {`{"a":1,"c":2}`, "b", `{}`, `{"a":1,"b":{},"c":2}`},
		"adds behind":           {`{"a":1}`, "b", `2`, `{"a":1,"b":2}`},
		"replaces":              {`{"a":1,"b":2,"c":3}`, "b", `4`, `{"a":1,"b":4,"c":3}`},
		"replaces the last":     {`{"a":1}`, "a", `4`, `{"a":4}`},
		"sorts keys by letters": {`{"!":1,"#":2}`, `"`, `3`, `{"!":1,"\"":3,"#":2}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := canonicaljson.AppendWith([]byte("{"), []byte(c.object), c.key, []byte(c.value))
			if err != nil || string(got) != "{"+c.want {
				t.Fatalf("%s, %v; want %s", got, err, c.want)
			}
		})
	}
	got, err := canonicaljson.AppendWithout(nil, []byte(`{"a":1,"b":2,"c":3,"d":4}`), "a", "c", "x")
	if err != nil || string(got) != `{"b":2,"d":4}` {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := canonicaljson.AppendWithout([]byte("x"), []byte(`{"a":1`), "b"); err == nil || string(got) != "x" {
		t.Errorf("an open object became %s, %v", got, err)
	}
	if got, err := canonicaljson.AppendWith([]byte("x"), []byte(`[]`), "b", nil); err == nil || string(got) != "x" {
		t.Errorf("an array became %s, %v", got, err)
	}
}

func FuzzScan(f *testing.F) {
	for _, seed := range []string{`{"b":[1,{"d":null}],"a":"\u65e5"}`, `[1,"x",{}]`, `{"a":"\\"}`, `{"a`, `[[[`, `{"\ud800":1}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		before := bytes.Clone(src)
		members := make(map[string]string)
		objectErr := canonicaljson.Object(src, func(key string, value []byte) error {
			members[key] = string(value)
			if s, ok := canonicaljson.String(value); ok && len(s) > 3*len(value) {
				t.Errorf("%q became %q", value, s)
			}
			return nil
		})
		count := 0
		arrayErr := canonicaljson.Array(src, func([]byte) error { count++; return nil })
		if !bytes.Equal(src, before) {
			t.Fatal("the scanner changed its text")
		}
		if canonicaljson.Check(src) != nil {
			return
		}
		var object map[string]json.RawMessage
		if json.Unmarshal(src, &object) == nil && object != nil {
			if objectErr != nil || len(members) != len(object) {
				t.Fatalf("%q: %d members of %d, %v", src, len(members), len(object), objectErr)
			}
			for key, value := range object {
				if members[key] != string(value) {
					t.Errorf("%q: %q is %q, want %q", src, key, members[key], value)
				}
			}
		}
		var array []json.RawMessage
		if json.Unmarshal(src, &array) == nil && array != nil && (arrayErr != nil || count != len(array)) {
			t.Fatalf("%q: %d entries of %d, %v", src, count, len(array), arrayErr)
		}
	})
}
