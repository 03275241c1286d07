package clientapi

import (
	"encoding/json"
	"net/http"

	"stoa/internal/e2ee"
	"stoa/internal/httpkit"
	"stoa/internal/who"
	"stoa/matrix/mxerr"
)

// callersKeys gives who calls, for requests without a body.
func (a *API) callersKeys(r *http.Request) (who.Device, error) {
	caller, err := a.auth.Caller(r)
	return caller.Device, err
}

type backupBody struct {
	Algorithm string          `json:"algorithm"`
	AuthData  json.RawMessage `json:"auth_data"`
	Version   string          `json:"version"`
}

type backupName struct {
	Version string `json:"version"`
}

// createBackup serves POST /_matrix/client/v3/room_keys/version.
//
// Spec: client-server-api#post_matrixclientv3room_keysversion
func (a *API) createBackup(r *http.Request) (backupName, error) {
	var body backupBody
	device, err := a.readAsDevice(r, &body)
	if err != nil {
		return backupName{}, err
	}
	version, err := a.keys.CreateBackup(r.Context(), device, body.Algorithm, body.AuthData)
	return backupName{Version: version}, err
}

// backup serves GET /_matrix/client/v3/room_keys/version and …/version/{version}.
//
// Spec: client-server-api#get_matrixclientv3room_keysversionversion
func (a *API) backup(r *http.Request) (e2ee.BackupVersion, error) {
	device, err := a.callersKeys(r)
	if err != nil {
		return e2ee.BackupVersion{}, err
	}
	return a.keys.Backup(r.Context(), device, r.PathValue("version"))
}

// updateBackup serves PUT /_matrix/client/v3/room_keys/version/{version}.
//
// Spec: client-server-api#put_matrixclientv3room_keysversionversion
func (a *API) updateBackup(r *http.Request) (httpkit.Empty, error) {
	var body backupBody
	device, err := a.readAsDevice(r, &body)
	if err != nil {
		return httpkit.Empty{}, err
	}
	return httpkit.Empty{}, a.keys.UpdateBackup(r.Context(), device, r.PathValue("version"), body.Version, body.Algorithm, body.AuthData)
}

// deleteBackup serves DELETE /_matrix/client/v3/room_keys/version/{version}.
//
// Spec: client-server-api#delete_matrixclientv3room_keysversionversion
func (a *API) deleteBackup(r *http.Request) (httpkit.Empty, error) {
	device, err := a.callersKeys(r)
	if err != nil {
		return httpkit.Empty{}, err
	}
	return httpkit.Empty{}, a.keys.DeleteBackup(r.Context(), device, r.PathValue("version"))
}

// backupVersion is the version of the query, which all requests for sessions need.
func backupVersion(r *http.Request) (string, error) {
	query, err := httpkit.ParseQuery(r)
	if err != nil {
		return "", err
	}
	return query.Required("version")
}

// putBackup reads sessions in one of three shapes and stores them.
func (a *API) putBackup(r *http.Request, body any, rooms func() (map[string]e2ee.RoomKeyBackup, error)) (e2ee.BackupState, error) {
	device, err := a.readAsDevice(r, body)
	if err != nil {
		return e2ee.BackupState{}, err
	}
	version, err := backupVersion(r)
	if err != nil {
		return e2ee.BackupState{}, err
	}
	sessions, err := rooms()
	if err != nil {
		return e2ee.BackupState{}, err
	}
	return a.keys.PutBackup(r.Context(), device, version, sessions)
}

// putRoomKeys serves PUT /_matrix/client/v3/room_keys/keys.
//
// Spec: client-server-api#put_matrixclientv3room_keyskeys
func (a *API) putRoomKeys(r *http.Request) (e2ee.BackupState, error) {
	var body struct {
		Rooms map[string]e2ee.RoomKeyBackup `json:"rooms"`
	}
	return a.putBackup(r, &body, func() (map[string]e2ee.RoomKeyBackup, error) {
		if body.Rooms == nil {
			return nil, mxerr.BadJSON("rooms is missing")
		}
		return body.Rooms, nil
	})
}

