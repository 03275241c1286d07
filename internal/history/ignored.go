package history

import (
	"encoding/json"
	"errors"

	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/matrix/event"
	"stoa/matrix/id"
)

// typeIgnoredUserList is account data of a user.
const typeIgnoredUserList = "m.ignored_user_list"

// ignores reports whether the viewer ignores a sender. State events are never ignored.
//
// Spec: client-server-api#ignoring-users
func (v *Viewer) ignores(sender id.UserID, isState bool) (bool, error) {
	if isState {
		return false, nil
	}
	ignored, err := v.ignoredUsers()
	return ignored[sender.String()], err
}

// ignoredUsers returns the viewer's list of ignored users, read once.
func (v *Viewer) ignoredUsers() (map[string]bool, error) {
	if v.ignored != nil {
		return v.ignored, nil
	}
	ignored := map[string]bool{}
	if v.Num != 0 {
		row, err := userdb.AccountDataOf(v.read, v.Num, "", typeIgnoredUserList)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		var list struct {
			IgnoredUsers map[string]json.RawMessage `json:"ignored_users"`
		}
		// A malformed list ignores nobody.
		if err == nil && json.Unmarshal([]byte(row.Content), &list) == nil {
			for user := range list.IgnoredUsers {
				ignored[user] = user != v.User.String()
			}
		}
	}
	v.ignored = ignored
	return ignored, nil
}

func (v *Viewer) hides(pdu *event.PDU) (bool, error) { return v.ignores(pdu.Sender(), pdu.IsState()) }
