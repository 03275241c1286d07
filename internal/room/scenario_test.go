package room_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"stoa/internal/history"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

var update = flag.Bool("update", false, "write the results into the scenario files")

// TestScenarios runs the scenario files: lines that begin with > are the steps, the lines
// below each are its results. testdata/README.md describes the language.
func TestScenarios(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.scenario")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		for n, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for i, version := range versionsOf(string(text)) {
				t.Run(strings.TrimSuffix(filepath.Base(file), ".scenario")+"/"+version, func(t *testing.T) {
					played := play(t, s, string(text), version, int64(n*100+i))
					if *update && i == 0 {
						if err := os.WriteFile(file, []byte(played), 0o644); err != nil {
							t.Fatal(err)
						}
						return
					}
					if played != string(text) {
						t.Errorf("%s went otherwise in version %s:\n%s", file, version, firstDifference(string(text), played))
					}
				})
			}
		}
	})
}

// versionsOf reads the line "versions: …".
func versionsOf(text string) []string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "versions: "); ok {
			return strings.Fields(rest)
		}
	}
	return []string{"12"}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		line := func(list []string) string {
			if i < len(list) {
				return list[i]
			}
			return "(nothing)"
		}
		if line(w) != line(g) {
			return fmt.Sprintf("line %d:\n- %s\n+ %s", i+1, line(w), line(g))
		}
	}
	return "no line differs"
}

// stage runs one scenario.
type stage struct {
	*fixture
	version string
	rooms   map[string]id.RoomID
	labels  map[string]id.EventID
	here    string // the name of the current room
	txn     map[string]room.Txn
}

// play runs a scenario and returns its text with the results.
func play(t *testing.T, s *store.Store, text, version string, day int64) string {
	t.Helper()
	st := &stage{
		fixture: newFixture(t, s), version: version,
		rooms: map[string]id.RoomID{}, labels: map[string]id.EventID{}, txn: map[string]room.Txn{},
	}
	st.clock.Add(day * 86_400_000) // so that no two rooms are created at the same time
	var out strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		step, isStep := strings.CutPrefix(line, "> ")
		switch {
		case isStep:
			out.WriteString(line + "\n")
			for _, came := range st.step(step) {
				out.WriteString("  " + came + "\n")
			}
		case !strings.HasPrefix(line, "  "):
			out.WriteString(line + "\n")
		}
	}
	return out.String()
}

// sentence is one kind of step.
type sentence struct {
	form *regexp.Regexp
	do   func(st *stage, who id.UserID, args []string) ([]string, error)
}

func says(form string, do func(st *stage, who id.UserID, args []string) ([]string, error)) sentence {
	return sentence{regexp.MustCompile(`^(\w+) ` + form + `$`), do}
}

var sentences = []sentence{
	says(`creates (\w+)(?: with (\{.*\}))?`, (*stage).creates),
	says(`goes to (\w+)`, func(st *stage, _ id.UserID, a []string) ([]string, error) { st.here = a[0]; return nil, nil }),
	says(`(joins|leaves|knocks)(?: because (.+))?`, (*stage).moves),
	says(`(invites|kicks|bans|unbans) (\w+)(?: because (.+))?`, (*stage).movesOther),
	says(`forgets`, func(st *stage, who id.UserID, _ []string) ([]string, error) {
		return nil, st.Forget(st.t.Context(), st.room(), who)
	}),
	says(`says (.+?)(?: as (#\w+))?`, func(st *stage, who id.UserID, a []string) ([]string, error) {
		eventID, err := st.Send(st.t.Context(), message(st.room(), who, a[0]))
		st.labels[a[1]] = eventID
		return nil, err
	}),
	says(`sends (\S+) (\{.*\})(?: as (#\w+))?`, func(st *stage, who id.UserID, a []string) ([]string, error) {
		eventID, err := st.Send(st.t.Context(), room.Draft{RoomID: st.room(), Sender: who, Type: a[0], Content: st.fill(a[1])})
		st.labels[a[2]] = eventID
		return nil, err
	}),
	says(`sets (\S+?)(?:/(\S+))? to (\{.*\})(?: as (#\w+))?`, (*stage).sets),
	says(`redacts (#\w+)(?: because (.+))?`, func(st *stage, who id.UserID, a []string) ([]string, error) {
		_, err := st.Redact(st.t.Context(), room.RedactRequest{RoomID: st.room(), Sender: who, EventID: st.labels[a[0]], Reason: a[1]})
		return nil, err
	}),
	says(`is called (\w+)`, func(st *stage, who id.UserID, a []string) ([]string, error) {
		st.mu.Lock()
		st.names[who] = room.Profile{DisplayName: a[0]}
		st.mu.Unlock()
		return nil, st.do(room.ProfileJob(who))
	}),
	says(`sees the timeline`, (*stage).seesTimeline),
	says(`sees the state`, (*stage).seesState),
	says(`sees the members`, (*stage).seesMembers),
	says(`sees (#\w+)`, func(st *stage, who id.UserID, a []string) ([]string, error) {
		view, err := st.Event(st.t.Context(), who, st.room(), st.labels[a[0]])
		if err != nil {
			return nil, err
		}
		return []string{st.show(view, true)}, nil
	}),
}

