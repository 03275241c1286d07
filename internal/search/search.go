package search

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"stoa/internal/history"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/searchdb"
	"stoa/internal/textsearch"
	"stoa/matrix/eventfilter"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// Bounds of one request.
const (
	// atOnce is the number of searches of an instance that run at a time; more wait.
	atOnce = 2
	// mostRooms bounds the rooms of a user that are searched, and that a request may name.
	mostRooms = 10_000
	// candidates is how many events are taken from the index at a time.
	candidates = 100
	// examined bounds the events that a request looks at to fill its page.
	examined = 1000
	// ranked is the number of events that are ranked together, and that are looked at to
	// count the results.
	ranked = 300
	// answerBytes bounds the events in an answer, with their contexts.
	answerBytes = 2 << 20
	// indexWait bounds how long a search waits for the index to have what was sent before.
	indexWait = 5 * time.Second
)

// MostResults is the greatest number of results in an answer.
const MostResults = 100

// Order of results.
type Order string

const (
	ByRank   Order = "rank"
	ByRecent Order = "recent"
)

// Options configure a Search.
type Options struct {
	Store   *store.Store
	History *history.Reader
}

// Search answers searches, and keeps the index. Its methods may be called concurrently.
type Search struct {
	store   *store.Store
	history *history.Reader
	running chan struct{}
}

// New returns a Search.
func New(opt Options) *Search {
	return &Search{store: opt.Store, history: opt.History, running: make(chan struct{}, atOnce)}
}

// Request asks for events.
type Request struct {
	Term   string
	Keys   []Key // none = all
	Filter *eventfilter.RoomEventFilter
	Order  Order
	// Limit is the greatest number of results, from 1 to MostResults.
	Limit int
	// Context asks for the events around each result.
	Context       bool
	Before, After int
	Profiles      bool // of the senders in the contexts
	State         bool // of the rooms of the results
	// From is the next_batch of an earlier result; "" = from the start.
	From string
}

// Result is one page of what was found.
type Result struct {
	// Count is about how many events match in all; a lower bound if there are very many.
	Count int
	// Words are those of the results that match, as they are written there.
	Words []string
	Hits  []Hit
	// Next continues; "" at the end.
	Next string
	// State is the state of the rooms of the results, if it was asked for; of the first rooms if there is much of it.
	State map[id.RoomID][]history.View

	last page
}

// Hit is an event that matches.
type Hit struct {
	Room    id.RoomID
	Score   float64
	Context history.Context // without events around it if they were not asked for
	Members []history.View  // of the senders in the context, if profiles were asked for
	found   history.Found
	num     store.EventNum
	words   []string // of its text that match
}

// NextIn returns a token that continues with the results of one room or sender of this
// page; "" if there are none, or if the results are ordered by rank.
func (r *Result) NextIn(key GroupKey, value string) string {
	if r.Next == "" || r.last.Skip > 0 {
		return ""
	}
	at := r.last
	at.Group, at.Value, at.Count = key, value, r.Count
	for _, h := range r.Hits {
		if at.has(h) {
			at.Before = h.num
		}
	}
	return at.token()
}

