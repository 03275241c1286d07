package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

// model is one seed on one server: some users, their devices and rooms.
type model struct {
	srv        *server
	seed       uint64
	opt        *options
	verbose    bool
	rnd        *rand.Rand
	transcript *transcript
	faults     []fault
	requests   atomic.Int64
	shown      map[shownKey]*shown
	joined     map[*user][]string // joined_rooms, as of joinedAt
	joinedAt   map[*user]int

	users   []*user
	devices []*device
	rooms   []*room
	// version counts the acts: what was read of the server before holds for as long as nothing is done.
	version int
	txn     int
	// restarted says that the server has been stopped or killed in this seed.
	restarted bool
}

// user is somebody with devices.
type user struct {
	id      string
	devices []*device
}

// room is what the program knows of a room from the acts that succeeded.
type room struct {
	id         string
	membership map[*user]string
	joinedAt   map[*user]int  // the step of the newest join, 0 for somebody who has never been in it
	leftAt     map[*user]int  // the steps at which users ceased to be in it
	forgotten  map[*user]bool // since the last act that makes the room known again
	events     []string       // that may be redacted, read, related to
}

// fault is a mismatch. known is the name of the fault that it is an example of, "" if it is new.
type fault struct {
	step         int
	known, where string
	text         string
}

func (f fault) String() string {
	if f.known != "" {
		return fmt.Sprintf("step %d: %s: %s (known: %s)", f.step, f.where, f.text, f.known)
	}
	return fmt.Sprintf("step %d: %s: MISMATCH: %s", f.step, f.where, f.text)
}

func newModel(srv *server, seed uint64, o *options) *model {
	return &model{shown: map[shownKey]*shown{}, joined: map[*user][]string{}, joinedAt: map[*user]int{}, srv: srv, seed: seed, opt: o, verbose: o.verbose, rnd: rand.New(rand.NewPCG(seed, 14)), transcript: newTranscript()}
}

func (w *model) unknown() int {
	n := 0
	for _, f := range w.faults {
		if f.known == "" {
			n++
		}
	}
	return n
}

// maxFaults ends a seed that goes wrong everywhere.
const maxFaults = 10

// play does a whole seed.
func (w *model) play() error {
	if err := w.settle(); err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	for w.version = 1; w.version <= w.opt.steps && w.unknown() < maxFaults; w.version++ {
		if err := w.step(); err != nil {
			return fmt.Errorf("step %d: %w", w.version, err)
		}
	}
	if err := w.finish(); err != nil {
		return fmt.Errorf("at the end: %w", err)
	}
	return nil
}

// devicesOf are the numbers of devices of the users.
var devicesOf = []int{3, 2, 1}

// settle makes the users and their devices.
func (w *model) settle() error {
	for i, count := range devicesOf {
		localpart := fmt.Sprintf("s%du%d", w.seed, i)
		u := &user{id: "@" + localpart + ":" + serverName}
		w.users = append(w.users, u)
		for n := range count {
			d := &device{w: w, user: u, id: fmt.Sprintf("D%d", n), name: fmt.Sprintf("u%d/D%d", i, n), view: newView(), lists: map[string]expected{}}
			var res reply
			var err error
			if n == 0 {
				res, err = w.call(http.DefaultClient, "", "POST", "/v3/register", nil, map[string]any{"username": localpart,
					"password": "a long password", "device_id": d.id, "auth": map[string]any{"type": "m.login.dummy"}}, nil)
			} else {
				res, err = w.call(http.DefaultClient, "", "POST", "/v3/login", nil, map[string]any{"type": "m.login.password",
					"identifier": map[string]any{"type": "m.id.user", "user": localpart}, "password": "a long password", "device_id": d.id}, nil)
			}
			if err != nil {
				return err
			}
			if d.token = text(res.body, "access_token"); d.token == "" {
				return fmt.Errorf("log in: %v", res)
			}
			u.devices = append(u.devices, d)
			w.devices = append(w.devices, d)
		}
	}
	return nil
}

// chance says yes in some of a hundred cases.
func (w *model) chance(percent int) bool { return w.rnd.IntN(100) < percent }

