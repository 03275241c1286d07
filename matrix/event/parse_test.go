package event_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
)

// wire is an event as another server could send it, whose keys tests change. Its hash does not fit any more then; the
// format is checked before.
type wire map[string]json.RawMessage

func (f *fixture) wire(p *event.PDU) wire {
	f.Helper()
	var w wire
	if err := json.Unmarshal(p.Bytes(), &w); err != nil {
		f.Fatal(err)
	}
	return w
}

func (w wire) bytes() []byte { return must(json.Marshal(map[string]json.RawMessage(w))) }

// every says that a case is for all room versions; the others name a condition.
func every(*roomversion.Rules) bool { return true }

func v1Format(r *roomversion.Rules) bool   { return r.EventFormat == roomversion.EventFormatV1 }
func v3Format(r *roomversion.Rules) bool   { return r.EventFormat == roomversion.EventFormatV3 }
func hashRoomID(r *roomversion.Rules) bool { return r.RoomIDFromCreate }
func domained(r *roomversion.Rules) bool   { return !r.RoomIDFromCreate }
func strict(r *roomversion.Rules) bool     { return r.StrictCanonicalJSON }
func loose(r *roomversion.Rules) bool      { return !r.StrictCanonicalJSON }

// TestParseChecksTheFormat changes one key of a good event at a time. Cases without a kind are taken.
//
// Spec: rooms/v1#event-format, rooms/v3#event-format, rooms/v4#event-format, rooms/v6#event-format, rooms/v11#event-format, rooms/v12#event-format, client-server-api#size-limits
func TestParseChecksTheFormat(t *testing.T) {
	t.Parallel()
	text := func(n int) string { return `"` + strings.Repeat("x", n) + `"` }
	list := func(n int, entry string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(entry+",", n), ",") + "]"
	}
	const hash = "acR1l0raoZnm60CBwAVgqbZqoOmYU81xysh1u7XcJkA"
	for name, c := range map[string]struct {
		versions func(*roomversion.Rules) bool
		field    string
		value    string // "" takes the key away
		kind     event.Kind
	}{
		"no type":                                     {every, "type", "", event.BadFormat},
		"a type that is no string":                    {every, "type", `1`, event.BadFormat},
		"a type of 255 bytes":                         {every, "type", text(255), 0},
		"a type of 256 bytes":                         {every, "type", text(256), event.TooLarge},
		"an empty type":                               {every, "type", `""`, 0},
		"a state key that is null":                    {every, "state_key", `null`, event.BadFormat},
		"a state key that is no string":               {every, "state_key", `1`, event.BadFormat},
		"an empty state key":                          {every, "state_key", `""`, 0},
		"a state key of 255 bytes":                    {every, "state_key", text(255), 0},
		"a state key of 256 bytes":                    {every, "state_key", text(256), event.TooLarge},
		"a state key of 128 characters, 256 bytes":    {every, "state_key", `"` + strings.Repeat("ä", 128) + `"`, event.TooLarge},
		"a state key of 255 escapes":                  {every, "state_key", `"` + strings.Repeat(`\u0001`, 255) + `"`, 0},
		"a state key of 256 escapes":                  {every, "state_key", `"` + strings.Repeat(`\u0001`, 256) + `"`, event.TooLarge},
		"no sender":                                   {every, "sender", "", event.BadFormat},
		"a sender that is no string":                  {every, "sender", `{}`, event.BadFormat},
		"a sender that is no user ID":                 {every, "sender", `"alice"`, event.BadFormat},
		"a sender without domain":                     {every, "sender", `"@alice"`, event.BadFormat},
		"a sender with a historical localpart":        {every, "sender", `"@Älice !:example.org"`, 0},
		"a sender with an empty localpart":            {every, "sender", `"@:example.org"`, 0},
		"a sender of 256 bytes":                       {every, "sender", `"@` + strings.Repeat("a", 243) + `:example.org"`, event.TooLarge},
		"no room_id":                                  {every, "room_id", "", event.BadFormat},
		"a room_id that is no string":                 {every, "room_id", `1`, event.BadFormat},
		"a room_id that is no room ID":                {every, "room_id", `"#a:example.org"`, event.BadFormat},
		"a room_id with domain":                       {hashRoomID, "room_id", `"!a:example.org"`, event.BadFormat},
		"a room_id without domain":                    {domained, "room_id", `"!` + hash + `"`, event.BadFormat},
		"a room_id of another hash":                   {hashRoomID, "room_id", `"!` + hash + `"`, 0},
		"a room_id of a short hash":                   {hashRoomID, "room_id", `"!` + hash[1:] + `"`, event.BadFormat},
		"a room_id of a hash not URL-safe":            {hashRoomID, "room_id", `"!` + hash[1:] + `/"`, event.BadFormat},
		"a room_id of 256 bytes":                      {domained, "room_id", `"!` + strings.Repeat("a", 243) + `:example.org"`, event.TooLarge},
		"no content":                                  {every, "content", "", event.BadFormat},
		"a content that is no object":                 {every, "content", `"x"`, event.BadFormat},
		"a content that is null":                      {every, "content", `null`, event.BadFormat},
		"a content with a float":                      {strict, "content", `{"x":1.5}`, event.BadJSON},
		"a content with a float, loose":               {loose, "content", `{"x":1.5}`, 0},
		"a content with an exponent":                  {strict, "content", `{"x":1e3}`, event.BadJSON},
		"a content with negative zero":                {strict, "content", `{"x":-0}`, event.BadJSON},
		"a content with 2^53":                         {strict, "content", `{"x":[9007199254740992]}`, event.BadJSON},
		"a content with 2^53, loose":                  {loose, "content", `{"x":[9007199254740992]}`, 0},
		"a content with -(2^53-1)":                    {every, "content", `{"x":-9007199254740991}`, 0},
		"a content with a lone surrogate":             {every, "content", `{"x":"\ud800"}`, event.BadJSON},
		"no depth":                                    {every, "depth", "", event.BadFormat},
		"a depth that is no integer":                  {every, "depth", `"1"`, event.BadFormat},
		"a depth that is negative":                    {every, "depth", `-1`, event.BadFormat},
		"a depth of zero":                             {every, "depth", `0`, 0},
		"a depth that is a float":                     {loose, "depth", `1.0`, event.BadFormat},
		"a depth of 2^53-1":                           {every, "depth", `9007199254740991`, 0},
		"a depth of 2^53":                             {strict, "depth", `9007199254740992`, event.BadJSON},
		"a depth of 2^63-1":                           {loose, "depth", `9223372036854775807`, 0},
		"a depth of 2^63":                             {loose, "depth", `9223372036854775808`, event.BadFormat},
		"no origin_server_ts":                         {every, "origin_server_ts", "", event.BadFormat},
		"an origin_server_ts that is a string":        {every, "origin_server_ts", `"1"`, event.BadFormat},
		"an origin_server_ts that is negative":        {every, "origin_server_ts", `-5`, 0},
		"no hashes":                                   {every, "hashes", "", event.BadFormat},
		"hashes that are no object":                   {every, "hashes", `[]`, event.BadFormat},
		"hashes without sha256":                       {every, "hashes", `{"md5":"x"}`, event.BadFormat},
		"a hash that is no string":                    {every, "hashes", `{"sha256":1}`, event.BadFormat},
		"a hash that is not Base64":                   {every, "hashes", `{"sha256":"!"}`, 0}, // it fits no event: redacted
		"no signatures":                               {every, "signatures", "", event.BadFormat},
		"signatures that are no object":               {every, "signatures", `[]`, event.BadFormat},
		"signatures of a server that are no object":   {every, "signatures", `{"a":1}`, event.BadFormat},
		"a signature that is no string":               {every, "signatures", `{"a":{"ed25519:1":1}}`, event.BadFormat},
		"empty signatures":                            {every, "signatures", `{}`, 0},
		"no prev_events":                              {every, "prev_events", "", event.BadFormat},
		"prev_events that are no array":               {every, "prev_events", `{}`, event.BadFormat},
		"empty prev_events":                           {every, "prev_events", `[]`, 0},
		"a prev event that is no event ID":            {v3Format, "prev_events", `["x"]`, event.BadFormat},
		"a prev event that is no string":              {v3Format, "prev_events", `[1]`, event.BadFormat},
		"a prev event that is a pair":                 {v3Format, "prev_events", `[["$a:b",{"sha256":"x"}]]`, event.BadFormat},
		"a prev event of 256 bytes":                   {v3Format, "prev_events", `["$` + strings.Repeat("a", 255) + `"]`, event.TooLarge},
		"20 prev events":                              {v3Format, "prev_events", list(20, `"$a"`), 0},
		"21 prev events":                              {v3Format, "prev_events", list(21, `"$a"`), event.BadFormat},
		"a prev event that is no pair":                {v1Format, "prev_events", `["$a:b"]`, event.BadFormat},
		"a prev event that is a pair of one":          {v1Format, "prev_events", `[["$a:b"]]`, event.BadFormat},
		"a prev event that is a pair of three":        {v1Format, "prev_events", `[["$a:b",{},{}]]`, event.BadFormat},
		"a prev event whose hashes are no object":     {v1Format, "prev_events", `[["$a:b","x"]]`, event.BadFormat},
		"a prev event whose ID is no string":          {v1Format, "prev_events", `[[1,{}]]`, event.BadFormat},
		"a prev event with other hashes":              {v1Format, "prev_events", `[["$a:b",{"md5":"x"}]]`, 0},
		"20 pairs of prev events":                     {v1Format, "prev_events", list(20, `["$a:b",{}]`), 0},
		"21 pairs of prev events":                     {v1Format, "prev_events", list(21, `["$a:b",{}]`), event.BadFormat},
		"no auth_events":                              {every, "auth_events", "", event.BadFormat},
		"auth_events that are no array":               {every, "auth_events", `"x"`, event.BadFormat},
		"10 auth events":                              {v3Format, "auth_events", list(10, `"$a"`), 0},
		"11 auth events":                              {v3Format, "auth_events", list(11, `"$a"`), event.BadFormat},
		"11 pairs of auth events":                     {v1Format, "auth_events", list(11, `["$a:b",{}]`), event.BadFormat},
		"no event_id":                                 {v1Format, "event_id", "", event.BadFormat},
		"an event_id that is no string":               {v1Format, "event_id", `1`, event.BadFormat},
		"an event_id without domain":                  {v1Format, "event_id", `"$abc"`, event.BadFormat},
		"an event_id of another domain":               {v1Format, "event_id", `"$abc:other.example"`, 0},
		"an event_id of 256 bytes":                    {v1Format, "event_id", `"$` + strings.Repeat("a", 243) + `:example.org"`, event.TooLarge},
		"an event_id of any kind where there is none": {v3Format, "event_id", `1`, 0},
		"unsigned that is no object":                  {every, "unsigned", `7`, 0},
		"unsigned of over 64 KiB":                     {every, "unsigned", text(100000), 0},
		"a further key":                               {every, "further", `{"x":[]}`, 0},
		"a further key of over 64 KiB":                {every, "further", text(65536), event.TooLarge},
		"redacts of any kind in other types":          {every, "redacts", `1`, 0},
	} {
		for _, rules := range roomversion.All() {
			if !c.versions(rules) {
				continue
			}
			t.Run(name+"/v"+rules.Version, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, rules.Version)
				w := f.wire(f.build(f.draft("m.room.topic", ptr(""), `{"topic":"x"}`)))
				w[c.field] = json.RawMessage(c.value)
				if c.value == "" {
					delete(w, c.field)
				}
				p, err := event.Parse(rules, w.bytes())
				if c.kind == 0 {
					if err != nil {
						t.Fatal(err)
					}
					same(t, p, must(event.Load(rules, p.EventID(), p.Bytes())))
					return
				}
				var e *event.Error
				if !errors.As(err, &e) || e.Kind != c.kind || e.Kind == event.BadFormat && e.Field != c.field {
					t.Fatalf("%v", err)
				}
			})
		}
	}
}

