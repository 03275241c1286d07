package clientapi

import (
	"encoding/json"
	"net/http"

	"stoa/internal/history"
	"stoa/internal/httpkit"
	"stoa/internal/search"
	"stoa/internal/timeline"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/eventfilter"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// Bounds of a search.
const (
	maxTerm        = 1 << 10 // bytes
	maxContext     = 50      // events before, and after, a result
	contextDefault = 5
)

// searchBody is the body of a search, and searchCriteria what it looks for.
type searchBody struct {
	Categories *struct {
		RoomEvents *searchCriteria `json:"room_events"`
	} `json:"search_categories"`
}

type searchCriteria struct {
	Term         *string         `json:"search_term"`
	Keys         []search.Key    `json:"keys"`
	Filter       json.RawMessage `json:"filter"`
	OrderBy      search.Order    `json:"order_by"`
	EventContext *searchContext  `json:"event_context"`
	IncludeState bool            `json:"include_state"`
	Groupings    struct {
		GroupBy []struct {
			Key search.GroupKey `json:"key"`
		} `json:"group_by"`
	} `json:"groupings"`
}

type searchContext struct {
	BeforeLimit    *int64 `json:"before_limit"`
	AfterLimit     *int64 `json:"after_limit"`
	IncludeProfile bool   `json:"include_profile"`
}

type searchAnswer struct {
	Categories struct {
		RoomEvents *searchResults `json:"room_events,omitempty"`
	} `json:"search_categories"`
}

type searchResults struct {
	Count      int                                         `json:"count"`
	Highlights []string                                    `json:"highlights"`
	Results    []searchHit                                 `json:"results"`
	Next       string                                      `json:"next_batch,omitempty"`
	Groups     map[search.GroupKey]map[string]*searchGroup `json:"groups,omitempty"`
	State      map[id.RoomID][]json.RawMessage             `json:"state,omitempty"`
}

type searchHit struct {
	Rank    float64              `json:"rank"`
	Result  json.RawMessage      `json:"result"`
	Context *searchContextAnswer `json:"context,omitempty"`
}

type searchContextAnswer struct {
	Start    string                   `json:"start"`
	End      string                   `json:"end"`
	Before   []json.RawMessage        `json:"events_before"`
	After    []json.RawMessage        `json:"events_after"`
	Profiles map[string]searchProfile `json:"profile_info,omitempty"`
}

type searchProfile struct {
	DisplayName json.RawMessage `json:"displayname,omitempty"`
	AvatarURL   json.RawMessage `json:"avatar_url,omitempty"`
}

type searchGroup struct {
	Next    string       `json:"next_batch,omitempty"`
	Order   int          `json:"order"`
	Results []id.EventID `json:"results"`
}

// searchEvents serves POST /_matrix/client/v3/search.
//
// Spec: client-server-api#post_matrixclientv3search
func (a *API) searchEvents(r *http.Request) (searchAnswer, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return searchAnswer{}, err
	}
	query, err := httpkit.ParseQuery(r)
	if err != nil {
		return searchAnswer{}, err
	}
	var body searchBody
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return searchAnswer{}, err
	}
	if body.Categories == nil {
		return searchAnswer{}, mxerr.BadJSON("search_categories is missing")
	}
	criteria := body.Categories.RoomEvents
	if criteria == nil {
		return searchAnswer{}, nil
	}
	request, err := criteria.request()
	if err != nil {
		return searchAnswer{}, err
	}
	request.From = query.Get("next_batch")
	found, err := a.search.Search(r.Context(), caller.UserID, request)
	if err != nil {
		return searchAnswer{}, err
	}
	var answer searchAnswer
	answer.Categories.RoomEvents = criteria.render(a.reader(caller), found)
	return answer, nil
}