func pick[T any](w *model, list []T) T { return list[w.rnd.IntN(len(list))] }

// act is something that a device may do, with its share.
type act struct {
	share int
	do    func(*model, *device) error
}

var acts = []act{
	{42, (*model).syncSomehow},
	{4, (*model).createRoom},
	{8, (*model).join},
	{4, (*model).leave},
	{2, (*model).forget},
	{4, (*model).invite},
	{2, (*model).kickOrBan},
	{16, (*model).sendSomething},
	{3, (*model).sendMany},
	{10, (*model).setState},
	{3, (*model).setVisibility},
	{3, (*model).redact},
	{2, (*model).setProfile},
	{2, (*model).setTyping},
	{5, (*model).sendReceipt},
	{3, (*model).setAccountData},
	{2, (*model).setTag},
	{1, (*model).setPushRule},
	{2, (*model).sendToDevice},
	{5, (*model).wakeUp},
	{1, (*model).maybeRestart},
}

var shares = func() (sum int) {
	for _, a := range acts {
		sum += a.share
	}
	return sum
}()

func (w *model) step() error {
	d := pick(w, w.devices)
	n := w.rnd.IntN(shares)
	shared, joined := w.sharing(), w.joinedNow()
	defer func() {
		for in := range joined {
			if in.room.membership[in.user] != "join" {
				in.room.leftAt[in.user] = w.version
			}
		}
		w.expectLists(shared)
	}()
	if len(w.rooms) == 0 && !w.chance(20) {
		return w.createRoom(d)
	}
	for _, a := range acts {
		if n < a.share {
			return a.do(w, d)
		}
		n -= a.share
	}
	return errors.New("no act")
}

// inRoom is a user in a room.
type inRoom struct {
	user *user
	room *room
}

func (w *model) joinedNow() map[inRoom]bool {
	out := map[inRoom]bool{}
	for _, r := range w.rooms {
		for _, u := range w.users {
			if r.membership[u] == "join" {
				out[inRoom{u, r}] = true
			}
		}
	}
	return out
}

type pair struct{ a, b *user }

// sharing are the pairs of users who share a room.
func (w *model) sharing() map[pair]bool {
	out := map[pair]bool{}
	for _, r := range w.rooms {
		for _, a := range w.users {
			for _, b := range w.users {
				if a != b && r.membership[a] == "join" && r.membership[b] == "join" {
					out[pair{a, b}] = true
				}
			}
		}
	}
	return out
}

// expectLists has the devices of users who have begun or ceased to share a room expect each other in device_lists.
func (w *model) expectLists(before map[pair]bool) {
	now := w.sharing()
	for _, d := range w.devices {
		for _, other := range w.users {
			if p := (pair{d.user, other}); d.view.since != "" && now[p] != before[p] {
				if x, is := d.lists[other.id]; is && x.answers == 0 {
					delete(d.lists, other.id) // it is again as the device knows it
				} else {
					d.lists[other.id] = expected{isMember: now[p]}
				}
			}
		}
	}
}

// roomOf picks a room, mostly one in which the user has one of some memberships; nil if there is no room.
func (w *model) roomOf(u *user, memberships ...string) *room {
	if len(w.rooms) == 0 {
		return nil
	}
	if w.chance(8) {
		return pick(w, w.rooms)
	}
	var fit []*room
	for _, r := range w.rooms {
		if slices.Contains(memberships, r.membership[u]) {
			fit = append(fit, r)
		}
	}
	if len(fit) == 0 {
		return nil
	}
	return pick(w, fit)
}

