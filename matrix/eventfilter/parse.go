package eventfilter

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// Parse reads a filter: the body of an upload, what was stored of it, or the inline filter of a request. Unknown keys are
// ignored.
//
// Errors: M_NOT_JSON, M_BAD_JSON, M_TOO_LARGE.
//
// Spec: client-server-api#post_matrixclientv3useruseridfilter
func Parse(data []byte) (*Filter, error) {
	f := &Filter{}
	p := parser{}
	if err := p.document(data, f.set(&p)); err != nil {
		return nil, err
	}
	return f, nil
}

// ParseRoomEvents reads the filter of an endpoint that returns the events of one room. Errors are those of Parse.
//
// Spec: client-server-api#get_matrixclientv3roomsroomidmessages
func ParseRoomEvents(data []byte) (*RoomEventFilter, error) {
	f := &RoomEventFilter{}
	p := parser{}
	if err := p.document(data, f.set(&p)); err != nil {
		return nil, err
	}
	return f, nil
}

// setter takes one key of an object.
type setter func(key string, value []byte) error

// parser reads the values of a filter. Its errors name the path of the key.
type parser struct {
	path []string
}

// document checks a whole text and reads it.
func (p *parser) document(data []byte, set setter) error {
	if len(data) > MaxSize {
		return mxerr.TooLarge("A filter must not be longer than %d bytes.", MaxSize)
	}
	if !json.Valid(data) {
		return mxerr.NotJSON("The filter is not valid JSON.")
	}
	if err := canonicaljson.Check(data); err != nil {
		return mxerr.BadJSON("The filter is malformed: %s.", err).Because(err)
	}
	return p.object(bytes.TrimSpace(data), set)
}

// object reads an object by its keys. What is handed to set shares memory with the text, so whoever keeps it copies it.
func (p *parser) object(data []byte, set setter) error {
	if !canonicaljson.IsObject(data) {
		return p.fail("an object")
	}
	return canonicaljson.Object(data, func(key string, value []byte) error {
		p.path = append(p.path, key)
		err := set(key, value)
		p.path = p.path[:len(p.path)-1]
		return err
	})
}

func (p *parser) fail(want string) error {
	name := "A filter"
	if len(p.path) > 0 {
		name = strings.Join(p.path, ".") + " of a filter"
	}
	return mxerr.BadJSON("%s must be %s.", name, want)
}

func (f *Filter) set(p *parser) setter {
	return func(key string, value []byte) (err error) {
		switch key {
		case "event_fields":
			var paths []string
			if paths, err = p.strings(value); err == nil {
				f.EventFields = NewFields(paths)
			}
		case "event_format":
			f.EventFormat, err = p.format(value)
		case "presence":
			err = p.object(value, f.Presence.set(p))
		case "account_data":
			err = p.object(value, f.AccountData.set(p))
		case "room":
			err = p.object(value, f.Room.set(p))
		}
		return err
	}
}

func (f *RoomFilter) set(p *parser) setter {
	return func(key string, value []byte) (err error) {
		switch key {
		case "rooms":
			f.rooms.only, err = p.rooms(value)
		case "not_rooms":
			f.rooms.not, err = p.rooms(value)
		case "include_leave":
			f.IncludeLeave, err = p.bool(value)
		case "ephemeral":
			err = p.object(value, f.Ephemeral.set(p))
		case "state":
			err = p.object(value, f.State.set(p))
		case "timeline":
			err = p.object(value, f.Timeline.set(p))
		case "account_data":
			err = p.object(value, f.AccountData.set(p))
		}
		return err
	}
}

func (f *EventFilter) set(p *parser) setter {
	return func(key string, value []byte) (err error) {
		switch key {
		case "limit":
			f.limit, err = p.limit(value)
		case "types":
			f.types, err = p.types(value)
		case "not_types":
			f.notTypes, err = p.types(value)
		case "senders":
			f.senders, err = p.users(value)
		case "not_senders":
			f.notSenders, err = p.users(value)
		}
		return err
	}
}

