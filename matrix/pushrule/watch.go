package pushrule

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"stoa/matrix/id"
)

// Watch finds the members of one room for whom an event is more than its class says: mentioned ones, those with a keyword in
// it, and so on. It holds only members with unusual rules; those with UsualRules cost it nothing.
//
// It belongs to one goroutine at a time, also for looking up.
type Watch struct {
	roomID id.RoomID
	joined func(id.UserID) bool

	members map[string]*watched
	// always are the members who must be asked about each event.
	always watchedSet
	// bySender and byType are the members who must be asked about events of a sender, or of a folded type.
	bySender, byType map[string]watchedSet
	// words has what members look for in bodies, by a word or character that a body must have to match; "" for any body.
	words map[string]*bucket

	// While an event is looked at. named is how many of the candidates come first because the event names them. patterns are to be
	// looked for in its body.
	generation uint64
	candidates []*watched
	named      int
	mentioned  map[string]struct{}
	patterns   []*watchedPattern
	scan       Work
	tooMany    bool // MaxRaised was reached
}

// Raised is a member for whom an event is more than its class says.
type Raised struct {
	UserID  id.UserID
	Class   Class
	Verdict Verdict
}

// watched is a member with unusual rules.
type watched struct {
	userID  id.UserID
	member  Member
	rules   *Rules
	counter *Counter
	keys    []watchKey
	seen    uint64 // generation of the last event that made this a candidate
}

type watchedSet map[*watched]struct{}

// watchKey is a place of the index where a member is.
type watchKey struct {
	in watchIndex
	// key is the sender, the folded type, or the word.
	key string
	// pattern is what is looked for in bodies that have the word, and rank how many the member has before it.
	pattern *glob
	rank    int
}

type watchIndex uint8

const (
	inAlways watchIndex = iota
	inSenders
	inTypes
	inWords
)

// bucket holds the patterns that have a word in common.
type bucket struct {
	patterns map[patternKey]*watchedPattern
	seen     uint64
}

// patternKey tells patterns apart.
type patternKey struct {
	text     string
	verbatim bool
}

type watchedPattern struct {
	pattern *glob
	// exact says that a body with the word matches.
	exact   bool
	members watchedSet
	// rank is the lowest one that a member gave it.
	rank int
}

// NewWatch makes the watch of a room in which all local members have the usual rules. joined says whether a local user is
// joined to the room, at the time of the event that is looked at.
func NewWatch(roomID id.RoomID, joined func(id.UserID) bool) *Watch {
	return &Watch{
		roomID: roomID, joined: joined,
		members: map[string]*watched{}, always: watchedSet{}, bySender: map[string]watchedSet{},
		byType: map[string]watchedSet{}, words: map[string]*bucket{}, mentioned: map[string]struct{}{},
	}
}

// Set notes a joined local member's rules and display name, "" for none. It is called when the member joins and when one of
// them changes; members with UsualRules may be left out, but not when their rules were others before.
func (w *Watch) Set(userID id.UserID, displayName string, rules *Rules) {
	userID = userID.Clone()
	name := userID.String()
	if old := w.members[name]; old != nil {
		if old.rules == rules && old.member.DisplayName == displayName {
			return
		}
		w.Remove(userID)
	}
	if rules.IsUsual() {
		return
	}
	m := &watched{
		userID: userID, member: Member{UserID: name, DisplayName: displayName},
		rules: rules, counter: rules.In(w.roomID),
	}
	for i := range m.counter.rules {
		if rule := &m.counter.rules[i]; rule.raises {
			if key, ok := rule.watchKey(displayName); ok {
				key.rank = len(m.keys)
				m.keys = append(m.keys, key)
			}
		}
	}
	for _, key := range m.keys {
		w.insert(key, m)
	}
	w.members[name] = m
}

// Remove forgets a member who is no longer joined.
func (w *Watch) Remove(userID id.UserID) {
	m := w.members[userID.String()]
	if m == nil {
		return
	}
	for _, key := range m.keys {
		w.delete(key, m)
	}
	delete(w.members, userID.String())
}

// Counter returns the rules of a joined local member in the room.
func (w *Watch) Counter(userID id.UserID) *Counter {
	if m := w.members[userID.String()]; m != nil {
		return m.counter
	}
	return usualRules.base
}

