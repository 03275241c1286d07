package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// device is a client with its view of the model, which it computes from its answers to /sync alone.
type device struct {
	w               *model
	user            *user
	id, name, token string
	view            *view
	before          *view // before the newest answer, to use its token again
	due             []int // numbers of the messages to this device, in order
	lists           map[string]expected
}

// expected is what device_lists has to tell of a user: changed for somebody who shares a room now, left for somebody who does not.
type expected struct {
	isMember bool
	answers  int // since then
}

// view is what a client knows.
type view struct {
	since  string
	at     int // the step of the newest answer
	rooms  map[string]*roomView
	data   map[string]any // global account data by type
	secret []int          // messages to the device
	heard  []string       // events of timelines, in order
	// blind are types of state that an answer has left out by a filter since the last whole state.
	blind map[string]bool
}

// roomView is what a client knows of one room.
type roomView struct {
	membership string
	state      map[stateKey]map[string]any
	// whole says that all members are known; false for a client that loads them lazily.
	whole bool
	// skipped says that an answer has left the room out by a filter, so that what happened there is not known.
	skipped bool
	// newest is the newest event that the user could see when the device last synced, counted that there was such a sync.
	newest     string
	counted    bool
	summary    summary
	summarised bool // the summary was told since the room was skipped
	unread     map[string]any
	data       map[string]any // account data by type
	typing     []string
	read       map[receiptKey]string // events
	// nameless says that it was reported that the room has no name and no heroes were told.
	nameless bool
}

type stateKey struct{ evType, key string }

type receiptKey struct{ user, kind, thread string }

type summary struct {
	joined, invited int
	heroes          []string
}

func newView() *view {
	return &view{rooms: map[string]*roomView{}, data: map[string]any{}, blind: map[string]bool{}}
}

func newRoomView() *roomView {
	return &roomView{state: map[stateKey]map[string]any{}, data: map[string]any{}, read: map[receiptKey]string{}}
}

// clone copies a view, so that its token can be used again.
func (v *view) clone() *view {
	out := *v
	out.rooms = make(map[string]*roomView, len(v.rooms))
	for id, r := range v.rooms {
		c := *r
		c.state, c.data, c.read = maps.Clone(r.state), maps.Clone(r.data), maps.Clone(r.read)
		out.rooms[id] = &c
	}
	out.data, out.blind = maps.Clone(v.data), maps.Clone(v.blind)
	out.secret, out.heard = slices.Clone(v.secret), slices.Clone(v.heard)
	return &out
}

func (v *view) room(id string) *roomView {
	r := v.rooms[id]
	if r == nil {
		r = newRoomView()
		v.rooms[id] = r
	}
	return r
}

// syncing is how a device syncs.
type syncing struct {
	initial, fullState, stateAfter bool
	lazy, redundant, includeLeave  bool
	limit                          int // -1: not given
	types, notTypes                []string
	notSenders                     []string
	stateNotTypes                  []string
	onlyRooms, notRooms            []string
	roomsGiven                     bool // onlyRooms counts, even if it is empty
	presence                       string
	stored                         bool // the filter is stored first
	waiting                        bool // the answer may have come before there was something to tell
}

func plainSync() syncing { return syncing{limit: -1, waiting: true} }

// randomSync picks how to sync.
func (w *model) randomSync() syncing {
	s := syncing{limit: -1}
	s.fullState, s.stateAfter = w.chance(7), w.chance(25)
	s.lazy = w.chance(45)
	s.redundant = s.lazy && w.chance(20)
	s.includeLeave = w.chance(30)
	if w.chance(70) {
		s.limit = pick(w, []int{0, 1, 1, 2, 3, 5, 10, 20})
	}
	switch {
	case w.chance(10):
		s.types = pick(w, [][]string{{"m.room.message"}, {"m.room.*"}, {"m.room.message", "m.room.member"}})
	case w.chance(8):
		s.notTypes = pick(w, [][]string{{"m.room.message"}, {"m.room.member"}, {"m.room.topic", "m.room.name"}, {"*"}})
	case w.chance(4):
		s.notSenders = []string{pick(w, w.users).id}
	}
	if w.chance(4) {
		s.stateNotTypes = pick(w, [][]string{{"m.room.topic"}, {"m.room.member"}, {"m.room.name", "org.example.*"}})
	}
	if w.chance(6) && len(w.rooms) > 0 {
		if w.chance(40) {
			s.notRooms = []string{pick(w, w.rooms).id}
		} else {
			s.roomsGiven = true
			if w.chance(70) {
				s.onlyRooms = []string{pick(w, w.rooms).id}
			}
		}
	}
	if w.chance(20) {
		s.presence = pick(w, []string{"online", "offline", "unavailable"})
	}
	s.stored = w.chance(15)
	return s
}