func (w *model) createRoom(d *device) error {
	if len(w.rooms) >= 5 {
		return w.sendSomething(d)
	}
	body := map[string]any{"preset": pick(w, []string{"private_chat", "public_chat", "public_chat", "trusted_private_chat"})}
	if w.chance(50) {
		body["name"] = fmt.Sprintf("room %d", len(w.rooms))
	}
	if w.chance(30) {
		body["topic"] = "first topic"
	}
	if w.chance(30) {
		body["room_version"] = pick(w, []string{"10", "11"})
	}
	if w.chance(20) {
		body["is_direct"] = true
	}
	var invited []*user
	for _, u := range w.users {
		if u != d.user && w.chance(50) {
			invited = append(invited, u)
		}
	}
	if len(invited) > 0 {
		body["invite"] = ids(invited)
	}
	if w.chance(50) {
		body["initial_state"] = []any{map[string]any{"type": "m.room.history_visibility", "state_key": "",
			"content": map[string]any{"history_visibility": pick(w, visibilities)}}}
	}
	res, err := d.ask("POST", "/v3/createRoom", nil, body)
	if err != nil {
		return err
	}
	if !res.ok() {
		return fmt.Errorf("createRoom: %v", res)
	}
	r := &room{id: text(res.body, "room_id"), membership: map[*user]string{d.user: "join"}, joinedAt: map[*user]int{d.user: w.version}, forgotten: map[*user]bool{}, leftAt: map[*user]int{}}
	for _, u := range invited {
		r.membership[u] = "invite"
	}
	w.rooms = append(w.rooms, r)
	return nil
}

func ids(users []*user) []string {
	out := make([]string, len(users))
	for i, u := range users {
		out[i] = u.id
	}
	return out
}

var visibilities = []string{"world_readable", "shared", "shared", "invited", "joined", "joined"}

func (w *model) join(d *device) error {
	r := w.roomOf(d.user, "invite", "", "leave")
	if r == nil {
		return nil
	}
	res, err := d.ask("POST", path("/v3/rooms/%s/join", r.id), nil, map[string]any{})
	if err == nil && res.ok() {
		if r.membership[d.user] != "join" {
			r.joinedAt[d.user] = w.version
		}
		r.membership[d.user] = "join"
		delete(r.forgotten, d.user)
	}
	return err
}

func (w *model) leave(d *device) error {
	r := w.roomOf(d.user, "join", "join", "invite")
	if r == nil {
		return nil
	}
	res, err := d.ask("POST", path("/v3/rooms/%s/leave", r.id), nil, map[string]any{})
	if err == nil && res.ok() && r.membership[d.user] != "" {
		r.membership[d.user] = "leave"
	}
	if err == nil && w.chance(25) {
		return w.forgetRoom(d, r)
	}
	return err
}

func (w *model) forget(d *device) error {
	r := w.roomOf(d.user, "leave", "ban")
	if r == nil {
		return nil
	}
	return w.forgetRoom(d, r)
}

func (w *model) forgetRoom(d *device, r *room) error {
	res, err := d.ask("POST", path("/v3/rooms/%s/forget", r.id), nil, map[string]any{})
	if err == nil && res.ok() {
		r.forgotten[d.user] = true
	}
	return err
}

func (w *model) invite(d *device) error {
	r, other := w.roomOf(d.user, "join"), pick(w, w.users)
	if r == nil {
		return nil
	}
	res, err := d.ask("POST", path("/v3/rooms/%s/invite", r.id), nil, map[string]any{"user_id": other.id})
	if err == nil && res.ok() && r.membership[other] != "join" {
		r.membership[other] = "invite"
		delete(r.forgotten, other)
	}
	return err
}

func (w *model) kickOrBan(d *device) error {
	r, other := w.roomOf(d.user, "join"), pick(w, w.users)
	if r == nil {
		return nil
	}
	what := pick(w, []string{"kick", "ban"})
	if r.membership[other] == "ban" {
		what = "unban"
	}
	res, err := d.ask("POST", path("/v3/rooms/%s/"+what, r.id), nil, map[string]any{"user_id": other.id})
	if err == nil && res.ok() {
		r.membership[other] = map[string]string{"kick": "leave", "ban": "ban", "unban": "leave"}[what]
	}
	return err
}

// send sends one event.
func (w *model) send(d *device, r *room, eventType string, content map[string]any) error {
	w.txn++
	res, err := d.ask("PUT", path("/v3/rooms/%s/send/%s/%s", r.id, eventType, fmt.Sprint("t", w.txn)), nil, content)
	if err == nil && res.ok() {
		r.events = append(r.events, text(res.body, "event_id"))
	}
	return err
}

