// Package userdata stores data of users for their own clients: account data, tags, push
// rules, filters.
//
// It owns the tables account_data and filters. It never interprets account
// data, except for push rules and the list of ignored users, which it compiles for
// other packages. It doesn't check membership: a client may store data about a room
// that the user has left.
//
// The invariant: concurrent changes of tags or push rules by two clients of a user are
// never lost, since each change is built on the user's head.
//
// Spec: client-server-api#client-config
package userdata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"stoa/internal/store"
	"stoa/internal/store/mediadb"
	"stoa/internal/store/userdb"
	"stoa/internal/who"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

const (
	// maxEntry bounds the content of an entry, in bytes. The m.direct of a user with two
	// thousand conversations has about 200 KiB.
	maxEntry = 256 << 10
	// maxEntries bounds the entries of a user.
	maxEntries = 5_000
	// maxBytes bounds the contents of all entries of a user, which the first answer to
	// /sync contains. A user in two thousand rooms has less than 1 MiB.
	maxBytes = 4 << 20
	// maxRules bounds the push rules of a user, in bytes as stored. A rule for each of
	// eight thousand muted rooms and senders has less than 1 MiB together.
	maxRules = 1 << 20
	// maxType bounds a type, in bytes, as for events.
	maxType = 255
	// maxTries bounds how often a change is rebuilt after it lost a race against another
	// writer of the user. Each time another change has succeeded, so the bound is
	// generous.
	maxTries = 100
	// writers bounds the users that are written at once.
	writers = 256
)

// Types that this package knows.
const (
	TypePushRules       = "m.push_rules"
	TypeFullyRead       = "m.fully_read"
	TypeTag             = "m.tag"
	TypeIgnoredUserList = "m.ignored_user_list"
)

// Options configure the package.
type Options struct {
	Store *store.Store
	// Rules are notified of a user's changes; nil = none.
	Rules *Rules
	// Rooms are notified of users with changed rules; nil = none.
	Rooms Rooms
}

// Rooms count events by users' push rules, and hide the events of users that they ignore.
type Rooms interface {
	// PushRulesChanged reports that a user has changed push rules or ignored users.
	PushRulesChanged(user id.UserID)
	// FollowRules reports that another instance has done so. It must not wait.
	FollowRules(user id.UserID)
}

// Data serves the data of all users.
type Data struct {
	store *store.Store
	rules *Rules
	rooms Rooms // nil = none
	// writers has a token for each writer. Writers of one user wait for each other, as
	// all but one would lose. A token is returned before another is taken.
	writers [writers]chan struct{}
}

// New returns a Data. It starts nothing.
func New(opt Options) *Data {
	if opt.Rules == nil {
		opt.Rules = NewRules(opt.Store)
	}
	d := &Data{store: opt.Store, rules: opt.Rules, rooms: opt.Rooms}
	for i := range d.writers {
		d.writers[i] = make(chan struct{}, 1)
	}
	return d
}