// filter makes the filter's JSON text.
func (s *syncing) filter() string {
	timeline, state := map[string]any{}, map[string]any{}
	if s.limit >= 0 {
		timeline["limit"] = s.limit
	}
	if s.types != nil {
		timeline["types"] = s.types
	}
	if s.notTypes != nil {
		timeline["not_types"] = s.notTypes
	}
	if s.notSenders != nil {
		timeline["not_senders"] = s.notSenders
	}
	if s.stateNotTypes != nil {
		state["not_types"] = s.stateNotTypes
	}
	if s.lazy {
		state["lazy_load_members"] = true
	}
	if s.redundant {
		state["include_redundant_members"] = true
	}
	room := map[string]any{"timeline": timeline, "state": state}
	if s.includeLeave {
		room["include_leave"] = true
	}
	if s.roomsGiven {
		room["rooms"] = append([]string{}, s.onlyRooms...)
	}
	if s.notRooms != nil {
		room["not_rooms"] = s.notRooms
	}
	text, _ := json.Marshal(map[string]any{"room": room}) // it consists of texts and numbers
	return string(text)
}

// allowsRoom says whether the filter lets a room through.
func (s *syncing) allowsRoom(id string) bool {
	return (!s.roomsGiven || slices.Contains(s.onlyRooms, id)) && !slices.Contains(s.notRooms, id)
}

// shows says whether the filter lets an event into the timeline.
func (s *syncing) shows(e map[string]any) bool {
	evType := text(e, "type")
	return (s.types == nil || matches(s.types, evType)) && !matches(s.notTypes, evType) && !slices.Contains(s.notSenders, text(e, "sender"))
}

func matches(patterns []string, evType string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		start, wild := strings.CutSuffix(p, "*")
		return p == evType || wild && strings.HasPrefix(evType, start)
	})
}

// most is how many events a timeline may have.
func (s *syncing) most() int {
	if s.limit < 0 {
		return 10
	}
	return s.limit
}

func (s *syncing) String() string {
	out := s.filter()
	for _, x := range []struct {
		name string
		on   bool
	}{{"initial", s.initial}, {"full_state", s.fullState}, {"use_state_after", s.stateAfter}} {
		if x.on {
			out += " " + x.name
		}
	}
	return out
}

// syncSomehow has a device sync: mostly on from where it was, sometimes with the token before that, or from nothing.
func (w *model) syncSomehow(d *device) error {
	s := w.randomSync()
	switch {
	case w.chance(6) && d.before != nil:
		d.view = d.before.clone()
		clear(d.lists) // what was told is told again, and what is expected is not known
	case w.chance(4):
		s.initial = true
	}
	return d.sync(s)
}

// sync asks for what is new and does not wait.
func (d *device) sync(s syncing) error {
	query := url.Values{"timeout": {"0"}}
	if d.view.since == "" {
		s.initial = true
	}
	if !s.initial {
		query.Set("since", d.view.since)
	}
	if s.fullState {
		query.Set("full_state", "true")
	}
	if s.stateAfter {
		query.Set("use_state_after", "true")
	}
	if s.presence != "" {
		query.Set("set_presence", s.presence)
	}
	filter := s.filter()
	if s.stored {
		res, err := d.ask("POST", path("/v3/user/%s/filter", d.user.id), nil, json.RawMessage(filter))
		if err != nil {
			return err
		}
		filter = text(res.body, "filter_id")
	}
	query.Set("filter", filter)
	res, err := d.w.call(http.DefaultClient, d.token, "GET", "/v3/sync", query, nil, nil)
	if err != nil {
		return err
	}
	if !res.ok() {
		return fmt.Errorf("sync with %s: %v", s.String(), res)
	}
	return d.take(s, res)
}

// answer is an answer to /sync on its way into a view.
type answer struct {
	s    syncing
	body map[string]any
	// older is the view before it.
	older *view
}