func (w *model) sendSomething(d *device) error {
	r := w.roomOf(d.user, "join")
	if r == nil {
		return nil
	}
	content := map[string]any{"msgtype": "m.text", "body": fmt.Sprintf("message %d", w.txn)}
	eventType := "m.room.message"
	if w.chance(20) {
		content["m.mentions"] = map[string]any{"user_ids": []string{pick(w, w.users).id}}
	}
	if len(r.events) > 0 {
		target := pick(w, r.events)
		switch w.rnd.IntN(8) {
		case 0:
			content["m.relates_to"] = map[string]any{"rel_type": "m.thread", "event_id": target}
		case 1:
			content["m.relates_to"] = map[string]any{"rel_type": "m.replace", "event_id": target}
			content["m.new_content"] = map[string]any{"msgtype": "m.text", "body": "edited"}
		case 2:
			eventType = "m.reaction"
			content = map[string]any{"m.relates_to": map[string]any{"rel_type": "m.annotation", "event_id": target, "key": "👍"}}
		}
	}
	return w.send(d, r, eventType, content)
}

func (w *model) sendMany(d *device) error {
	r := w.roomOf(d.user, "join")
	if r == nil {
		return nil
	}
	for range 3 + w.rnd.IntN(15) {
		if err := w.send(d, r, "m.room.message", map[string]any{"msgtype": "m.text", "body": fmt.Sprintf("one of many %d", w.txn)}); err != nil {
			return err
		}
	}
	return nil
}

func (w *model) putState(d *device, r *room, eventType, key string, content map[string]any) error {
	res, err := d.ask("PUT", path("/v3/rooms/%s/state/%s/%s", r.id, eventType, key), nil, content)
	if err == nil && res.ok() {
		r.events = append(r.events, text(res.body, "event_id"))
	}
	return err
}

func (w *model) setState(d *device) error {
	r := w.roomOf(d.user, "join")
	if r == nil {
		return nil
	}
	switch w.rnd.IntN(8) {
	case 0, 1:
		if w.chance(30) {
			return w.putState(d, r, "m.room.name", "", pick(w, []map[string]any{{"name": ""}, {}}))
		}
		return w.putState(d, r, "m.room.name", "", map[string]any{"name": fmt.Sprintf("name %d", w.version)})
	case 2, 3:
		return w.putState(d, r, "m.room.topic", "", map[string]any{"topic": fmt.Sprintf("topic %d", w.version)})
	case 4:
		return w.changePowerLevels(d, r)
	case 5:
		return w.putState(d, r, "m.room.join_rules", "", map[string]any{"join_rule": pick(w, []string{"public", "public", "invite"})})
	}
	key := pick(w, []string{"", "a", "b"})
	return w.putState(d, r, "org.example.state", key, map[string]any{"value": w.version})
}

// changePowerLevels gives somebody another level.
func (w *model) changePowerLevels(d *device, r *room) error {
	other, level := pick(w, w.users), pick(w, []int{0, 50, 50, 99})
	res, err := d.ask("GET", path("/v3/rooms/%s/state/m.room.power_levels", r.id), nil, nil)
	if err != nil || !res.ok() {
		return err
	}
	users := object(res.body, "users")
	if users == nil {
		users = map[string]any{}
	}
	users[other.id] = level
	res.body["users"] = users
	if w.chance(30) {
		res.body["state_default"] = pick(w, []int{0, 50})
	}
	return w.putState(d, r, "m.room.power_levels", "", res.body)
}

func (w *model) setVisibility(d *device) error {
	r := w.roomOf(d.user, "join")
	if r == nil {
		return nil
	}
	return w.putState(d, r, "m.room.history_visibility", "", map[string]any{"history_visibility": pick(w, visibilities)})
}

func (w *model) redact(d *device) error {
	r := w.roomOf(d.user, "join")
	if r == nil || len(r.events) == 0 {
		return nil
	}
	w.txn++
	_, err := d.ask("PUT", path("/v3/rooms/%s/redact/%s/%s", r.id, pick(w, r.events), fmt.Sprint("t", w.txn)), nil, map[string]any{"reason": "no"})
	return err
}