func TestParseRefusesWhatIsNoObject(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All() {
		for _, bad := range []string{``, `null`, `[]`, `"x"`, `{`, `{}{}`, `{"type":"x","type":"y"}`, "{\"a\":\"\xff\"}"} {
			var e *event.Error
			if _, err := event.Parse(rules, []byte(bad)); !errors.As(err, &e) {
				t.Errorf("version %s: %s: %v", rules.Version, bad, err)
			}
		}
	}
}

func TestParseTakesAnyForm(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All() {
		f := newFixture(t, rules.Version)
		p := f.build(f.message("\"quoted\" \\ 日本 \u0001"))
		var indented bytes.Buffer
		if err := json.Indent(&indented, must(canonicaljson.AppendWith(nil, p.Bytes(), "unsigned", []byte(`{"age":1,"x":{"y":[]}}`))), "", "\t"); err != nil {
			t.Fatal(err)
		}
		raw := bytes.ReplaceAll(indented.Bytes(), []byte("日本"), []byte(`\u65e5\u672C`))
		before := bytes.Clone(raw)
		q, err := event.Parse(rules, raw)
		if err != nil {
			t.Fatal(err)
		}
		same(t, p, q)
		if q.HashMismatch() {
			t.Errorf("version %s: the hash does not match", rules.Version)
		}
		if err := event.Verify(q, f); err != nil {
			t.Errorf("version %s: %v", rules.Version, err)
		}
		if !bytes.Equal(raw, before) {
			t.Errorf("version %s: Parse changed its input", rules.Version)
		}
		clear(raw) // nothing of the input may be kept
		same(t, p, q)
	}
}

