package searchdb

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"stoa/internal/stablehash"
	"stoa/internal/store"
	"stoa/internal/textsearch"
)

// In both texts for SQLite and PostgreSQL $1 is a question of FTS5, $2 the same for GIN.
var (
	insertWords = store.PrepareEach(
		`INSERT OR REPLACE INTO search_index (rowid, words) VALUES ($1, $2)`,
		`INSERT INTO search_index (num, words) VALUES ($1, array_to_tsvector(string_to_array($2, ' ')))
			ON CONFLICT (num) DO UPDATE SET words = excluded.words`)
	deleteWords = store.PrepareEach(
		`DELETE FROM search_index WHERE rowid = $1`,
		`DELETE FROM search_index WHERE num = $1`)
	selectMatches = store.PrepareEach(
		`SELECT rowid FROM search_index WHERE search_index MATCH $1 AND $2 <> '' AND rowid >= $3 AND rowid < $4
			ORDER BY rowid DESC LIMIT $5`,
		`SELECT num FROM search_index WHERE $1::text <> '' AND words @@ $2::text::tsquery AND num >= $3 AND num < $4
			ORDER BY num DESC LIMIT $5`)
	selectIndexed = store.PrepareEach(
		`SELECT rowid FROM search_index WHERE rowid > $1 ORDER BY rowid LIMIT $2`,
		`SELECT num FROM search_index WHERE num > $1 ORDER BY num LIMIT $2`)
	deleteAll = store.PrepareEach(
		`DELETE FROM search_index WHERE rowid IN (SELECT rowid FROM search_index LIMIT $1)`,
		`DELETE FROM search_index WHERE num IN (SELECT num FROM search_index LIMIT $1)`)

	selectNewest = store.Prepare(`SELECT COALESCE(MAX(num), 0) FROM events`)
	selectCursor = store.Prepare(`SELECT COALESCE(MIN(pos), -1) FROM reader_cursors WHERE name = $1`)
	selectBehind = store.Prepare(`SELECT pos FROM stream WHERE pos > $1 AND pos <= $2 AND kind IN (1, 11) ORDER BY pos LIMIT 1`)
	selectGone   = store.Prepare(`SELECT e.v FROM {{each $1}} e
		WHERE NOT EXISTS (SELECT 1 FROM events WHERE num = e.v AND redacted_by = 0)`)
	selectRedactedBy = store.Prepare(`SELECT num FROM events WHERE redacted_by = $1 AND redacted_by > 0 AND flags < 8 LIMIT 100`)
)

// Text is what is indexed of an event.
type Text struct {
	Event  store.EventNum
	Room   store.RoomNum
	Sender string
	Key    Key
	Words  []string // of textsearch.Tokens
}

// Key says which part of an event's content is indexed.
type Key string

// Keys of the search API.
const (
	Body  Key = "content.body"
	Name  Key = "content.name"
	Topic Key = "content.topic"
)

// The tokens beside words have a colon, which words never have.
func roomToken(room store.RoomNum) string { return "r:" + strconv.FormatInt(int64(room), 36) }

// senderToken is short, and may be that of another user too: the caller looks at the event.
func senderToken(user string) string {
	return "s:" + strconv.FormatUint(stablehash.Add(stablehash.Start, user)%(1<<30), 36)
}

// keyToken is "k:b", "k:n" or "k:t".
func keyToken(key Key) string { return "k:" + strings.TrimPrefix(string(key), "content.")[:1] }

// blockBits is the size of a block of event numbers, in bits. GIN does not know the order
// of rows, so that the newest of many matches are looked for block by block.
const blockBits = 13

func blockToken(block int64) string { return "b:" + strconv.FormatInt(block, 36) }

// Put indexes an event.
func Put(c *store.Change, t Text) {
	words := slices.Concat(t.Words, []string{roomToken(t.Room), senderToken(t.Sender), keyToken(t.Key), blockToken(int64(t.Event) >> blockBits)})
	c.Exec(insertWords, t.Event, strings.Join(words, " "))
}

// Drop removes an event from the index.
func Drop(c *store.Change, event store.EventNum) { c.Exec(deleteWords, event) }

// DropSome removes about limit rows; the caller repeats it until Indexed has none.
func DropSome(c *store.Change, limit int) { c.Exec(deleteAll, limit) }

// Indexed returns indexed events by number.
func Indexed(r *store.Read, after store.EventNum, limit int) ([]store.EventNum, error) {
	return store.Query(r, selectIndexed, store.Num[store.EventNum], after, limit)
}