// take takes an answer over, and compares what the device knows then with what the server says.
func (d *device) take(s syncing, res reply) error {
	d.w.transcript.sync(d.name, s, res.body)
	if d.w.verbose {
		fmt.Printf("%.3000s\n", d.w.transcript.lines[len(d.w.transcript.lines)-1])
	}
	d.before = d.view.clone()
	a := &answer{s: s, body: res.body, older: d.before}
	if s.initial {
		fresh := newView()
		fresh.secret = d.view.secret
		d.view = fresh
	}
	d.apply(a)
	return d.compare(a)
}

// apply computes the view after an answer, as clients do.
func (d *device) apply(a *answer) {
	v, s := d.view, &a.s
	v.since, v.at = text(a.body, "next_batch"), d.w.version
	if s.fullState && !s.initial && s.stateNotTypes == nil {
		clear(v.blind)
	}
	for _, t := range s.stateNotTypes {
		v.blind[t] = true
	}
	for _, r := range d.w.rooms {
		if !s.allowsRoom(r.id) {
			v.room(r.id).skipped, v.room(r.id).summarised = true, false
		} else if s.initial || s.fullState {
			if known := v.rooms[r.id]; known != nil && known.skipped {
				known.skipped, known.counted = false, false
				known.membership = "" // it is in the answer, or the user is not in it
			}
		}
	}
	for _, e := range events(a.body, "account_data") {
		v.data[text(e, "type")] = e["content"]
	}
	for _, e := range events(a.body, "to_device") {
		// What was not acknowledged comes once more with an initial sync.
		if n := number(object(e, "content"), "number"); !s.initial || !slices.Contains(v.secret, n) {
			v.secret = append(v.secret, n)
		}
	}
	rooms := object(a.body, "rooms")
	for id := range object(rooms, "invite") {
		v.enter(id, "invite")
	}
	for id := range object(rooms, "join") {
		entry := object(rooms, "join", id)
		r := v.enter(id, "join")
		if entered := d.entered(a, id); s.initial || s.fullState || entered {
			r.whole = !s.lazy || r.whole && !entered
			r.skipped = false
		}
		v.applyState(r, s, entry)
		if sum := object(entry, "summary"); sum != nil {
			r.summarised = true
			r.summary = summary{joined: number(sum, "m.joined_member_count"), invited: number(sum, "m.invited_member_count"), heroes: texts(sum["m.heroes"])}
		}
		if entry["unread_notifications"] != nil {
			r.unread = object(entry, "unread_notifications")
		}
		r.applyEphemeral(entry)
		for _, e := range events(entry, "account_data") {
			r.data[text(e, "type")] = e["content"]
		}
	}
	for id := range object(rooms, "leave") {
		entry := object(rooms, "leave", id)
		r := v.enter(id, "leave")
		if s.initial || s.fullState {
			r.whole = !s.lazy
			r.skipped = false
		}
		v.applyState(r, s, entry)
	}
}

// entered says that the user has come into a room since the answer before.
func (d *device) entered(a *answer, id string) bool {
	r := d.w.roomByID(id)
	return a.s.initial || r != nil && r.joinedAt[d.user] > a.older.at
}

func (v *view) enter(id, membership string) *roomView {
	r := v.room(id)
	if r.membership != membership {
		r.typing = nil
	}
	r.membership = membership
	return r
}

// applyState applies the state and the timeline of an entry.
func (v *view) applyState(r *roomView, s *syncing, entry map[string]any) {
	put := func(e map[string]any) {
		if key, ok := e["state_key"].(string); ok {
			r.state[stateKey{text(e, "type"), key}] = e
		}
	}
	for _, e := range events(entry, "state") {
		put(e)
	}
	for _, e := range events(entry, "timeline") {
		v.heard = append(v.heard, text(e, "event_id"))
		if !s.stateAfter {
			put(e)
		}
	}
	for _, e := range events(entry, "state_after") {
		put(e)
	}
}

// applyEphemeral takes typing and receipts over.
func (r *roomView) applyEphemeral(entry map[string]any) {
	for _, e := range events(entry, "ephemeral") {
		content := object(e, "content")
		if text(e, "type") == "m.typing" {
			r.typing = texts(content["user_ids"])
			slices.Sort(r.typing)
			continue
		}
		for eventID := range content {
			for kind := range object(content, eventID) {
				for userID := range object(content, eventID, kind) {
					r.read[receiptKey{userID, kind, text(object(content, eventID, kind, userID), "thread_id")}] = eventID
				}
			}
		}
	}
}
