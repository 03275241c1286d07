package room

import (
	"encoding/json"

	"stoa/matrix/id"
)

// Draft is an event that a local user wants to send.
type Draft struct {
	RoomID id.RoomID
	Sender id.UserID
	Type   string
	// StateKey is nil for a message event.
	StateKey *string
	// Content is a JSON object.
	Content json.RawMessage
	// Redacts is the target of an m.room.redaction. It may also be in Content, where
	// clients put it since room version 11; the event has it where the room version wants
	// it.
	Redacts id.EventID
	// Txn makes a repeated request return the event of the first.
	Txn Txn
	// Timestamp is the origin_server_ts in ms; 0 = now. Only application
	// services choose it.
	Timestamp int64
}

// Txn is a client's transaction ID with its scope. The zero value is none.
//
// Spec: client-server-api#transaction-identifiers
type Txn struct {
	UserID   id.UserID
	DeviceID string
	// Path is the endpoint with its room and event type: the same ID at another endpoint
	// is another transaction.
	Path string
	ID   string
}

func (t Txn) IsZero() bool { return t.ID == "" }

// Profile is the name and avatar that a member event shows; empty strings for none.
type Profile struct {
	DisplayName string
	AvatarURL   string
}

// memberContent builds the content of an m.room.member event.
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
