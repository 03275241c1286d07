package event

import "stoa/matrix/id"

// AllowedRooms are the rooms whose members may join a restricted room.
//
// Spec: client-server-api#restricted-rooms
func (j *JoinRules) AllowedRooms() []id.RoomID {
	var rooms []id.RoomID
	for _, condition := range j.Allow {
		if condition.Type == AllowRoomMembership {
			rooms = append(rooms, condition.RoomID)
		}
	}
	return rooms
}