// Gone returns those of some events that are not in the store, or redacted.
func Gone(r *store.Read, events []store.EventNum) ([]store.EventNum, error) {
	return store.Query(r, selectGone, store.Num[store.EventNum], events)
}

// RedactedBy returns the events that a redaction redacts, at most 100.
func RedactedBy(r *store.Read, redaction store.EventNum) ([]store.EventNum, error) {
	return store.Query(r, selectRedactedBy, store.Num[store.EventNum], redaction)
}

// Newest is the highest number of an event.
func Newest(r *store.Read) (store.EventNum, error) {
	return store.QueryOne(r, selectNewest, store.Num[store.EventNum])
}

// IsBehind reports whether a reader has yet to process a change of a timeline up to a
// position.
func IsBehind(r *store.Read, reader string, upTo store.Position) (bool, error) {
	at, err := store.QueryOne(r, selectCursor, store.Num[store.Position], reader)
	if err != nil || at < 0 {
		return false, err
	}
	_, err = store.QueryOne(r, selectBehind, (*store.Row).Int, at, upTo)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Question says which events are wanted.
type Question struct {
	Words []textsearch.Token // all of them
	Rooms []store.RoomNum    // at most RoomsAtOnce, of which any
	// Senders (at most SendersAtOnce) and Keys are alternatives; none = all.
	Senders []string
	Keys    []Key
	// Before is the number that found events are below.
	Before store.EventNum
}

// Bounds of a question.
const (
	RoomsAtOnce   = 256
	SendersAtOnce = 100
)

// windows are the numbers of blocks in which matches are looked for, one after another:
// for frequent words the newest blocks have enough, and rare ones cost little in all.
var windows = [...]int64{8, 64}

// Matches returns events that may match, the newest first, and reports whether there may
// be more than limit.
func Matches(r *store.Read, q Question, limit int) (found []store.EventNum, more bool, err error) {
	newest := int64(q.Before-1) >> blockBits
	for _, blocks := range windows {
		oldest := newest - blocks + 1
		if oldest <= 0 {
			break
		}
		found, err = q.ask(r, oldest, newest, limit+1)
		if err != nil || len(found) > limit {
			return found[:min(len(found), limit)], true, err
		}
	}
	found, err = q.ask(r, 0, -1, limit+1)
	return found[:min(len(found), limit)], len(found) > limit, err
}

func (q Question) ask(r *store.Read, oldest, newest int64, limit int) ([]store.EventNum, error) {
	var lite, pg clauses
	for _, w := range q.Words {
		lite, pg = append(lite, quoteLite(w)), append(pg, quotePg(w))
	}
	any := func(tokens []string) {
		var alternatives []textsearch.Token
		for _, t := range tokens {
			alternatives = append(alternatives, textsearch.Token{Text: t})
		}
		if len(alternatives) > 0 {
			lite = append(lite, join(alternatives, quoteLite, " OR "))
			pg = append(pg, join(alternatives, quotePg, " | "))
		}
	}
	any(texts(q.Rooms, roomToken))
	any(texts(q.Senders, senderToken))
	any(texts(q.Keys, keyToken))
	if newest >= oldest {
		var blocks []textsearch.Token
		for b := newest; b >= oldest; b-- {
			blocks = append(blocks, textsearch.Token{Text: blockToken(b)})
		}
		pg = append(pg, join(blocks, quotePg, " | ")) // FTS5 takes the range of numbers
	}
	return store.Query(r, selectMatches, store.Num[store.EventNum],
		strings.Join(lite, " AND "), strings.Join(pg, " & "), oldest<<blockBits, q.Before, limit)
}

// clauses must all hold.
type clauses []string

func texts[T any](list []T, text func(T) string) (all []string) {
	for _, v := range list {
		all = append(all, text(v))
	}
	return all
}

func join(tokens []textsearch.Token, quote func(textsearch.Token) string, or string) string {
	list := make([]string, len(tokens))
	for i, t := range tokens {
		list[i] = quote(t)
	}
	return "(" + strings.Join(list, or) + ")"
}

// Tokens have no quotes: only letters, marks, digits and the colon.
func quoteLite(t textsearch.Token) string {
	if t.Prefix {
		return `"` + t.Text + `" *`
	}
	return `"` + t.Text + `"`
}

func quotePg(t textsearch.Token) string {
	if t.Prefix {
		return `'` + t.Text + `':*`
	}
	return `'` + t.Text + `'`
}