// watchKey returns where a rule that raises is found; false if what finds it needs no index: mentions and invites.
func (c *compiled) watchKey(displayName string) (watchKey, bool) {
	switch c.trigger {
	case onMention, onInvite, onClass:
		return watchKey{}, false
	case onSender:
		return watchKey{in: inSenders, key: c.text}, true
	}
	best := watchKey{in: inAlways}
	for i := range c.tests {
		t, key := &c.tests[i], watchKey{}
		switch t.op {
		case opDisplayName:
			if displayName == "" {
				return watchKey{}, false
			}
			key = wordKey(compileLiteral(displayName))
		case opMatchBody:
			key = wordKey(t.pattern)
		default:
			if eventType, ok := t.eventType(); ok {
				key = watchKey{in: inTypes, key: eventType}
			}
		}
		best = better(best, key)
	}
	if sender, ok := c.sender(); ok {
		best = better(best, watchKey{in: inSenders, key: sender})
	}
	return best, true
}

// better returns the key that is asked for less often.
func better(a, b watchKey) watchKey {
	rank := func(k watchKey) int {
		if k.in == inWords && k.key == "" {
			return int(inTypes) // any body
		}
		return 2 * int(k.in)
	}
	if rank(b) > rank(a) {
		return b
	}
	return a
}

func wordKey(pattern *glob) watchKey {
	return watchKey{in: inWords, key: pattern.needs(), pattern: pattern}
}

// needs returns a word or a character that is no word character, which a body must have if the pattern matches a piece of
// it: the longest word, else the first such character, else "".
func (g *glob) needs() string {
	word, character := "", ""
	for i, s := range g.segments {
		pieces := []string{s.text}
		if s.characters != nil {
			pieces = strings.Split(s.text, "?")
		}
		for j, piece := range pieces {
			// The first and last word of a piece are whole words only at the ends of the pattern.
			first := i == 0 && j == 0
			last := i == len(g.segments)-1 && j == len(pieces)-1
			eachWord(piece, func(token string, start, end int) {
				switch {
				case !isWord(token[0]):
					if character == "" {
						character = token
					}
				case (start > 0 || first) && (end < len(piece) || last) && len(token) > len(word):
					word = token
				}
			})
		}
	}
	if word != "" {
		return word
	}
	return character
}

// eachWord cuts a text into words, and single characters that are no word characters.
func eachWord(text string, fn func(token string, start, end int)) {
	for at := 0; at < len(text); {
		end := at
		for end < len(text) && isWord(text[end]) {
			end++
		}
		if end == at {
			_, size := utf8.DecodeRuneInString(text[at:])
			end += size
		}
		fn(text[at:end], at, end)
		at = end
	}
}

func (w *Watch) insert(k watchKey, m *watched) {
	switch k.in {
	case inAlways:
		w.always[m] = struct{}{}
	case inSenders:
		addTo(w.bySender, k.key, m)
	case inTypes:
		addTo(w.byType, k.key, m)
	case inWords:
		b := w.words[k.key]
		if b == nil {
			b = &bucket{patterns: map[patternKey]*watchedPattern{}}
			w.words[k.key] = b
		}
		name := patternKey{k.pattern.text, k.pattern.verbatim}
		p := b.patterns[name]
		if p == nil {
			p = &watchedPattern{pattern: k.pattern, exact: k.key != "" && k.pattern.text == k.key, members: watchedSet{}, rank: k.rank}
			b.patterns[name] = p
		}
		p.members[m] = struct{}{}
		p.rank = min(p.rank, k.rank)
	}
}

func (w *Watch) delete(k watchKey, m *watched) {
	switch k.in {
	case inAlways:
		delete(w.always, m)
	case inSenders:
		deleteFrom(w.bySender, k.key, m)
	case inTypes:
		deleteFrom(w.byType, k.key, m)
	case inWords:
		b, name := w.words[k.key], patternKey{k.pattern.text, k.pattern.verbatim}
		if b == nil || b.patterns[name] == nil {
			return // two rules of the member had the same key
		}
		p := b.patterns[name]
		if delete(p.members, m); len(p.members) == 0 {
			delete(b.patterns, name)
		}
		if len(b.patterns) == 0 {
			delete(w.words, k.key)
		}
	}
}

func addTo(sets map[string]watchedSet, key string, m *watched) {
	if sets[key] == nil {
		sets[key] = watchedSet{}
	}
	sets[key][m] = struct{}{}
}

func deleteFrom(sets map[string]watchedSet, key string, m *watched) {
	if delete(sets[key], m); len(sets[key]) == 0 {
		delete(sets, key)
	}
}