// Spec: server-server-api#validating-hashes-and-signatures-on-received-events
func TestParseRedactsWhatFailsTheHashCheck(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All() {
		f := newFixture(t, rules.Version)
		p := f.build(f.draft(event.TypeMember, ptr("@alice:example.org"), `{"membership":"join","displayname":"Alice"}`))
		for name, change := range map[string]func(wire){
			"changed content":    func(w wire) { w["content"] = json.RawMessage(`{"membership":"join","displayname":"Eve"}`) },
			"redacted content":   func(w wire) { w["content"] = json.RawMessage(`{"membership":"join"}`) },
			"a further key":      func(w wire) { w["further"] = json.RawMessage(`1`) },
			"a further key last": func(w wire) { w["zzz"] = json.RawMessage(`1`) },
		} {
			w := f.wire(p)
			change(w)
			q, err := event.Parse(rules, w.bytes())
			if err != nil {
				t.Errorf("version %s: %s: %v", rules.Version, name, err)
				continue
			}
			if !q.HashMismatch() || q.EventID() != p.EventID() || string(q.Content()) != `{"membership":"join"}` || !bytes.Equal(q.Bytes(), p.Redacted().Bytes()) {
				t.Errorf("version %s: %s: %s", rules.Version, name, q.Bytes())
			}
			if err := event.Verify(q, f); err != nil {
				t.Errorf("version %s: %s: %v", rules.Version, name, err)
			}
		}
		padded := f.wire(p)
		padded["hashes"] = bytes.Replace(padded["hashes"], []byte(`"}`), []byte(`="}`), 1)
		if q := must(event.Parse(rules, padded.bytes())); q.HashMismatch() {
			t.Errorf("version %s: a hash with padding does not match", rules.Version)
		}
	}
}

