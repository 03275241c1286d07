package synctest

import "stoa/matrix/id"

// The shape of an answer.
type (
	Answer struct {
		Raw       string `json:"-"`
		NextBatch string `json:"next_batch"`
		Rooms     struct {
			Join, Leave map[string]RoomAnswer
			Invite      map[string]struct {
				State EventList `json:"invite_state"`
			}
			Knock map[string]struct {
				State EventList `json:"knock_state"`
			}
		}
		AccountData EventList                        `json:"account_data"`
		ToDevice    EventList                        `json:"to_device"`
		DeviceLists struct{ Changed, Left []string } `json:"device_lists"`
		Presence    EventList
		Counts      map[string]int `json:"device_one_time_keys_count"`
	}
	RoomAnswer struct {
		Timeline struct {
			EventList
			Limited   bool
			PrevBatch string `json:"prev_batch"`
		}
		State, Ephemeral EventList
		StateAfter       *EventList        `json:"state_after"`
		AccountData      EventList         `json:"account_data"`
		Unread           counts            `json:"unread_notifications"`
		Threads          map[string]counts `json:"unread_thread_notifications"`
		Summary          struct {
			Heroes  []string `json:"m.heroes"`
			Joined  *int     `json:"m.joined_member_count"`
			Invited *int     `json:"m.invited_member_count"`
		}
	}
	counts struct {
		Highlights    int `json:"highlight_count"`
		Notifications int `json:"notification_count"`
	}
	EventList struct{ Events []Event }
	Event     struct {
		EventID  string `json:"event_id"`
		Type     string
		Sender   string
		RoomID   string  `json:"room_id"`
		StateKey *string `json:"state_key"`
		Content  map[string]any
		Unsigned struct {
			Membership    string
			TransactionID string         `json:"transaction_id"`
			PrevContent   map[string]any `json:"prev_content"`
			ReplacesState string         `json:"replaces_state"`
			Relations     map[string]any `json:"m.relations"`
			Because       *Event         `json:"redacted_because"`
		}
	}
)

// Bodies are the texts of the messages among events.
func (e EventList) Bodies() []string {
	var out []string
	for _, ev := range e.Events {
		if body, ok := ev.Content["body"].(string); ok {
			out = append(out, body)
		}
	}
	return out
}

// Names are the events as type or type/state key, in order.
func (e EventList) Names() []string {
	var out []string
	for _, ev := range e.Events {
		name := ev.Type
		if ev.StateKey != nil && *ev.StateKey != "" {
			name += "/" + *ev.StateKey
		}
		out = append(out, name)
	}
	return out
}

func (e EventList) Find(evType, stateKey string) *Event {
	for i, ev := range e.Events {
		if ev.Type == evType && (ev.StateKey == nil && stateKey == "" || ev.StateKey != nil && *ev.StateKey == stateKey) {
			return &e.Events[i]
		}
	}
	return nil
}

func (a Answer) Join(r id.RoomID) RoomAnswer { return a.Rooms.Join[r.String()] }
