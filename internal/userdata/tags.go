package userdata

import (
	"context"
	"encoding/json"
	"errors"

	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

const (
	// maxTags bounds the tags of a room.
	maxTags = 100
	// maxTag bounds the name of a tag, in bytes.
	//
	// Spec: client-server-api#room-tagging
	maxTag = 255
)

// tagContent is the content of m.tag.
type tagContent struct {
	Tags map[string]json.RawMessage `json:"tags"`
}

// Tags returns the tags of a room by name.
//
// Spec: client-server-api#get_matrixclientv3useruseridroomsroomidtags
func (d *Data) Tags(ctx context.Context, user who.User, roomID id.RoomID) (map[string]json.RawMessage, error) {
	var content tagContent
	err := d.store.Read(ctx, func(r *store.Read) (err error) {
		content, err = loadTags(r, user, roomID)
		return err
	})
	return content.Tags, err
}

func loadTags(r *store.Read, user who.User, roomID id.RoomID) (tagContent, error) {
	none := tagContent{Tags: map[string]json.RawMessage{}}
	row, err := userdb.AccountDataOf(r, user.UserNum, roomID.String(), TypeTag)
	if errors.Is(err, store.ErrNotFound) {
		return none, nil
	}
	if err != nil {
		return none, err
	}
	var content tagContent
	// The client may have written anything as account data. Invalid tags count as none.
	if json.Unmarshal([]byte(row.Content), &content) != nil || content.Tags == nil {
		return none, nil
	}
	return content, nil
}

// SetTag adds a tag to a room, or replaces it; info is the body of the request.
//
// Spec: client-server-api#put_matrixclientv3useruseridroomsroomidtagstag
func (d *Data) SetTag(ctx context.Context, user who.User, roomID id.RoomID, tag string, info json.RawMessage) error {
	if tag == "" || len(tag) > maxTag {
		return mxerr.InvalidParam("A tag has 1 to %d bytes", maxTag)
	}
	var shape struct {
		Order *float64 `json:"order"`
	}
	if err := json.Unmarshal(info, &shape); err != nil {
		return mxerr.BadJSON("order must be a number").Because(err)
	}
	if shape.Order != nil && (*shape.Order < 0 || *shape.Order > 1) {
		return mxerr.InvalidParam("order must be between 0 and 1")
	}
	return d.changeTags(ctx, user, roomID, func(tags map[string]json.RawMessage) error {
		if _, there := tags[tag]; !there && len(tags) >= maxTags {
			return mxerr.TooLarge("A room may have %d tags", maxTags)
		}
		tags[tag] = info
		return nil
	})
}

// DeleteTag removes a tag from a room; a missing one is no error.
//
// Spec: client-server-api#delete_matrixclientv3useruseridroomsroomidtagstag
func (d *Data) DeleteTag(ctx context.Context, user who.User, roomID id.RoomID, tag string) error {
	return d.changeTags(ctx, user, roomID, func(tags map[string]json.RawMessage) error {
		delete(tags, tag)
		return nil
	})
}

func (d *Data) changeTags(ctx context.Context, user who.User, roomID id.RoomID, edit func(map[string]json.RawMessage) error) error {
	_, err := d.change(ctx, "change tags", user, func(r *store.Read, c *store.Change) error {
		content, err := loadTags(r, user, roomID)
		if err != nil {
			return err
		}
		if err := edit(content.Tags); err != nil {
			return err
		}
		text, err := json.Marshal(content)
		if err != nil {
			return err
		}
		if len(text) > maxEntry {
			return mxerr.TooLarge("The tags have more than %d bytes", maxEntry)
		}
		if _, err := checkRoom(r, user, roomID.String(), TypeTag, len(text)); err != nil {
			return err
		}
		userdb.PutAccountData(c, user.UserNum, roomID.String(), TypeTag, string(text))
		return nil
	})
	return err
}