func (f *RoomEventFilter) set(p *parser) setter {
	base := f.EventFilter.set(p)
	redundant := false
	return func(key string, value []byte) (err error) {
		switch key {
		case "rooms":
			f.rooms.only, err = p.rooms(value)
		case "not_rooms":
			f.rooms.not, err = p.rooms(value)
		case "contains_url":
			var wanted bool
			if wanted, err = p.bool(value); wanted {
				f.containsURL = yes
			} else {
				f.containsURL = no
			}
		case "unread_thread_notifications":
			f.UnreadThreadNotifications, err = p.bool(value)
		case "lazy_load_members":
			f.LazyLoadMembers, err = p.bool(value)
			f.IncludeRedundantMembers = f.LazyLoadMembers && redundant
		case "include_redundant_members":
			redundant, err = p.bool(value)
			f.IncludeRedundantMembers = f.LazyLoadMembers && redundant
		case "related_by_senders":
			f.RelatedBySenders, err = p.strings(value)
			if err == nil {
				_, err = p.users(value)
			}
		case "related_by_rel_types":
			f.RelatedByRelTypes, err = p.strings(value)
		default:
			err = base(key, value)
		}
		return err
	}
}

func (p *parser) bool(value []byte) (bool, error) {
	b, ok := canonicaljson.Bool(value)
	if !ok {
		return false, p.fail("a boolean")
	}
	return b, nil
}

func (p *parser) format(value []byte) (Format, error) {
	switch name, _ := canonicaljson.String(value); name {
	case "client":
		return FormatClient, nil
	case "federation":
		return FormatFederation, nil
	}
	return 0, p.fail(`"client" or "federation"`)
}

// limit reads an integer. Numbers that are too great, also for 64 bits, are taken as MaxLimit.
func (p *parser) limit(value []byte) (limit, error) {
	n, err := strconv.ParseUint(string(value), 10, 64)
	if err != nil && strings.Trim(string(value), "0123456789") != "" {
		return limit{}, p.fail("an integer that is not negative")
	}
	if err != nil || n > MaxLimit {
		n = MaxLimit
	}
	return limit{value: int(n), present: true}, nil
}

// strings reads an array of strings, into memory of its own. It is not nil.
func (p *parser) strings(value []byte) ([]string, error) {
	list := []string{}
	if !canonicaljson.IsArray(value) {
		return nil, p.fail("an array")
	}
	err := canonicaljson.Array(value, func(item []byte) error {
		s, ok := canonicaljson.String(item)
		if !ok {
			return p.fail("an array of strings")
		}
		list = append(list, strings.Clone(s))
		return nil
	})
	return list, err
}

// ids reads an array of identifiers. It is not nil.
func (p *parser) ids(value []byte, kind string, check func(string) error) (set, error) {
	list, err := p.strings(value)
	if err != nil {
		return nil, err
	}
	s := make(set, len(list))
	for _, item := range list {
		if check(item) != nil {
			return nil, p.fail("an array of " + kind)
		}
		s[item] = struct{}{}
	}
	return s, nil
}

func (p *parser) users(value []byte) (set, error) {
	return p.ids(value, "user IDs", func(s string) error { _, err := id.ParseUserID(s); return err })
}

func (p *parser) rooms(value []byte) (set, error) {
	return p.ids(value, "room IDs", func(s string) error { _, err := id.ParseRoomID(s); return err })
}

// types reads an array of event types with wildcards.
func (p *parser) types(value []byte) (*patterns, error) {
	list, err := p.strings(value)
	if err != nil {
		return nil, err
	}
	t := &patterns{literal: set{}}
	for _, item := range list {
		if pieces := strings.Split(item, "*"); len(pieces) > 1 {
			t.globs = append(t.globs, pieces)
		} else {
			t.literal[item] = struct{}{}
		}
	}
	if len(t.globs) > MaxWildcards {
		return nil, mxerr.TooLarge("%s of a filter must not have more than %d wildcards.", strings.Join(p.path, "."), MaxWildcards)
	}
	return t, nil
}
