package room

import (
	"encoding/json"

	"stoa/matrix/id"
)

// Draft is an event that somebody on this server wants in a room.
type Draft struct {
	RoomID id.RoomID
	Sender id.UserID
	Type   string
	// StateKey is nil for a message event.
	StateKey *string
	// Content is a JSON object.
	Content json.RawMessage
	// Redacts is the target of an m.room.redaction. It may also be given in
	// Content, as clients do from room version 11 on; the event gets it where
	// the room version wants it.
	Redacts id.EventID
	// Txn makes a repeated request give the same event.
	Txn Txn
	// Timestamp is the origin_server_ts in ms; 0 = now. Only application
	// services choose it.
	Timestamp int64
}

// Txn is a client's transaction ID with what scopes it. The zero value is none.
//
// Spec: client-server-api#transaction-identifiers
type Txn struct {
	UserID   id.UserID
	DeviceID string
	// Path is the endpoint with its room and event type, so that the same ID
	// in another endpoint is another transaction.
	Path string
	ID   string
}

// IsZero says whether there is no transaction ID.
func (t Txn) IsZero() bool { return t.ID == "" }

// Profile is what a member event shows of its user; empty strings for nothing.
type Profile struct {
	DisplayName string
	AvatarURL   string
}

// memberContent makes the content of an m.room.member event.
func memberContent(membership string, profile Profile, reason string, extra map[string]any) map[string]any {
	content := make(map[string]any, len(extra)+4)
	for key, value := range extra {
		content[key] = value
	}
	content["membership"] = membership
	if profile.DisplayName != "" {
		content["displayname"] = profile.DisplayName
	}
	if profile.AvatarURL != "" {
		content["avatar_url"] = profile.AvatarURL
	}
	if reason != "" {
		content["reason"] = reason
	}
	return content
}