// putRoomKeysOfRoom serves PUT /_matrix/client/v3/room_keys/keys/{roomId}.
//
// Spec: client-server-api#put_matrixclientv3room_keyskeysroomid
func (a *API) putRoomKeysOfRoom(r *http.Request) (e2ee.BackupState, error) {
	var body e2ee.RoomKeyBackup
	return a.putBackup(r, &body, func() (map[string]e2ee.RoomKeyBackup, error) {
		if body.Sessions == nil {
			return nil, mxerr.BadJSON("sessions is missing")
		}
		return map[string]e2ee.RoomKeyBackup{r.PathValue("roomId"): body}, nil
	})
}

// putRoomKey serves PUT /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}.
//
// Spec: client-server-api#put_matrixclientv3room_keyskeysroomidsessionid
func (a *API) putRoomKey(r *http.Request) (e2ee.BackupState, error) {
	var body e2ee.KeyBackupData
	return a.putBackup(r, &body, func() (map[string]e2ee.RoomKeyBackup, error) {
		return map[string]e2ee.RoomKeyBackup{r.PathValue("roomId"): {Sessions: map[string]e2ee.KeyBackupData{r.PathValue("sessionId"): body}}}, nil
	})
}

// backedUp gives the sessions that the path names.
func (a *API) backedUp(r *http.Request) (map[string]e2ee.RoomKeyBackup, error) {
	device, err := a.callersKeys(r)
	if err != nil {
		return nil, err
	}
	version, err := backupVersion(r)
	if err != nil {
		return nil, err
	}
	return a.keys.BackedUp(r.Context(), device, version, r.PathValue("roomId"), r.PathValue("sessionId"))
}

type allRoomKeys struct {
	Rooms map[string]e2ee.RoomKeyBackup `json:"rooms"`
}

// roomKeys serves GET /_matrix/client/v3/room_keys/keys.
//
// Spec: client-server-api#get_matrixclientv3room_keyskeys
func (a *API) roomKeys(r *http.Request) (allRoomKeys, error) {
	rooms, err := a.backedUp(r)
	return allRoomKeys{Rooms: rooms}, err
}

// roomKeysOfRoom serves GET /_matrix/client/v3/room_keys/keys/{roomId}. A room
// without sessions has an empty answer.
//
// Spec: client-server-api#get_matrixclientv3room_keyskeysroomid
func (a *API) roomKeysOfRoom(r *http.Request) (e2ee.RoomKeyBackup, error) {
	rooms, err := a.backedUp(r)
	room := rooms[r.PathValue("roomId")]
	if room.Sessions == nil {
		room.Sessions = map[string]e2ee.KeyBackupData{}
	}
	return room, err
}

// roomKey serves GET /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}.
//
// Spec: client-server-api#get_matrixclientv3room_keyskeysroomidsessionid
func (a *API) roomKey(r *http.Request) (e2ee.KeyBackupData, error) {
	rooms, err := a.backedUp(r)
	if err != nil {
		return e2ee.KeyBackupData{}, err
	}
	key, ok := rooms[r.PathValue("roomId")].Sessions[r.PathValue("sessionId")]
	if !ok {
		return key, mxerr.NotFound("No room keys found")
	}
	return key, nil
}

// deleteRoomKeys serves DELETE /_matrix/client/v3/room_keys/keys, …/{roomId} and
// …/{roomId}/{sessionId}.
//
// Spec: client-server-api#delete_matrixclientv3room_keyskeys
func (a *API) deleteRoomKeys(r *http.Request) (e2ee.BackupState, error) {
	device, err := a.callersKeys(r)
	if err != nil {
		return e2ee.BackupState{}, err
	}
	version, err := backupVersion(r)
	if err != nil {
		return e2ee.BackupState{}, err
	}
	return a.keys.DeleteBackedUp(r.Context(), device, version, r.PathValue("roomId"), r.PathValue("sessionId"))
}
