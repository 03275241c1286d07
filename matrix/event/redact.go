package event

import (
	"stoa/matrix/canonicaljson"
	"stoa/matrix/roomversion"
)

// Redact puts an event through the redaction algorithm of its room version. The event must be canonical JSON, as PDU.Bytes; the
// result is so too. Signatures and hashes are kept, `unsigned` is not.
//
// Spec: client-server-api#redactions, rooms/v1#redactions, rooms/v6#redactions, rooms/v8#redactions, rooms/v9#redactions, rooms/v11#redactions
func Redact(rules *roomversion.Rules, event []byte) ([]byte, error) {
	evType, ok := canonicaljson.String(canonicaljson.Get(event, "type"))
	if !ok {
		return nil, badFormat("type", "it is missing or no string")
	}
	return appendRedacted(make([]byte, 0, len(event)), rules, evType, event, true)
}

// Redacted returns the event after the redaction algorithm; the event itself if that changes nothing. IDs, hashes and
// signatures are those of the event.
func (p *PDU) Redacted() *PDU {
	redacted, err := p.redacted()
	if err != nil {
		panic("event: the redacted form of a valid event is not valid: " + err.Error())
	}
	if len(redacted.bytes) == len(p.bytes) {
		return p
	}
	redacted.setEventID(p.eventID)
	return redacted
}

func (p *PDU) redacted() (*PDU, error) {
	bytes, err := appendRedacted(make([]byte, 0, len(p.bytes)), p.rules, p.evType, p.bytes, true)
	if err != nil {
		return nil, err
	}
	return read(p.rules, bytes)
}

// appendRedacted appends the redacted form of a canonical event of a type, with or without its signatures. Without them
// it is what is signed and what the reference hash covers.
func appendRedacted(dst []byte, rules *roomversion.Rules, evType string, event []byte, signatures bool) ([]byte, error) {
	dst = append(dst, '{')
	err := canonicaljson.Object(event, func(key string, value []byte) (err error) {
		switch key {
		case "event_id", "type", "room_id", "sender", "state_key", "hashes", "depth", "prev_events", "auth_events",
			"origin_server_ts":
			dst = canonicaljson.AppendMember(dst, key, value)
		case "signatures":
			if signatures {
				dst = canonicaljson.AppendMember(dst, key, value)
			}
		case "prev_state", "origin", "membership":
			if rules.Redaction < roomversion.RedactionV11 {
				dst = canonicaljson.AppendMember(dst, key, value)
			}
		case "content":
			dst, err = appendRedactedContent(canonicaljson.AppendKey(dst, key), rules.Redaction, evType, value)
		}
		return err
	})
	if err != nil {
		return nil, wrap(err)
	}
	return append(dst, '}'), nil
}

// appendRedactedContent appends what the redaction algorithm leaves of a content.
func appendRedactedContent(dst []byte, rules roomversion.Redaction, evType string, content []byte) ([]byte, error) {
	if evType == TypeCreate && rules >= roomversion.RedactionV11 {
		return append(dst, content...), nil
	}
	dst = append(dst, '{')
	err := canonicaljson.Object(content, func(key string, value []byte) error {
		if keeps(rules, evType, key) {
			dst = canonicaljson.AppendMember(dst, key, value)
		} else if evType == TypeMember && key == "third_party_invite" && rules >= roomversion.RedactionV11 {
			dst = appendSignedInvite(dst, value)
		}
		return nil
	})
	if err != nil {
		return nil, badFormat("content", "it is no object")
	}
	return append(dst, '}'), nil
}

// appendSignedInvite appends what is left of third_party_invite: nothing if it is no object, otherwise an object with `signed`
// or without any key. The specification leaves open whether the empty object stays; that it does is what most servers of
// the federation say, and event IDs depend on it.
func appendSignedInvite(dst, invite []byte) []byte {
	if !canonicaljson.IsObject(invite) {
		return dst
	}
	dst = append(canonicaljson.AppendKey(dst, "third_party_invite"), '{')
	if signed := canonicaljson.Get(invite, "signed"); signed != nil {
		dst = canonicaljson.AppendMember(dst, "signed", signed)
	}
	return append(dst, '}')
}

// keeps says whether the redaction algorithm keeps a key of the content of a type, whole.
func keeps(rules roomversion.Redaction, evType, key string) bool {
	switch evType {
	case TypeMember:
		return key == "membership" || key == "join_authorised_via_users_server" && rules >= roomversion.RedactionV9
	case TypeCreate:
		return key == "creator"
	case TypeJoinRules:
		return key == "join_rule" || key == "allow" && rules >= roomversion.RedactionV8
	case TypePowerLevels:
		switch key {
		case "ban", "events", "events_default", "kick", "redact", "state_default", "users", "users_default":
			return true
		case "invite":
			return rules >= roomversion.RedactionV11
		}
	case TypeAliases:
		return key == "aliases" && rules < roomversion.RedactionV6
	case TypeHistoryVisibility:
		return key == "history_visibility"
	case TypeRedaction:
		return key == "redacts" && rules >= roomversion.RedactionV11
	}
	return false
}
