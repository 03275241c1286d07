package directory

import (
	"encoding/json"

	"stoa/internal/history"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/id"
)

// Published is what the list of published rooms tells of a room.
//
// Spec: client-server-api#get_matrixclientv3publicrooms
type Published struct {
	RoomID           id.RoomID `json:"room_id"`
	Name             string    `json:"name,omitempty"`
	Topic            string    `json:"topic,omitempty"`
	AvatarURL        string    `json:"avatar_url,omitempty"`
	CanonicalAlias   string    `json:"canonical_alias,omitempty"`
	JoinRule         string    `json:"join_rule,omitempty"`
	RoomType         string    `json:"room_type,omitempty"`
	NumJoinedMembers int64     `json:"num_joined_members"`
	WorldReadable    bool      `json:"world_readable"`
	GuestCanJoin     bool      `json:"guest_can_join"`
}

// Summary is what is told of a room to those who may find it.
//
// Spec: client-server-api#get_matrixclientv1room_summaryroomidoralias
type Summary struct {
	Published
	AllowedRoomIDs []id.RoomID `json:"allowed_room_ids,omitempty"`
	Encryption     string      `json:"encryption,omitempty"`
	RoomVersion    string      `json:"room_version,omitempty"`
	// Membership is that of who asks; empty for nobody.
	Membership string `json:"membership,omitempty"`
}

// Child is a room of a space with its own children.
//
// Spec: client-server-api#get_matrixclientv1roomsroomidhierarchy
type Child struct {
	Summary
	ChildrenState []json.RawMessage `json:"children_state"`
}

// describe tells what is to be told of a room. It does not ask whether the viewer
// may know it.
func describe(v *history.Viewer, roomID id.RoomID) (Summary, error) {
	state, err := v.State(event.TypeCreate, event.TypeJoinRules, event.TypeName, event.TypeTopic, event.TypeAvatar, event.TypeCanonicalAlias,
		event.TypeGuestAccess, event.TypeEncryption)
	if err != nil {
		return Summary{}, err
	}
	text := func(evType, key string) string {
		pdu := state[evType]
		if pdu == nil {
			return ""
		}
		value, _ := canonicaljson.String(canonicaljson.Get(pdu.Content(), key))
		return value
	}
	s := Summary{
		Published: Published{
			RoomID: roomID, Name: text(event.TypeName, "name"), Topic: text(event.TypeTopic, "topic"), AvatarURL: text(event.TypeAvatar, "url"),
			CanonicalAlias: text(event.TypeCanonicalAlias, "alias"), JoinRule: text(event.TypeJoinRules, "join_rule"),
			RoomType: text(event.TypeCreate, "type"), NumJoinedMembers: v.Room.Joined, WorldReadable: v.IsWorldReadable(),
			GuestCanJoin: text(event.TypeGuestAccess, "guest_access") == "can_join",
		},
		Encryption: text(event.TypeEncryption, "algorithm"), RoomVersion: v.Room.Version,
	}
	if s.JoinRule == event.JoinRuleRestricted || s.JoinRule == event.JoinRuleKnockRestricted {
		rules, err := state[event.TypeJoinRules].JoinRules()
		if err != nil {
			return Summary{}, err
		}
		s.AllowedRoomIDs = rules.AllowedRooms()
	}
	return s, nil
}