// change builds and commits a change on the user's head until it loses no race, and
// returns its position. It refuses users whose account is deactivated.
func (d *Data) change(ctx context.Context, what string, user who.User, build func(*store.Read, *store.Change) error) (at store.Position, err error) {
	writing := d.writers[uint64(user.UserNum)%writers]
	select {
	case writing <- struct{}{}:
		defer func() { <-writing }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	for range maxTries {
		c := store.NewChange()
		err = d.store.Read(ctx, func(r *store.Read) error {
			head, err := r.UserHead(user.UserNum)
			if err != nil {
				return err
			}
			c.User(user.UserNum, head)
			c.ActiveUser(user.UserNum)
			return build(r, c)
		})
		if err != nil {
			return 0, err
		}
		if at, err = d.store.Commit(ctx, c); !errors.Is(err, store.ErrConflict) && !errors.Is(err, userdb.ErrFilterTaken) {
			break
		}
	}
	if err != nil {
		return 0, fmt.Errorf("%s of %s: %w", what, user.UserID, err)
	}
	return at, nil
}

// SetAccountData replaces an entry; roomID zero = global. m.push_rules and m.fully_read
// have their own endpoints and give status 405.
//
// Spec: client-server-api#put_matrixclientv3useruseridaccount_datatype
func (d *Data) SetAccountData(ctx context.Context, user who.User, roomID id.RoomID, dataType string, content json.RawMessage) error {
	switch {
	case dataType == TypePushRules || dataType == TypeFullyRead:
		return mxerr.BadJSON("%s has an endpoint of its own", dataType).WithStatus(405)
	case dataType == "" || len(dataType) > maxType:
		return mxerr.InvalidParam("A type has 1 to %d bytes", maxType)
	case !canonicaljson.IsObject(content):
		return mxerr.BadJSON("The content must be an object")
	case len(content) > maxEntry:
		return mxerr.TooLarge("The content has more than %d bytes", maxEntry)
	}
	return d.put(ctx, user, roomID, dataType, content)
}

// SetFullyRead moves the fully read marker of a room.
//
// Spec: client-server-api#fully-read-markers
func (d *Data) SetFullyRead(ctx context.Context, user who.User, roomID id.RoomID, eventID id.EventID) error {
	content, err := json.Marshal(map[string]string{"event_id": eventID.String()})
	if err != nil {
		return err
	}
	return d.put(ctx, user, roomID, TypeFullyRead, content)
}

func (d *Data) put(ctx context.Context, user who.User, roomID id.RoomID, dataType string, content json.RawMessage) error {
	at, err := d.change(ctx, "set account data", user, func(r *store.Read, c *store.Change) error {
		old, err := checkRoom(r, user, roomID.String(), dataType, len(content))
		if err != nil {
			return err
		}
		userdb.PutAccountData(c, user.UserNum, roomID.String(), dataType, string(content))
		mediadb.ReplaceNames(c, user.UserID.ServerName().String(), mediadb.AccountDataSource(user.UserNum, roomID.String(), dataType), []byte(old), content)
		return nil
	})
	if err == nil && dataType == TypeIgnoredUserList {
		d.tellRulesChanged(user, at)
	}
	return err
}

// checkRoom returns an error if the user would have too many entries, or too many bytes,
// and the present content of the entry, empty for none.
func checkRoom(r *store.Read, user who.User, roomID, dataType string, size int) (content string, err error) {
	old, err := userdb.AccountDataOf(r, user.UserNum, roomID, dataType)
	isNew := errors.Is(err, store.ErrNotFound)
	if err != nil && !isNew {
		return "", err
	}
	if !isNew && size <= len(old.Content) {
		return old.Content, nil
	}
	n, bytes, err := userdb.AccountDataSize(r, user.UserNum)
	switch {
	case err != nil:
		return "", err
	case isNew && n >= maxEntries:
		return "", mxerr.TooLarge("You keep %d entries of account data, as many as there may be", maxEntries)
	case bytes+int64(size-len(old.Content)) > maxBytes:
		return "", mxerr.TooLarge("Your account data has more than %d bytes", maxBytes)
	}
	return old.Content, nil
}

// AccountData gives an entry's content, or M_NOT_FOUND.
//
// Spec: client-server-api#get_matrixclientv3useruseridaccount_datatype
func (d *Data) AccountData(ctx context.Context, user who.User, roomID id.RoomID, dataType string) (json.RawMessage, error) {
	var content json.RawMessage
	err := d.store.Read(ctx, func(r *store.Read) error {
		if roomID.IsZero() && dataType == TypePushRules {
			rules, err := loadRules(r, user)
			if err == nil {
				content, err = pushRulesContent(rules)
			}
			return err
		}
		row, err := userdb.AccountDataOf(r, user.UserNum, roomID.String(), dataType)
		content = json.RawMessage(row.Content)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, mxerr.NotFound("There is no account data of this type")
	}
	return content, err
}

// Entry is an entry as sync shows it.
type Entry struct {
	RoomID  string // "" = global
	Type    string
	Content json.RawMessage
}

// OfRoom gives a user's account data of a room, as events.
func (d *Data) OfRoom(ctx context.Context, user who.User, roomID id.RoomID) (events []json.RawMessage, err error) {
	err = d.store.Read(ctx, func(r *store.Read) error {
		rows, err := userdb.AllAccountData(r, user.UserNum, maxEntries+1)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if row.RoomID != roomID.String() {
				continue
			}
			event, err := json.Marshal(struct {
				Type    string          `json:"type"`
				Content json.RawMessage `json:"content"`
			}{row.Type, json.RawMessage(row.Content)})
			if err != nil {
				return err
			}
			events = append(events, event)
		}
		return nil
	})
	return events, err
}

// All gives all entries of a user, push rules always among them.
func (d *Data) All(r *store.Read, user who.User) ([]Entry, error) {
	rows, err := userdb.AllAccountData(r, user.UserNum, maxEntries+1)
	if err != nil {
		return nil, err
	}
	hasRules := func(row userdb.AccountData) bool { return row.RoomID == "" && row.Type == TypePushRules }
	if !slices.ContainsFunc(rows, hasRules) {
		rows = append(rows, userdb.AccountData{Type: TypePushRules})
	}
	return entries(user, rows)
}

// After gives the entries that changed after a slot of the user.
func (d *Data) After(r *store.Read, user who.User, after store.Slot) ([]Entry, error) {
	rows, err := userdb.AccountDataAfter(r, user.UserNum, after, maxEntries+1)
	if err != nil {
		return nil, err
	}
	return entries(user, rows)
}

func entries(user who.User, rows []userdb.AccountData) ([]Entry, error) {
	out := make([]Entry, len(rows))
	for i, row := range rows {
		out[i] = Entry{RoomID: row.RoomID, Type: row.Type, Content: json.RawMessage(row.Content)}
		if row.RoomID == "" && row.Type == TypePushRules {
			content, err := shownRules(user, row.Content)
			if err != nil {
				return nil, err
			}
			out[i].Content = content
		}
	}
	return out, nil
}