// setProfile changes a display name, and waits until all rooms say so.
func (w *model) setProfile(d *device) error {
	name := fmt.Sprintf("name %d", w.version)
	res, err := d.ask("PUT", path("/v3/profile/%s/displayname", d.user.id), nil, map[string]any{"displayname": name})
	if err != nil || !res.ok() {
		return err
	}
	for _, r := range w.rooms {
		if r.membership[d.user] != "join" {
			continue
		}
		err := w.soon("a display name in its rooms", func() (bool, error) {
			res, err := w.call(http.DefaultClient, d.token, "GET", path("/v3/rooms/%s/state/m.room.member/%s", r.id, d.user.id), nil, nil, nil)
			return text(res.body, "displayname") == name, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// soonLimit is how long what may come a little later may take; the machine may be busy.
const soonLimit = 15 * time.Second

// soon asks again and again until something is so.
func (w *model) soon(what string, is func() (bool, error)) error {
	deadline := time.Now().Add(soonLimit)
	for {
		ok, err := is()
		if ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("still waiting after %v: %s", soonLimit, what)
		}
		time.Sleep(5 * time.Millisecond) // the server has no way to tell
	}
}

func (w *model) setTyping(d *device) error {
	r := w.roomOf(d.user, "join")
	if r == nil {
		return nil
	}
	body := map[string]any{"typing": w.chance(70)}
	if body["typing"] == true {
		body["timeout"] = 120_000 // longer than a seed takes
	}
	_, err := d.ask("PUT", path("/v3/rooms/%s/typing/%s", r.id, d.user.id), nil, body)
	return err
}

func (w *model) sendReceipt(d *device) error {
	r := w.roomOf(d.user, "join")
	if r == nil || len(r.events) == 0 {
		return nil
	}
	kind := pick(w, []string{"m.read", "m.read", "m.read.private", "m.fully_read"})
	target := r.events[max(0, len(r.events)-1-w.rnd.IntN(4))]
	if w.chance(20) {
		_, err := d.ask("POST", path("/v3/rooms/%s/read_markers", r.id), nil, map[string]any{kind: target})
		return err
	}
	body := map[string]any{}
	if w.chance(30) && kind != "m.fully_read" {
		body["thread_id"] = "main"
	}
	_, err := d.ask("POST", path("/v3/rooms/%s/receipt/%s/%s", r.id, kind, target), nil, body)
	return err
}

func (w *model) setAccountData(d *device) error {
	kind, content := pick(w, []string{"org.example.a", "org.example.b"}), map[string]any{"value": w.version}
	if r := w.roomOf(d.user, "join", "leave", "invite"); r != nil && w.chance(60) {
		_, err := d.ask("PUT", path("/v3/user/%s/rooms/%s/account_data/%s", d.user.id, r.id, kind), nil, content)
		return err
	}
	_, err := d.ask("PUT", path("/v3/user/%s/account_data/%s", d.user.id, kind), nil, content)
	return err
}

func (w *model) setTag(d *device) error {
	r := w.roomOf(d.user, "join")
	if r == nil {
		return nil
	}
	at, method := path("/v3/user/%s/rooms/%s/tags/%s", d.user.id, r.id, pick(w, []string{"m.favourite", "u.work"})), "PUT"
	var body any = map[string]any{"order": json01(w.rnd.IntN(10))}
	if w.chance(30) {
		method, body = "DELETE", nil
	}
	_, err := d.ask(method, at, nil, body)
	return err
}

func json01(tenths int) float64 { return float64(tenths) / 10 }

func (w *model) setPushRule(d *device) error {
	r := w.roomOf(d.user, "join")
	if r == nil {
		return nil
	}
	at := path("/v3/pushrules/global/room/%s", r.id)
	if w.chance(40) {
		_, err := d.ask("DELETE", at, nil, nil)
		return err
	}
	_, err := d.ask("PUT", at, nil, map[string]any{"actions": []string{}})
	return err
}

func (w *model) sendToDevice(d *device) error {
	to := pick(w, w.devices)
	w.txn++
	res, err := d.ask("PUT", path("/v3/sendToDevice/org.example.secret/%s", fmt.Sprint("t", w.txn)), nil, map[string]any{
		"messages": map[string]any{to.user.id: map[string]any{to.id: map[string]any{"number": w.txn}}}})
	if err == nil && res.ok() {
		to.due = append(to.due, w.txn)
	}
	return err
}

// maybeRestart stops or kills the server in few seeds, since that takes long.
func (w *model) maybeRestart(*device) error {
	if w.seed%8 != 0 || w.restarted {
		return nil
	}
	return w.restart()
}

func (w *model) restart() error {
	w.restarted = true
	signal := pick(w, []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL})
	w.transcript.add("restart by %v", signal)
	if err := w.srv.end(signal); err != nil {
		return err
	}
	return w.srv.start()
}

// wakeUp has a device wait while another user says something in one of its rooms.
func (w *model) wakeUp(d *device) error {
	r := w.roomOf(d.user, "join")
	if r == nil || r.membership[d.user] != "join" {
		return nil
	}
	var speakers []*device
	for _, other := range w.devices {
		if r.membership[other.user] == "join" && other != d {
			speakers = append(speakers, other)
		}
	}
	if len(speakers) == 0 {
		return nil
	}
	speaker := pick(w, speakers)
	if err := d.sync(plainSync()); err != nil {
		return err
	}
	client := http.DefaultClient
	if w.chance(50) {
		client = w.srv.waits
		if err := d.warm(); err != nil {
			return err
		}
	}
	return d.await(client, r, func() error {
		w.version++ // what was read before is no longer so
		return w.send(speaker, r, "m.room.message", map[string]any{"msgtype": "m.text", "body": fmt.Sprintf("wake up %d", w.txn)})
	})
}

// waitsLong is for how long a request has to wait so that the next on its connection is parked at once.
const waitsLong = 1200 * time.Millisecond

// warm lets a request wait for long on the connection for waiting, once in the life of a server.
func (d *device) warm() error {
	for !d.w.srv.warm {
		query, began := url.Values{"since": {d.view.since}, "timeout": {fmt.Sprint(waitsLong.Milliseconds())}}, time.Now()
		res, err := d.w.call(d.w.srv.waits, d.token, "GET", "/v3/sync", query, nil, nil)
		if err != nil {
			return err
		}
		d.w.srv.warm = time.Since(began) >= waitsLong-100*time.Millisecond
		if err := d.take(plainSync(), res); err != nil {
			return err
		}
	}
	return nil
}

// wakeWithin is how soon somebody who waits is told.
const wakeWithin = 10 * time.Second

func (d *device) await(client *http.Client, r *room, speak func() error) error {
	type result struct {
		res reply
		err error
	}
	wait := func(sent func()) chan result {
		query := url.Values{"since": {d.view.since}, "timeout": {fmt.Sprint(wakeWithin.Milliseconds())}}
		done := make(chan result, 1)
		go func() {
			var x result
			x.res, x.err = d.w.call(client, d.token, "GET", "/v3/sync", query, nil, sent)
			done <- x
		}()
		return done
	}
	before := len(d.view.heard)
	sent := make(chan struct{})
	done := wait(func() { close(sent) })
	<-sent
	if err := speak(); err != nil {
		return err
	}
	deadline := time.Now().Add(wakeWithin - time.Second)
	for {
		x := <-done
		if x.err != nil {
			return x.err
		}
		if err := d.take(plainSync(), x.res); err != nil {
			return err
		}
		if len(d.view.heard) > before && d.view.heard[len(d.view.heard)-1] == r.events[len(r.events)-1] {
			return nil
		}
		if time.Now().After(deadline) {
			d.w.report("", d.name, "a sync that waited was not told of a message within %v", wakeWithin-time.Second)
			return nil
		}
		done = wait(nil)
	}
}

// report notes a mismatch.
func (w *model) report(known, where, format string, args ...any) {
	f := fault{step: w.version, known: known, where: where, text: w.transcript.text(fmt.Sprintf(format, args...))}
	w.faults = append(w.faults, f)
	if w.verbose {
		fmt.Println("        ", f)
	}
}