// Search returns a page of the events that match and that the user may see.
//
// Errors: M_INVALID_PARAM for an unknown next_batch.
//
// Spec: client-server-api#server-side-search
func (s *Search) Search(ctx context.Context, user id.UserID, q Request) (*Result, error) {
	at := page{}
	if q.From != "" {
		var err error
		if at, err = parsePage(q.From); err != nil {
			return nil, err
		}
	}
	select {
	case s.running <- struct{}{}:
		defer func() { <-s.running }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := s.awaitIndex(ctx); err != nil {
		return nil, err
	}
	result := &Result{}
	err := s.store.Read(ctx, func(read *store.Read) error {
		if at.Before == 0 {
			newest, err := searchdb.Newest(read)
			if err != nil {
				return err
			}
			at.Before = newest + 1
		}
		run := &run{search: s, read: read, user: user, request: q, at: at, lookup: s.history.Lookup(read, user)}
		var err error
		if result, err = run.page(); err != nil {
			return err
		}
		if len(result.Hits) == 0 && q.From == "" && !at.Open { // nobody wrote this word; perhaps a longer one
			run.at.Open = true
			if result, err = run.page(); err != nil {
				return err
			}
		}
		return run.surround(result)
	})
	if err != nil {
		return nil, fmt.Errorf("search messages: %w", err)
	}
	return result, s.addState(ctx, user, q, result)
}

// awaitIndex waits until the index has what was committed before the call, so that people
// find what they have just sent. After 5 s it goes on with what is there.
func (s *Search) awaitIndex(ctx context.Context) error {
	deadline := time.Now().Add(indexWait)
	head := s.store.Head()
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		behind := false
		err := s.store.ReadCommitted(ctx, func(read *store.Read) (err error) {
			behind, err = searchdb.IsBehind(read, readerName, max(head, read.Head()))
			return err
		})
		if err != nil || !behind || time.Now().After(deadline) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// addState reads the state of the rooms of the results, until the answer has enough bytes.
func (s *Search) addState(ctx context.Context, user id.UserID, q Request, result *Result) error {
	if !q.State {
		return nil
	}
	result.State = map[id.RoomID][]history.View{}
	bytes := 0
	for _, h := range result.Hits {
		if _, ok := result.State[h.Room]; ok || bytes >= answerBytes {
			continue
		}
		state, err := s.history.CurrentState(ctx, user, h.Room)
		switch {
		case mxerr.Is(err, mxerr.CodeForbidden), mxerr.Is(err, mxerr.CodeNotFound): // left meanwhile
			continue
		case err != nil:
			return err
		}
		result.State[h.Room] = state
		for i := range state {
			bytes += state[i].Bytes()
		}
	}
	return nil
}

// run is one search, in one snapshot.
type run struct {
	search  *Search
	read    *store.Read
	user    id.UserID
	request Request
	at      page
	lookup  *history.Lookup

	query textsearch.Query
	rooms []store.RoomNum
	ask   searchdb.Question
}

// page finds the page that run.at names.
func (r *run) page() (*Result, error) {
	result := &Result{Count: r.at.Count, last: r.at}
	r.query = textsearch.Parse(r.request.Term, r.at.Open)
	if r.query.IsEmpty() {
		return result, nil
	}
	var err error
	if r.rooms, err = r.searched(); err != nil {
		return nil, err
	}
	r.ask = searchdb.Question{Words: r.query.Tokens(), Keys: r.request.Keys}
	if r.at.Group == GroupSender {
		r.ask.Senders = []string{r.at.Value}
	} else if r.request.Filter != nil {
		senders, _ := r.request.Filter.OnlySenders()
		if len(senders) <= searchdb.SendersAtOnce { // else the filter decides alone
			r.ask.Senders = senders
		}
	}
	if r.request.Order == ByRecent {
		err = r.recent(result)
	} else {
		err = r.byRank(result)
	}
	if err != nil {
		return nil, err
	}
	for _, h := range result.Hits {
		for _, w := range h.words {
			if !slices.Contains(result.Words, w) {
				result.Words = append(result.Words, w)
			}
		}
	}
	return result, nil
}

// recent fills a page with the newest results.
func (r *run) recent(result *Result) error {
	hits, before, end, err := r.collect(r.at.Before, r.request.Limit, examined)
	if err != nil {
		return err
	}
	full := len(hits) >= r.request.Limit
	more := hits[min(len(hits), r.request.Limit):]
	result.Hits = hits[:len(hits)-len(more)]
	next := r.at
	if next.Before = before; full {
		next.Before = result.Hits[len(result.Hits)-1].num
	}
	if r.at.Count == 0 && r.request.From == "" {
		result.Count = len(hits)
		if !end && len(hits) < ranked {
			rest, _, _, err := r.collect(before, ranked, ranked)
			if err != nil {
				return err
			}
			result.Count += len(rest)
		}
	}
	if next.Count = result.Count; full || !end {
		result.Next = next.token()
	}
	return nil
}

// byRank fills a page with the best of the newest results.
func (r *run) byRank(result *Result) error {
	hits, before, end, err := r.collect(r.at.Before, ranked, ranked)
	if err != nil {
		return err
	}
	slices.SortStableFunc(hits, func(a, b Hit) int { return cmp.Compare(b.Score, a.Score) })
	if r.at.Count == 0 && r.request.From == "" {
		result.Count = len(hits)
	}
	from := min(r.at.Skip, len(hits))
	to := min(from+r.request.Limit, len(hits))
	result.Hits = hits[from:to]
	next := r.at
	next.Count = result.Count
	switch {
	case to-from == r.request.Limit:
		next.Skip = to
	case !end:
		next.Before, next.Skip = before, 0
	default:
		return nil
	}
	result.Next = next.token()
	return nil
}

// collect returns results below a number, the newest first: at least want of them, unless
// it has looked at most events or has come to the end. before is the number to go on with.
func (r *run) collect(below store.EventNum, want, most int) (hits []Hit, before store.EventNum, end bool, err error) {
	before = below
	for looked := 0; len(hits) < want && looked < most; {
		nums, next, last, err := r.candidates(before)
		if err != nil {
			return nil, 0, false, err
		}
		found, err := r.lookup.Events(nums, r.request.Filter)
		if err != nil {
			return nil, 0, false, err
		}
		for _, f := range found {
			if hit, ok := r.match(f); ok {
				hits = append(hits, hit)
			}
		}
		looked += max(len(nums), 1)
		before = next
		if last {
			return hits, before, true, nil
		}
	}
	return hits, before, false, nil
}

// match reports whether an event matches: it has one of the keys that the request searches, and their text has the words.
func (r *run) match(f history.Found) (Hit, bool) {
	key, text, ok := textOf(f.View.PDU.Type(), f.View.Content())
	if !ok || f.View.RedactedBy != nil || len(r.request.Keys) > 0 && !slices.Contains(r.request.Keys, key) {
		return Hit{}, false
	}
	score, words, ok := r.query.Match(text)
	hit := Hit{Room: f.Room, Score: score, Context: history.Context{Event: f.View}, found: f, num: f.View.Num, words: words}
	return hit, ok && r.at.has(hit)
}

// candidates asks the index for events below a number in all rooms, a part of the rooms at
// a time. All matches from next on are among them.
func (r *run) candidates(below store.EventNum) (nums []store.EventNum, next store.EventNum, last bool, err error) {
	last = true
	for rooms := range slices.Chunk(r.rooms, searchdb.RoomsAtOnce) {
		q := r.ask
		q.Rooms, q.Before = rooms, below
		found, more, err := searchdb.Matches(r.read, q, candidates)
		if err != nil {
			return nil, 0, false, err
		}
		if nums = append(nums, found...); more && len(found) > 0 {
			next, last = max(next, found[len(found)-1]), false
		}
	}
	slices.SortFunc(nums, func(a, b store.EventNum) int { return cmp.Compare(b, a) })
	nums = slices.DeleteFunc(nums, func(n store.EventNum) bool { return n < next })
	return nums, next, last, nil
}

// searched returns the rooms that are searched: those that the request names, or all that
// the user has been in and has not forgotten.
func (r *run) searched() (rooms []store.RoomNum, err error) {
	only, named := []string(nil), false
	if r.request.Filter != nil {
		only, named = r.request.Filter.OnlyRooms()
	}
	if r.at.Group == GroupRoom {
		only, named = []string{r.at.Value}, true
	}
	if named {
		for _, roomID := range only[:min(len(only), mostRooms)] {
			num, err := roomdb.RoomNum(r.read, roomID)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			rooms = append(rooms, num)
		}
		return rooms, nil
	}
	num, err := r.search.store.UserNum(r.read, r.user.String())
	if err != nil {
		return nil, err
	}
	for after := store.RoomNum(0); len(rooms) < mostRooms; {
		const page = 1000
		list, err := roomdb.Memberships(r.read, num, after, page)
		if err != nil {
			return nil, err
		}
		for _, m := range list {
			if after = m.Room; !m.Forgotten && m.Membership != roomdb.Invite && m.Membership != roomdb.Knock {
				rooms = append(rooms, m.Room)
			}
		}
		if len(list) < page {
			break
		}
	}
	return rooms, nil
}

// surround adds the contexts that were asked for, within the bytes of an answer.
func (r *run) surround(result *Result) error {
	if !r.request.Context {
		return nil
	}
	bytes := 0
	for i := range result.Hits {
		h := &result.Hits[i]
		before, after := r.request.Before, r.request.After
		if bytes >= answerBytes {
			before, after = 0, 0 // only the tokens
		}
		var err error
		if h.Context, err = r.lookup.Around(h.found, before, after); err != nil {
			return err
		}
		bytes += h.Context.Bytes()
		if r.request.Profiles {
			if h.Members, err = r.lookup.Senders(h.Context, h.found.RoomNum); err != nil {
				return err
			}
		}
	}
	return nil
}
