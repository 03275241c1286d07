package push

import (
	"encoding/json"

	"stoa/internal/store/pushdb"
	"stoa/matrix/event"
)

// notifyRequest is the body of a request to a gateway.
//
// Spec: push-gateway-api#post_matrixpushv1notify
type notifyRequest struct {
	Notification struct {
		EventID           string          `json:"event_id,omitempty"`
		RoomID            string          `json:"room_id,omitempty"`
		Type              string          `json:"type,omitempty"`
		Sender            string          `json:"sender,omitempty"`
		SenderDisplayName string          `json:"sender_display_name,omitempty"`
		RoomName          string          `json:"room_name,omitempty"`
		RoomAlias         string          `json:"room_alias,omitempty"`
		UserIsTarget      bool            `json:"user_is_target,omitempty"`
		Prio              string          `json:"prio,omitempty"`
		Content           json.RawMessage `json:"content,omitempty"`
		Counts            *counts         `json:"counts,omitempty"`
		Devices           []device        `json:"devices"`
	} `json:"notification"`
}

// counts are the numbers of unread events. Those that are 0 are left out, which sets them to 0.
type counts struct {
	Unread      int64 `json:"unread,omitempty"`
	MissedCalls int64 `json:"missed_calls,omitempty"`
}

type device struct {
	AppID     string                     `json:"app_id"`
	Pushkey   string                     `json:"pushkey"`
	PushkeyTS int64                      `json:"pushkey_ts"` // s
	Data      map[string]json.RawMessage `json:"data"`
	Tweaks    json.RawMessage            `json:"tweaks,omitempty"`
}

// message is what a pusher is to be told: of an event, or only the number of unread events.
type message struct {
	notice *notice // nil: only the number
	tweaks string  // JSON object, or empty
	target bool    // the event is about the user's own membership
}

// body renders a message for a pusher. unread is left out if it is below 0.
//
// Spec: push-gateway-api#homeserver-behaviour
func (m *message) body(p *pushdb.Pusher, d *data, unread int64) ([]byte, error) {
	var out notifyRequest
	x := &out.Notification
	dev := device{AppID: p.AppID, Pushkey: p.Pushkey, PushkeyTS: p.SetTS / 1000, Data: d.rest}
	if m.tweaks != "" {
		dev.Tweaks = json.RawMessage(m.tweaks)
	}
	x.Devices = []device{dev}
	if unread >= 0 {
		x.Counts = &counts{Unread: unread}
	}
	x.Prio = "low"
	if n := m.notice; n != nil {
		x.EventID, x.RoomID = n.pdu.EventID().String(), n.roomID.String()
		if m.isUrgent() {
			x.Prio = "high"
		}
		if !d.idOnly {
			x.Type, x.Sender, x.Content, x.UserIsTarget = n.pdu.Type(), n.pdu.Sender().String(), n.pdu.Content(), m.target
			x.SenderDisplayName, x.RoomName, x.RoomAlias = n.senderName, n.roomName, n.roomAlias
		}
	}
	return json.Marshal(out)
}

// isUrgent reports whether a phone should wake up for the message: it makes a sound or is a highlight, or nobody but the phone
// can tell, since it is encrypted.
func (m *message) isUrgent() bool {
	if m.notice.pdu.Type() == event.TypeEncrypted {
		return true
	}
	var tweaks struct {
		Sound     *string `json:"sound"`
		Highlight bool    `json:"highlight"`
	}
	// Tweaks of other types are for the phone.
	_ = json.Unmarshal([]byte(m.tweaks), &tweaks)
	return tweaks.Sound != nil || tweaks.Highlight
}
