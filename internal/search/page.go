package search

import (
	"encoding/base64"
	"encoding/json"
	"strings"

	"stoa/internal/store"
	"stoa/matrix/mxerr"
)

// GroupKey is what results can be grouped by.
type GroupKey string

const (
	GroupRoom   GroupKey = "room_id"
	GroupSender GroupKey = "sender"
)

// page says which page of the results is next. It is the content of a next_batch.
type page struct {
	// Before is the number that the events are below; 0 = the start.
	Before store.EventNum `json:"b"`
	// Skip is how many of the ranked results were returned before.
	Skip int `json:"s,omitempty"`
	// Count is what the first page has counted.
	Count int `json:"c,omitempty"`
	// Open says that the last word may go on.
	Open bool `json:"o,omitempty"`
	// Group and Value restrict the results to one room or sender.
	Group GroupKey `json:"g,omitempty"`
	Value string   `json:"v,omitempty"`
}

// format is the format letter of the tokens.
const format = "f"

func (p page) token() string {
	text, err := json.Marshal(p)
	if err != nil {
		panic(err) // numbers and strings always have a JSON form
	}
	return format + base64.RawURLEncoding.EncodeToString(text)
}

func errPage() *mxerr.Error { return mxerr.InvalidParam("next_batch is not one of this server") }

func parsePage(token string) (p page, err error) {
	rest, ok := strings.CutPrefix(token, format)
	text, err := base64.RawURLEncoding.DecodeString(rest)
	if !ok || err != nil || json.Unmarshal(text, &p) != nil || p.Before < 1 || p.Skip < 0 || p.Count < 0 {
		return page{}, errPage()
	}
	switch p.Group {
	case "", GroupRoom, GroupSender:
		return p, nil
	}
	return page{}, errPage()
}

// has reports whether a result belongs to the group of the page.
func (p page) has(h Hit) bool {
	switch p.Group {
	case GroupRoom:
		return h.Room.String() == p.Value
	case GroupSender:
		return h.found.View.PDU.Sender().String() == p.Value
	}
	return true
}
