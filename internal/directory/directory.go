// Package directory finds rooms: by alias, in the list of published rooms, by summary
// and in spaces.
//
// It owns the aliases of this server, the rules for setting and deleting them, and the
// information about a room for users outside it. It never writes
// an event itself: changes of m.room.canonical_alias go through package room.
//
// The invariant: an alias points to one room at a time. A unique key ensures that, not
// the check before.
package directory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"stoa/internal/history"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

const (
	// maxAliases bounds the aliases of one room.
	maxAliases = 500
	// maxAliasesBy bounds the aliases that a user has created. Requests at the same
	// time can exceed it by their number, which httpkit bounds.
	maxAliasesBy = 1_000
)

// Options are what a Directory needs.
type Options struct {
	Store   *store.Store
	Rooms   *room.Rooms
	History *history.Reader
	// Clock is time.Now if nil.
	Clock func() time.Time
}

// Directory finds rooms. Its methods may be called at the same time.
type Directory struct {
	store   *store.Store
	rooms   *room.Rooms
	history *history.Reader
	clock   func() time.Time

	searches chan struct{} // one for each search for people that runs
}

// New makes a Directory.
func New(opt Options) *Directory {
	if opt.Clock == nil {
		opt.Clock = time.Now
	}
	return &Directory{store: opt.Store, rooms: opt.Rooms, history: opt.History, clock: opt.Clock, searches: make(chan struct{}, searches)}
}

