package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"regexp"
	"slices"
	"strings"
)

// transcript is what was asked and answered, in a form that is the same whenever the server behaves the same.
type transcript struct {
	lines []string
	names map[string]string // of random IDs
	count map[byte]int
}

func newTranscript() *transcript {
	return &transcript{names: map[string]string{}, count: map[byte]int{}}
}

func (t *transcript) add(format string, args ...any) {
	t.lines = append(t.lines, fmt.Sprintf(format, args...))
}

// hash is a hash of all that was said.
func (t *transcript) hash() uint64 {
	h := fnv.New64a()
	for _, line := range t.lines {
		_, _ = h.Write([]byte(line)) // never fails
	}
	return h.Sum64()
}

// randomID matches IDs of rooms and events.
var randomID = regexp.MustCompile(`[!$][A-Za-z0-9_-]{16,}(:random\.test)?`)

// text replaces the IDs in a text by names.
func (t *transcript) text(s string) string {
	return randomID.ReplaceAllStringFunc(s, func(id string) string {
		name, ok := t.names[id]
		if !ok {
			kind := id[0]
			t.count[kind]++
			name = fmt.Sprintf("%c%d", kind, t.count[kind])
			t.names[id] = name
		}
		return name
	})
}

// byChance are members of objects which time and chance decide.
var byChance = map[string]bool{
	"age": true, "origin_server_ts": true, "ts": true, "last_active_ago": true, "access_token": true, "home_server": true,
	"well_known": true, "hashes": true, "signatures": true,
	// Told with this answer or the next: compared by other means, see device.apply.
	"ephemeral": true, "presence": true, "device_lists": true,
}

// tokens are members that hold a token: only whether there is one is compared.
var tokens = map[string]bool{"next_batch": true, "prev_batch": true, "start": true, "end": true}

// unordered are members that hold lists whose order says nothing.
var unordered = map[string]bool{"joined_rooms": true, "state": true, "": true}

// value makes the comparable form of a JSON value. key is the member that it is of.
func (t *transcript) value(key string, v any) any {
	switch v := v.(type) {
	case string:
		return t.text(v)
	case []any:
		list := v
		if unordered[key] {
			list = slices.Clone(v)
			slices.SortStableFunc(list, func(a, b any) int { return cmp.Compare(t.order(a), t.order(b)) })
		}
		out := make([]any, len(list))
		for i, x := range list {
			out[i] = t.value("element", x)
		}
		return out
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			if !byChance[k] {
				keys = append(keys, k)
			}
		}
		slices.SortFunc(keys, func(a, b string) int { return cmp.Compare(t.rank(a), t.rank(b)) })
		out := make(map[string]any, len(keys))
		for _, k := range keys {
			switch below := v[k].(type) {
			case string:
				if tokens[k] {
					out[k] = "T"
					continue
				}
				out[t.text(k)] = t.text(below)
			case []any:
				if k == "events" && key == "account_data" {
					out[k] = t.value("", below)
					continue
				}
				if k == "events" && (key == "state" || key == "state_after" || key == "invite_state") {
					out[k] = t.value("", below)
					continue
				}
				out[t.text(k)] = t.value(k, below)
			default:
				out[t.text(k)] = t.value(k, below)
			}
		}
		return out
	}
	return v
}

// order is what elements of unordered lists are sorted by.
func (t *transcript) order(v any) string {
	switch v := v.(type) {
	case string:
		return t.rank(v)
	case map[string]any:
		return text(v, "type") + "\x00" + t.rank(text(v, "state_key")) + "\x00" + text(v, "sender")
	}
	return ""
}

// rank sorts a text by its name, if it has one: those that come up first sort first.
func (t *transcript) rank(s string) string {
	if name, ok := t.names[s]; ok {
		return fmt.Sprintf("%c%08s", name[0], name[1:])
	}
	return s
}

// answer writes down a request and its answer.
func (t *transcript) answer(actor, method, path string, status int, body map[string]any, list []any) {
	var v any = body
	key := "body"
	if list != nil {
		v, key = list, ""
	}
	said := t.text(path)
	text, _ := json.Marshal(t.value(key, v)) // it was made from JSON
	t.add("%s %s %s: %d %s", actor, method, said, status, text)
}

// sync writes down an answer to /sync without what may legally come with the next one.
func (t *transcript) sync(actor string, s syncing, body map[string]any) {
	copied := shallow(body)
	if rooms, ok := body["rooms"].(map[string]any); ok {
		rooms = shallow(rooms)
		if join, ok := rooms["join"].(map[string]any); ok {
			join = shallow(join)
			for id, entry := range join {
				if e, _ := entry.(map[string]any); e != nil && saysNothing(e) {
					delete(join, id)
				}
			}
			rooms["join"] = join
			if len(join) == 0 {
				delete(rooms, "join")
			}
		}
		copied["rooms"] = rooms
		if len(rooms) == 0 {
			delete(copied, "rooms")
		}
	}
	if s.waiting && copied["rooms"] == nil && copied["account_data"] == nil && copied["to_device"] == nil {
		return
	}
	text, _ := json.Marshal(t.value("body", copied))
	t.add("%s sync %s: %s", actor, t.text(s.String()), text)
}

// saysNothing says that an entry is there for receipts or typing alone.
func saysNothing(e map[string]any) bool {
	timeline := object(e, "timeline")
	limited, _ := timeline["limited"].(bool)
	return !limited && len(events(e, "timeline")) == 0 && len(events(e, "state")) == 0 && len(events(e, "state_after")) == 0 &&
		len(events(e, "account_data")) == 0 && e["summary"] == nil
}

func shallow(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// firstDifference shows where two transcripts part; "" if they don't.
func firstDifference(a, b *transcript) string {
	n := min(len(a.lines), len(b.lines))
	for i := range n {
		if a.lines[i] != b.lines[i] {
			before := strings.Join(a.lines[max(0, i-3):i], "\n  ")
			at := commonPrefix(a.lines[i], b.lines[i])
			from := max(0, at-80)
			return fmt.Sprintf("  %.1500s\n- %.3000s\n+ %.3000s\n  they part at: %q, %q\n", before, a.lines[i], b.lines[i],
				truncated(a.lines[i], from, at+200), truncated(b.lines[i], from, at+200))
		}
	}
	if len(a.lines) != len(b.lines) {
		return fmt.Sprintf("  one has %d lines, the other %d\n", len(a.lines), len(b.lines))
	}
	return ""
}

func commonPrefix(a, b string) int {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	return i
}

func truncated(s string, from, to int) string { return s[min(from, len(s)):min(to, len(s))] }