// step runs a line and returns the result.
func (st *stage) step(line string) []string {
	st.t.Helper()
	for _, s := range sentences {
		match := s.form.FindStringSubmatch(line)
		if match == nil {
			continue
		}
		came, err := s.do(st, st.who(match[1]), match[2:])
		if refusal, ok := mxerr.As(err); ok {
			return []string{fmt.Sprintf("refused: %d %s", refusal.Status, refusal.Code)}
		}
		if err != nil {
			st.t.Fatalf("%q: %v", line, err)
		}
		return came
	}
	st.t.Fatalf("nobody understands %q", line)
	return nil
}

// who returns a user by name. Each version has its own users, as all versions share one
// store.
func (st *stage) who(name string) id.UserID { return user(st.t, strings.ToLower(name)) }

func (st *stage) room() id.RoomID {
	st.t.Helper()
	roomID, ok := st.rooms[st.here]
	if !ok {
		st.t.Fatal("there is no room yet")
	}
	return roomID
}

// fill replaces names by IDs in a JSON text.
func (st *stage) fill(text string) json.RawMessage {
	text = regexp.MustCompile(`@(\w+)`).ReplaceAllStringFunc(text, func(name string) string { return st.who(name[1:]).String() })
	text = regexp.MustCompile(`#\w+`).ReplaceAllStringFunc(text, func(label string) string {
		if eventID, ok := st.labels[label]; ok {
			return eventID.String()
		}
		return label
	})
	text = regexp.MustCompile(`!(\w+)`).ReplaceAllStringFunc(text, func(name string) string { return st.rooms[name[1:]].String() })
	return json.RawMessage(text)
}

// hide replaces IDs by names.
func (st *stage) hide(text string) string {
	for _, name := range slices.Sorted(maps.Keys(st.rooms)) {
		text = strings.ReplaceAll(text, st.rooms[name].String(), "!"+name)
	}
	for _, label := range slices.Sorted(maps.Keys(st.labels)) {
		if label != "" && !st.labels[label].IsZero() {
			text = strings.ReplaceAll(text, st.labels[label].String(), label)
		}
	}
	text = strings.ReplaceAll(text, ":"+storetest.ServerName, "")
	return regexp.MustCompile(`"room_version":"`+regexp.QuoteMeta(st.version)+`"`).ReplaceAllString(text, `"room_version":"…"`)
}