// request checks the criteria.
func (c *searchCriteria) request() (search.Request, error) {
	q := search.Request{Keys: c.Keys, Order: c.OrderBy, State: c.IncludeState, Filter: eventfilter.AllRoomEvents()}
	if c.Term == nil {
		return q, mxerr.BadJSON("search_term is missing")
	}
	if q.Term = *c.Term; len(q.Term) > maxTerm {
		return q, mxerr.InvalidParam("search_term has more than %d bytes", maxTerm)
	}
	for _, key := range c.Keys {
		if key != search.Body && key != search.Name && key != search.Topic {
			return q, mxerr.InvalidParam("keys must be of content.body, content.name and content.topic")
		}
	}
	for _, g := range c.Groupings.GroupBy {
		if g.Key != search.GroupRoom && g.Key != search.GroupSender {
			return q, mxerr.InvalidParam("results can be grouped by room_id and sender")
		}
	}
	switch q.Order {
	case "":
		q.Order = search.ByRank
	case search.ByRank, search.ByRecent:
	default:
		return q, mxerr.InvalidParam("order_by must be rank or recent")
	}
	if len(c.Filter) > 0 && string(c.Filter) != "null" {
		var err error
		if q.Filter, err = eventfilter.ParseRoomEvents(c.Filter); err != nil {
			return q, err
		}
	}
	q.Limit = min(max(q.Filter.Limit(), 1), search.MostResults)
	if e := c.EventContext; e != nil {
		q.Context, q.Profiles = true, e.IncludeProfile
		var err error
		if q.Before, err = contextLimit("before_limit", e.BeforeLimit); err != nil {
			return q, err
		}
		if q.After, err = contextLimit("after_limit", e.AfterLimit); err != nil {
			return q, err
		}
	}
	return q, nil
}

func contextLimit(name string, n *int64) (int, error) {
	switch {
	case n == nil:
		return contextDefault, nil
	case *n < 0:
		return 0, mxerr.InvalidParam("%s must not be negative", name)
	}
	return int(min(*n, maxContext)), nil
}

func (c *searchCriteria) render(reader *timeline.Reader, found *search.Result) *searchResults {
	out := &searchResults{Count: found.Count, Highlights: found.Words, Results: []searchHit{}, Next: found.Next}
	if out.Highlights == nil {
		out.Highlights = []string{}
	}
	for i := range found.Hits {
		h := &found.Hits[i]
		hit := searchHit{Rank: h.Score, Result: show(reader, h.Room, &h.Context.Event)}
		if c.EventContext != nil {
			hit.Context = &searchContextAnswer{
				Start: h.Context.Start.String(), End: h.Context.End.String(),
				Before: showAll(reader, h.Room, h.Context.Before), After: showAll(reader, h.Room, h.Context.After),
				Profiles: profilesOf(h.Members),
			}
		}
		out.Results = append(out.Results, hit)
		c.group(out, found, h)
	}
	for roomID, state := range found.State {
		if out.State == nil {
			out.State = map[id.RoomID][]json.RawMessage{}
		}
		out.State[roomID] = showAll(reader, roomID, state)
	}
	return out
}

// group adds a result to the groups that were asked for.
func (c *searchCriteria) group(out *searchResults, found *search.Result, h *search.Hit) {
	for _, by := range c.Groupings.GroupBy {
		value := h.Room.String()
		if by.Key == search.GroupSender {
			value = h.Context.Event.PDU.Sender().String()
		}
		if out.Groups == nil {
			out.Groups = map[search.GroupKey]map[string]*searchGroup{}
		}
		if out.Groups[by.Key] == nil {
			out.Groups[by.Key] = map[string]*searchGroup{}
		}
		groups := out.Groups[by.Key]
		if groups[value] == nil {
			groups[value] = &searchGroup{Order: len(groups) + 1, Next: found.NextIn(by.Key, value)}
		}
		groups[value].Results = append(groups[value].Results, h.Context.Event.PDU.EventID())
	}
}

// profilesOf returns names and avatars in member events.
func profilesOf(members []history.View) map[string]searchProfile {
	profiles := make(map[string]searchProfile, len(members))
	for i := range members {
		content := members[i].Content()
		user, ok := members[i].PDU.StateKey()
		if ok {
			profiles[user] = searchProfile{
				DisplayName: canonicaljson.Get(content, "displayname"), AvatarURL: canonicaljson.Get(content, "avatar_url"),
			}
		}
	}
	return profiles
}