// Resolve gives the room of an alias, and the servers that can help to join it.
//
// Errors: M_NOT_FOUND.
//
// Spec: client-server-api#room-aliases
func (d *Directory) Resolve(ctx context.Context, alias id.RoomAlias) (roomID id.RoomID, servers []id.ServerName, err error) {
	const someServers = 20
	if alias.ServerName() != d.rooms.ServerName() {
		return id.RoomID{}, nil, mxerr.NotFound("The server %s can't be asked for %s", alias.ServerName(), alias)
	}
	err = d.store.Read(ctx, func(r *store.Read) error {
		row, err := roomdb.AliasByName(r, alias.String())
		if err != nil {
			return err
		}
		text, err := roomdb.RoomID(r, row.Room)
		if err != nil {
			return err
		}
		if roomID, err = id.ParseRoomID(text); err != nil {
			return err
		}
		names, err := roomdb.RoomServers(r, row.Room, "", someServers)
		if err != nil {
			return err
		}
		servers = []id.ServerName{d.rooms.ServerName()}
		for _, name := range names {
			server, err := id.ParseServerName(name)
			if err != nil {
				return err
			}
			if server != d.rooms.ServerName() {
				servers = append(servers, server)
			}
		}
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return id.RoomID{}, nil, mxerr.NotFound("There is no room %s", alias)
	}
	if err != nil {
		return id.RoomID{}, nil, fmt.Errorf("resolve %s: %w", alias, err)
	}
	return roomID, servers, nil
}

// CreateRoom is room.Create with the row of the alias, which the room has from its
// first moment.
//
// Errors: those of room.Create, M_ROOM_IN_USE, M_USER_LIMIT_EXCEEDED.
//
// Spec: client-server-api#creation
func (d *Directory) CreateRoom(ctx context.Context, req room.CreateRequest) (id.RoomID, error) {
	if !req.Alias.IsZero() {
		err := d.store.Read(ctx, func(r *store.Read) error { return checkAliasesBy(r, req.Creator) })
		if err != nil {
			return id.RoomID{}, err
		}
		now := d.clock().UnixMilli()
		req.With = func(change *store.Change, num store.RoomNum, _ id.RoomID) {
			roomdb.AddAlias(change, roomdb.Alias{Alias: req.Alias.String(), Room: num, Creator: req.Creator.String(), CreatedTS: now})
		}
	}
	roomID, err := d.rooms.Create(ctx, req)
	if errors.Is(err, roomdb.ErrAliasTaken) {
		return id.RoomID{}, mxerr.RoomInUse("The alias %s is taken", req.Alias).Because(err)
	}
	return roomID, err
}

// UpgradeRoom is room.Upgrade; the aliases of the old room point to the new one
// afterwards.
//
// Spec: client-server-api#room-upgrades
func (d *Directory) UpgradeRoom(ctx context.Context, req room.UpgradeRequest) (id.RoomID, error) {
	req.With = func(change *store.Change, from, to store.RoomNum, _ id.RoomID) { roomdb.MoveAliases(change, from, to) }
	return d.rooms.Upgrade(ctx, req)
}

// SetAlias lets an alias of this server point to a room in which the user is.
//
// Errors: M_INVALID_PARAM (alias of another server), M_NOT_FOUND (no such room),
// M_FORBIDDEN, M_UNKNOWN with 409 (the alias is taken), M_USER_LIMIT_EXCEEDED.
//
// Spec: client-server-api#room-aliases
func (d *Directory) SetAlias(ctx context.Context, user id.UserID, alias id.RoomAlias, roomID id.RoomID) error {
	if alias.ServerName() != d.rooms.ServerName() {
		return mxerr.InvalidParam("%s is not an alias of this server", alias)
	}
	var num store.RoomNum
	err := d.view(ctx, user, roomID, func(r *store.Read, v *history.Viewer) error {
		if v.Membership() != event.MembershipJoin {
			return mxerr.Forbidden("You are not in this room")
		}
		num = v.Room.Num
		aliases, err := roomdb.AliasesOf(r, num, maxAliases)
		if err == nil && len(aliases) == maxAliases {
			err = mxerr.Forbidden("The room has %d aliases already", maxAliases)
		}
		if err != nil {
			return err
		}
		return checkAliasesBy(r, user)
	})
	if err != nil {
		return err
	}
	change := store.NewChange()
	roomdb.AddAlias(change, roomdb.Alias{Alias: alias.String(), Room: num, Creator: user.String(), CreatedTS: d.clock().UnixMilli()})
	_, err = d.store.Commit(ctx, change)
	if errors.Is(err, roomdb.ErrAliasTaken) {
		return mxerr.Unknown("The alias %s is taken", alias).WithStatus(409).Because(err)
	}
	return err
}

// checkAliasesBy refuses another alias of a user who has created as many as they may.
func checkAliasesBy(r *store.Read, user id.UserID) error {
	n, err := roomdb.CountAliasesBy(r, user.String())
	if err == nil && n >= maxAliasesBy {
		return mxerr.UserLimitExceeded("You have created %d room aliases: delete one of them first", n).
			With("info_uri", "https://spec.matrix.org/latest/client-server-api/#room-aliases")
	}
	return err
}

// DeleteAlias takes an alias of this server away. Its creator, admins of the
// server and those who may change the canonical alias of the room can do so. If
// the alias was a canonical one and the user may change that, it is taken from
// m.room.canonical_alias too.
//
// Errors: M_NOT_FOUND, M_FORBIDDEN.
//
// Spec: client-server-api#room-aliases
func (d *Directory) DeleteAlias(ctx context.Context, user id.UserID, admin bool, alias id.RoomAlias) error {
	var row roomdb.Alias
	var roomID id.RoomID
	err := d.store.Read(ctx, func(r *store.Read) (err error) {
		if row, err = roomdb.AliasByName(r, alias.String()); err != nil {
			return err
		}
		text, err := roomdb.RoomID(r, row.Room)
		if err != nil {
			return err
		}
		roomID, err = id.ParseRoomID(text)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return mxerr.NotFound("There is no room %s", alias)
	}
	if err != nil {
		return fmt.Errorf("load %s: %w", alias, err)
	}
	mayChange, err := d.maySend(ctx, user, roomID, event.TypeCanonicalAlias)
	if err != nil {
		return err
	}
	if row.Creator != user.String() && !admin && !mayChange {
		return mxerr.Forbidden("You may not delete the alias %s", alias)
	}
	change := store.NewChange()
	roomdb.DropAlias(change, alias.String(), row.Room)
	if _, err := d.store.Commit(ctx, change); err != nil {
		if errors.Is(err, store.ErrNotFound) { // somebody else deleted it meanwhile
			return mxerr.NotFound("There is no room %s", alias)
		}
		return err
	}
	if !mayChange {
		return nil
	}
	return d.forgetCanonical(ctx, user, roomID, alias)
}

// maySend says whether a user is in a room with the power to send a state event.
func (d *Directory) maySend(ctx context.Context, user id.UserID, roomID id.RoomID, evType string) (may bool, err error) {
	err = d.view(ctx, user, roomID, func(_ *store.Read, v *history.Viewer) (err error) {
		may, err = v.MaySend(evType, true)
		return err
	})
	return may, err
}

// view reads as a user who may be anything in the room.
func (d *Directory) view(ctx context.Context, user id.UserID, roomID id.RoomID, f func(*store.Read, *history.Viewer) error) error {
	return d.store.Read(ctx, func(r *store.Read) error {
		v, err := d.history.Viewer(r, roomID, user)
		if err != nil {
			return err
		}
		return f(r, v)
	})
}

// canonicalAliases is what m.room.canonical_alias names.
type canonicalAliases struct {
	alias      string
	altAliases []string
}

func (c *canonicalAliases) has(alias string) bool {
	return alias != "" && (c.alias == alias || slices.Contains(c.altAliases, alias))
}

// readCanonical reads the content of an m.room.canonical_alias; what has the
// wrong type is passed over. nil is read as empty.
func readCanonical(content []byte) (c canonicalAliases) {
	if !canonicaljson.IsObject(content) {
		return c
	}
	c.alias, _ = canonicaljson.String(canonicaljson.Get(content, "alias"))
	alt := canonicaljson.Get(content, "alt_aliases")
	if !canonicaljson.IsArray(alt) {
		return c
	}
	// The content was checked when it was written; a list that ends early is short.
	_ = canonicaljson.Array(alt, func(item []byte) error {
		if text, ok := canonicaljson.String(item); ok {
			c.altAliases = append(c.altAliases, text)
		}
		return nil
	})
	return c
}

// canonical reads the current m.room.canonical_alias, its content nil for none.
func (d *Directory) canonical(ctx context.Context, roomID id.RoomID) (content []byte, err error) {
	summary, err := d.history.Summary(ctx, roomID, event.TypeCanonicalAlias)
	if err != nil {
		return nil, err
	}
	if pdu := summary.State[event.TypeCanonicalAlias]; pdu != nil {
		content = pdu.Content()
	}
	return content, nil
}

// forgetCanonical takes a deleted alias from m.room.canonical_alias.
func (d *Directory) forgetCanonical(ctx context.Context, user id.UserID, roomID id.RoomID, alias id.RoomAlias) error {
	content, err := d.canonical(ctx, roomID)
	if err != nil {
		return err
	}
	named := readCanonical(content)
	if !named.has(alias.String()) {
		return nil
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(content, &fields); err != nil {
		return fmt.Errorf("canonical alias of %s: %w", roomID, err)
	}
	if named.alias == alias.String() {
		delete(fields, "alias")
	}
	if slices.Contains(named.altAliases, alias.String()) {
		left := slices.DeleteFunc(named.altAliases, func(a string) bool { return a == alias.String() })
		delete(fields, "alt_aliases")
		if len(left) > 0 {
			if fields["alt_aliases"], err = json.Marshal(left); err != nil {
				return err
			}
		}
	}
	raw, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	_, err = d.rooms.Send(ctx, room.Draft{RoomID: roomID, Sender: user, Type: event.TypeCanonicalAlias, StateKey: new(string), Content: raw})
	if _, refused := mxerr.As(err); refused {
		return nil // the alias is gone all the same, as the spec recommends
	}
	return err
}

// SetCanonicalAlias sends an m.room.canonical_alias. The aliases that it names and
// the one before did not must point to the room.
//
// Errors: M_INVALID_PARAM (no alias), M_BAD_ALIAS (an alias that does not point to
// the room), those of room.Send.
//
// Spec: client-server-api#mroomcanonical_alias
func (d *Directory) SetCanonicalAlias(ctx context.Context, draft room.Draft) (id.EventID, error) {
	content, err := d.canonical(ctx, draft.RoomID)
	if err != nil {
		return id.EventID{}, err
	}
	before := readCanonical(content)
	wanted, err := checkCanonical(draft.Content)
	if err != nil {
		return id.EventID{}, err
	}
	for _, alias := range wanted {
		if before.has(alias.String()) {
			continue
		}
		roomID, _, err := d.Resolve(ctx, alias)
		if refusal, ok := mxerr.As(err); ok && refusal.Code == mxerr.CodeNotFound || err == nil && roomID != draft.RoomID {
			return id.EventID{}, mxerr.BadAlias("The alias %s does not point to this room", alias)
		}
		if err != nil {
			return id.EventID{}, err
		}
	}
	return d.rooms.Send(ctx, draft)
}

// checkCanonical gives the aliases that a content wants.
func checkCanonical(content json.RawMessage) ([]id.RoomAlias, error) {
	var body struct {
		Alias      *string  `json:"alias"`
		AltAliases []string `json:"alt_aliases"`
	}
	if err := json.Unmarshal(content, &body); err != nil {
		return nil, mxerr.BadJSON("The content of m.room.canonical_alias is malformed").Because(err)
	}
	if body.Alias != nil && *body.Alias != "" {
		body.AltAliases = append(body.AltAliases, *body.Alias)
	}
	var wanted []id.RoomAlias
	for _, text := range body.AltAliases {
		alias, err := id.ParseRoomAlias(text)
		if err != nil {
			return nil, mxerr.InvalidParam("%v", err).Because(err)
		}
		wanted = append(wanted, alias)
	}
	return wanted, nil
}

// Aliases gives the aliases that this server has for a room. Members may ask, and
// anybody if the room is world readable.
//
// Errors: M_FORBIDDEN.
//
// Spec: client-server-api#room-aliases
func (d *Directory) Aliases(ctx context.Context, user id.UserID, roomID id.RoomID) (aliases []string, err error) {
	aliases = []string{}
	err = d.view(ctx, user, roomID, func(r *store.Read, v *history.Viewer) error {
		if v.Membership() != event.MembershipJoin && !v.IsWorldReadable() {
			return mxerr.Forbidden("You are not in this room")
		}
		rows, err := roomdb.AliasesOf(r, v.Room.Num, maxAliases)
		for _, row := range rows {
			aliases = append(aliases, row.Alias)
		}
		return err
	})
	return aliases, err
}