// Raised returns the joined local members whose verdict on an event is greater than that of its class, in order of user ID.
// Its cost grows with the words and mentions of the event, the members found by them, and those whose own rules can't be
// found by a word, sender or type. What looks at texts and rules ends after EventWork, so that no rules can stall a room: mentioned
// members are first, then the others, those with few rules and patterns before those with many.
func (w *Watch) Raised(e *Event) []Raised {
	w.generation++
	w.candidates, w.patterns, w.scan.left, w.tooMany = w.candidates[:0], w.patterns[:0], EventWork, false
	w.collect(e)
	w.sortCandidates(e)
	var raised []Raised
	for i, m := range w.candidates {
		if i >= w.named && !e.work.spend(m.counter.size*ruleSteps) {
			break
		}
		if i >= w.named && len(raised)+len(w.mentioned) >= MaxRaised {
			w.tooMany = true
			break
		}
		if verdict := m.counter.Judge(m.member, e); verdict > m.counter.Verdict(e.Class()) {
			raised = append(raised, Raised{m.userID.Clone(), e.Class(), verdict})
		}
	}
	for name := range w.mentioned {
		userID, err := id.ParseUserID(name)
		if err != nil || !w.joined(userID) {
			continue
		}
		usual := usualRules.base
		if verdict := usual.Judge(Member{UserID: name}, e); verdict > usual.Verdict(e.Class()) {
			raised = append(raised, Raised{userID.Clone(), e.Class(), verdict})
		}
	}
	clear(w.mentioned)
	slices.SortFunc(raised, func(a, b Raised) int { return strings.Compare(a.UserID.String(), b.UserID.String()) })
	return raised
}

// Exceeded says whether the last event that was looked at took all of its budget, or reached MaxRaised, so that some rules were not
// evaluated.
func (w *Watch) Exceeded(e *Event) bool { return w.scan.left == 0 || e.work.left == 0 || w.tooMany }

// collect finds the candidates: members with unusual rules, and the IDs of other users who are mentioned or invited.
func (w *Watch) collect(e *Event) {
	e.eachMention(func(userID string) {
		if len(w.candidates)+len(w.mentioned) < MaxRaised {
			w.addUser(userID)
		} else {
			w.tooMany = true
		}
	})
	if invitee := e.invitee(); invitee != "" {
		w.addUser(invitee)
	}
	w.named = len(w.candidates)
	w.addAll(w.always)
	w.addAll(w.bySender[e.fields.Sender])
	if len(w.byType) > 0 {
		w.addAll(w.byType[e.typeFolded()])
	}
	if len(w.words) == 0 {
		return
	}
	body, ok := e.foldedBody()
	if !ok {
		return
	}
	w.addBucket("")
	eachWord(body, func(token string, _, _ int) { w.addBucket(token) })
	w.matchPatterns(body)
}

// addBucket adds the members who look for a word of the body, and what others look for in a body that has it.
func (w *Watch) addBucket(word string) {
	b := w.words[word]
	if b == nil || b.seen == w.generation {
		return
	}
	b.seen = w.generation
	for _, p := range b.patterns {
		if p.exact {
			w.addAll(p.members)
		} else {
			w.patterns = append(w.patterns, p)
		}
	}
}

// matchPatterns adds the members whose patterns match the body. If that is too much work, each member's first patterns are looked for
// before anybody's second ones.
func (w *Watch) matchPatterns(body string) {
	total := 0
	for _, p := range w.patterns {
		total += p.pattern.cost(len(body))
	}
	if total > EventWork {
		slices.SortFunc(w.patterns, func(a, b *watchedPattern) int {
			return cmp.Or(cmp.Compare(a.rank, b.rank), strings.Compare(a.pattern.text, b.pattern.text))
		})
	}
	for _, p := range w.patterns {
		if !w.scan.spend(p.pattern.cost(len(body))) {
			break
		}
		if p.pattern.matchesWords(body) {
			w.addAll(p.members)
		}
	}
}

// sortCandidates moves the candidates with few rules to the front if all of them may be too much work.
func (w *Watch) sortCandidates(e *Event) {
	size := len(e.fields.Content)
	each := 2*size + (characterSteps+MaxPatternLength/64)*min(size, MaxMatchedText)
	total := 0
	for _, m := range w.candidates {
		total += min(MemberWork, m.counter.size*each)
	}
	if total <= e.work.left {
		return
	}
	bySize := func(a, b *watched) int {
		return cmp.Or(cmp.Compare(a.counter.size, b.counter.size), strings.Compare(a.member.UserID, b.member.UserID))
	}
	slices.SortFunc(w.candidates[:w.named], bySize)
	slices.SortFunc(w.candidates[w.named:], bySize)
}

func (w *Watch) addAll(members watchedSet) {
	for m := range members {
		w.add(m)
	}
}

func (w *Watch) addUser(userID string) {
	if m := w.members[userID]; m != nil {
		w.add(m)
	} else {
		w.mentioned[userID] = struct{}{}
	}
}

func (w *Watch) add(m *watched) {
	if m.seen != w.generation {
		m.seen = w.generation
		w.candidates = append(w.candidates, m)
	}
}