func TestParseReadsRedacts(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All() {
		f := newFixture(t, rules.Version)
		target := f.eventID('r').String()
		for name, c := range map[string]struct {
			top, inside string
			want        [2]string // before version 11, from version 11 on
			ok          [2]bool
		}{
			"at the top":               {`"` + target + `"`, ``, [2]string{target, ""}, [2]bool{true, true}},
			"in the content":           {``, `"` + target + `"`, [2]string{"", target}, [2]bool{true, true}},
			"what is no event ID":      {`"x"`, `"x"`, [2]string{"", ""}, [2]bool{true, true}},
			"no string at the top":     {`1`, `"` + target + `"`, [2]string{"", target}, [2]bool{false, true}},
			"no string in the content": {`"` + target + `"`, `1`, [2]string{target, ""}, [2]bool{true, true}},
		} {
			draft := f.draft(event.TypeRedaction, nil, `{}`)
			if c.inside != "" {
				draft.Content = []byte(`{"redacts":` + c.inside + `}`)
			}
			bare := must(canonicaljson.AppendWithout(nil, f.build(draft).Bytes(), "hashes", "signatures"))
			if c.top != "" {
				bare = must(canonicaljson.AppendWith(nil, bare, "redacts", []byte(c.top)))
			}
			i := 0
			if rules.RedactsInContent {
				i = 1
			}
			p, err := event.Parse(rules, must(event.HashAndSign(rules, bare, f.signer)))
			if (err == nil) != c.ok[i] {
				t.Errorf("version %s: %s: %v", rules.Version, name, err)
			} else if err == nil && p.Redacts().String() != c.want[i] {
				t.Errorf("version %s: %s: %s", rules.Version, name, p.Redacts())
			}
		}
	}
}