func (st *stage) creates(who id.UserID, a []string) ([]string, error) {
	req := room.CreateRequest{Creator: who, Version: st.version}
	if a[1] != "" {
		var options struct {
			Preset          string            `json:"preset"`
			Version         string            `json:"room_version"`
			Visibility      string            `json:"visibility"`
			Name            string            `json:"name"`
			Topic           string            `json:"topic"`
			Invite          []id.UserID       `json:"invite"`
			IsDirect        bool              `json:"is_direct"`
			CreationContent json.RawMessage   `json:"creation_content"`
			PowerLevels     json.RawMessage   `json:"power_level_content_override"`
			InitialState    []room.StateEvent `json:"initial_state"`
		}
		if err := json.Unmarshal(st.fill(a[1]), &options); err != nil {
			st.t.Fatal(err)
		}
		req.Preset, req.Name, req.Topic, req.Invite = options.Preset, options.Name, options.Topic, options.Invite
		req.IsDirect, req.CreationContent, req.PowerLevels = options.IsDirect, options.CreationContent, options.PowerLevels
		req.InitialState, req.Published = options.InitialState, options.Visibility == "public"
		if options.Version != "" {
			req.Version = options.Version
		}
	}
	roomID, err := st.Create(st.t.Context(), req)
	if err == nil {
		st.rooms[a[0]], st.here = roomID, a[0]
	}
	return nil, err
}

func (st *stage) moves(who id.UserID, a []string) ([]string, error) {
	req := room.MembershipRequest{RoomID: st.room(), Sender: who, Reason: a[1]}
	switch a[0] {
	case "joins":
		return nil, st.Join(st.t.Context(), req)
	case "knocks":
		return nil, st.Knock(st.t.Context(), req)
	}
	return nil, st.Leave(st.t.Context(), req)
}

func (st *stage) movesOther(who id.UserID, a []string) ([]string, error) {
	req := room.MembershipRequest{RoomID: st.room(), Sender: who, Target: st.who(a[1]), Reason: a[2]}
	switch a[0] {
	case "invites":
		return nil, st.Invite(st.t.Context(), req)
	case "kicks":
		return nil, st.Kick(st.t.Context(), req)
	case "bans":
		return nil, st.Ban(st.t.Context(), req)
	}
	return nil, st.Unban(st.t.Context(), req)
}

func (st *stage) sets(who id.UserID, a []string) ([]string, error) {
	stateKey := string(st.fill(a[1]))
	eventID, err := st.Send(st.t.Context(), room.Draft{
		RoomID: st.room(), Sender: who, Type: a[0], StateKey: &stateKey, Content: st.fill(a[2]),
	})
	st.labels[a[3]] = eventID
	return nil, err
}

// show is one line about an event.
func (st *stage) show(v history.View, withContent bool) string {
	pdu := v.PDU
	if v.RedactedBy != nil {
		pdu = pdu.Redacted()
	}
	line := strings.TrimPrefix(pdu.Type(), "m.room.")
	if stateKey, ok := pdu.StateKey(); ok && stateKey != "" {
		line += " " + stateKey
	}
	line += " by " + pdu.Sender().String()
	if withContent {
		line += ": " + string(pdu.Content())
	}
	if v.RedactedBy != nil {
		line += " (redacted by " + v.RedactedBy.Sender().String() + ")"
	}
	return st.hide(line)
}

func (st *stage) seesTimeline(who id.UserID, _ []string) ([]string, error) {
	page, err := st.Messages(st.t.Context(), who, st.room(), history.HistoryQuery{Dir: history.Forwards, Limit: 1000})
	var lines []string
	for _, e := range page.Events {
		// The first events of a room differ between versions.
		plain := e.PDU.Type() == "m.room.create" || e.PDU.Type() == "m.room.power_levels"
		lines = append(lines, st.show(e, !plain))
	}
	return lines, err
}

func (st *stage) seesState(who id.UserID, _ []string) ([]string, error) {
	state, err := st.CurrentState(st.t.Context(), who, st.room())
	var lines []string
	for _, e := range state {
		lines = append(lines, st.show(e, true))
	}
	slices.Sort(lines)
	return lines, err
}

func (st *stage) seesMembers(who id.UserID, _ []string) ([]string, error) {
	members, err := st.Members(st.t.Context(), who, st.room(), history.MembersQuery{})
	var lines []string
	for _, m := range members {
		stateKey, _ := m.PDU.StateKey()
		line := stateKey + " " + m.PDU.Membership()
		if content, err := m.PDU.Member(); err == nil && content.DisplayName != "" {
			line += " as " + content.DisplayName
		}
		lines = append(lines, st.hide(line))
	}
	slices.Sort(lines)
	return lines, err
}