func TestLoadRefusesBrokenBytes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "11")
	p := f.build(f.message("x"))
	for _, bad := range [][]byte{nil, []byte(`{}`), p.Bytes()[1:], p.Bytes()[:len(p.Bytes())-1]} {
		if _, err := event.Load(f.rules, p.EventID(), bad); err == nil {
			t.Errorf("%.40s… was loaded", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, version := range []string{"1", "3", "6", "11", "12"} {
		fix := newFixture(f, version)
		f.Add(version, fix.build(fix.draft(event.TypeMember, ptr("@a:b"), `{"membership":"join","third_party_invite":{"signed":{}}}`)).Bytes())
		f.Add(version, fix.build(fix.draft(event.TypePowerLevels, ptr(""), `{"users":{"@a:b":100},"ban":50}`)).Bytes())
	}
	create := newFixture(f, "12").draft(event.TypeCreate, ptr(""), `{"additional_creators":["@a:b"]}`)
	create.RoomID = id.RoomID{}
	f.Add("12", newFixture(f, "12").build(create).Bytes())
	f.Fuzz(func(t *testing.T, version string, raw []byte) {
		rules, known := roomversion.Of(version)
		if !known {
			return
		}
		p, err := event.Parse(rules, raw)
		if err != nil {
			var e *event.Error
			if !errors.As(err, &e) {
				t.Fatalf("%v is no *event.Error", err)
			}
			return
		}
		if len(p.Bytes()) > event.MaxSize || p.EventID().IsZero() || p.RoomID().IsZero() {
			t.Fatalf("%s in %s: %d bytes", p.EventID(), p.RoomID(), len(p.Bytes()))
		}
		same(t, p, must(event.Load(rules, p.EventID(), p.Bytes())))
		again, err := event.Parse(rules, p.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		same(t, p, again)
		redacted := p.Redacted()
		if hash := must(redacted.ReferenceHash()); hash != must(p.ReferenceHash()) || redacted.EventID() != p.EventID() {
			t.Fatalf("%s redacted is %s", p.Bytes(), redacted.Bytes())
		}
		if signed, err := p.Sign(signer(t, "example.org", 1)); err == nil && signed.EventID() != p.EventID() {
			t.Fatal("a signature changed the event ID")
		}
		client := append(event.AppendClient(nil, p), '}')
		if err := canonicaljson.Check(client); err != nil {
			t.Fatalf("%s for clients is %s: %v", p.Bytes(), client, err)
		}
		if err := canonicaljson.Check(event.StrippedState(p)); err != nil {
			t.Fatal(err)
		}
		readContent(t, p)
	})
}

// readContent reads the content in every way that there is, twice: it may fail, but always in the same way.
func readContent(t *testing.T, p *event.PDU) {
	t.Helper()
	for range 2 {
		levels, err := p.PowerLevels()
		if (levels == nil) == (err == nil) {
			t.Error("power levels and error, or neither")
		}
		create, err := p.Create()
		if (create == nil) == (err == nil) {
			t.Error("create and error, or neither")
		}
		if member, err := p.Member(); err != nil || member == nil {
			t.Error(err)
		}
		if rules, err := p.JoinRules(); err != nil || rules == nil {
			t.Error(err)
		}
	}
}
