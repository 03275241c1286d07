// Package notice lets the server talk to its users: each has one room in which administrators'
// messages arrive.
//
// It owns the table notice_rooms (package noticedb), and the user @_server, who sends the
// notices. It never decides what is said or to whom: administrators do.
//
// Growth: one room, and one row, for each user who ever got a notice.
//
// The invariant: a notice that was accepted for all users reaches each of them once, or its
// job is listed as set aside.
//
// Spec: client-server-api#server-notices
package notice

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"stoa/internal/account"
	"stoa/internal/reader"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/noticedb"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/userdb"
	"stoa/internal/who"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

const (
	// MaxText bounds the text of a notice, in bytes.
	MaxText = 16 << 10
	// tag marks the room for clients.
	tag = "m.server_notice"
	// kindAll is the kind of the jobs that send a notice to all users. The name is in the database.
	kindAll = "notice.all"
	// usersPage is the number of users whom a job reads at a time.
	usersPage = 100
)

// Tags are the tags of rooms, which their users see.
type Tags interface {
	Tags(ctx context.Context, user who.User, roomID id.RoomID) (map[string]json.RawMessage, error)
	SetTag(ctx context.Context, user who.User, roomID id.RoomID, tag string, info json.RawMessage) error
}

// Options configure Notices.
type Options struct {
	Store    *store.Store
	Accounts *account.Accounts
	Rooms    *room.Rooms
	Tags     Tags
	// Name is the display name of the sender, and the name of the rooms.
	Name string
	// MayLeave says whether people may leave the room after they have joined it.
	MayLeave bool
}

// Notices sends notices. Its methods may be called concurrently.
type Notices struct{ opt Options }

// New returns Notices.
func New(opt Options) *Notices { return &Notices{opt} }

// Send sends a message to the notice room of a local user, which it creates if there is none,
// and invites the user if they are not in it. txn makes a repeated call return the event of
// the first; "" = none. eventType is empty for m.room.message; with a state key it is state.
//
// Errors: M_NOT_FOUND if there is no such active user.
func (n *Notices) Send(ctx context.Context, to id.UserID, eventType string, stateKey *string, content json.RawMessage, txn string) (id.EventID, error) {
	recipient, err := n.opt.Accounts.Account(ctx, to)
	if errors.Is(err, store.ErrNotFound) || err == nil && recipient.Deactivated {
		return id.EventID{}, mxerr.NotFound("There is no active user %s on this server", to)
	}
	if err != nil {
		return id.EventID{}, err
	}
	sender, err := account.EnsureServerUser(ctx, n.opt.Accounts, n.opt.Name)
	if err != nil {
		return id.EventID{}, err
	}
	user := who.User{UserID: to, UserNum: recipient.Num}
	roomID, err := n.roomOf(ctx, sender, user)
	if err != nil {
		return id.EventID{}, err
	}
	if eventType == "" {
		eventType = event.TypeMessage
	}
	d := room.Draft{RoomID: roomID, Sender: sender, Type: eventType, StateKey: stateKey, Content: content}
	if txn != "" {
		d.Txn = room.Txn{UserID: sender, Path: "notice", ID: txn}
	}
	return n.opt.Rooms.Send(ctx, d)
}

// roomOf returns the notice room of a user, who is in it or invited afterwards.
func (n *Notices) roomOf(ctx context.Context, sender id.UserID, user who.User) (roomID id.RoomID, err error) {
	var name string
	membership := roomdb.RoomMembership{}
	err = n.opt.Store.Read(ctx, func(read *store.Read) (err error) {
		if name, err = noticedb.Room(read, user.UserNum); err != nil {
			return err
		}
		num, err := roomdb.RoomNum(read, name)
		if err != nil {
			return err
		}
		membership, err = roomdb.MembershipOf(read, user.UserNum, num)
		if errors.Is(err, store.ErrNotFound) {
			err = nil
		}
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return n.create(ctx, sender, user)
	}
	if err != nil {
		return roomID, fmt.Errorf("find the notice room of %s: %w", user.UserID, err)
	}
	if roomID, err = id.ParseRoomID(name); err != nil {
		return roomID, err
	}
	if membership.Membership != roomdb.Join && membership.Membership != roomdb.Invite {
		if err := n.opt.Rooms.Invite(ctx, room.MembershipRequest{RoomID: roomID, Sender: sender, Target: user.UserID}); err != nil {
			return roomID, fmt.Errorf("invite %s to their notice room: %w", user.UserID, err)
		}
	}
	return roomID, n.mark(ctx, user, roomID)
}

// readOnly lets nobody but the server speak.
const readOnly = `{"users_default":-10}`

func (n *Notices) create(ctx context.Context, sender id.UserID, user who.User) (id.RoomID, error) {
	roomID, err := n.opt.Rooms.Create(ctx, room.CreateRequest{
		Creator: sender, Preset: room.PresetPrivateChat, Name: n.opt.Name, Invite: []id.UserID{user.UserID}, PowerLevels: json.RawMessage(readOnly),
		With: func(c *store.Change, _ store.RoomNum, roomID id.RoomID) {
			noticedb.AddRoom(c, user.UserNum, roomID.String())
		},
	})
	if errors.Is(err, store.ErrDuplicate) { // another call was quicker
		return n.roomOf(ctx, sender, user)
	}
	if err != nil {
		return roomID, fmt.Errorf("create the notice room of %s: %w", user.UserID, err)
	}
	return roomID, n.mark(ctx, user, roomID)
}

// mark sets the tag by which clients know the room.
func (n *Notices) mark(ctx context.Context, user who.User, roomID id.RoomID) error {
	tags, err := n.opt.Tags.Tags(ctx, user, roomID)
	if err != nil {
		return err
	}
	if _, ok := tags[tag]; ok {
		return nil
	}
	return n.opt.Tags.SetTag(ctx, user, roomID, tag, json.RawMessage(`{}`))
}

// MayLeave returns M_CANNOT_LEAVE_SERVER_NOTICE_ROOM if the room is the user's notice room and
// they may not leave it: an invitation can't be rejected.
func (n *Notices) MayLeave(ctx context.Context, user who.User, roomID id.RoomID) error {
	return n.opt.Store.Read(ctx, func(read *store.Read) error {
		name, err := noticedb.Room(read, user.UserNum)
		if errors.Is(err, store.ErrNotFound) || err == nil && name != roomID.String() {
			return nil
		}
		if err != nil {
			return err
		}
		num, err := roomdb.RoomNum(read, name)
		if err != nil {
			return err
		}
		m, err := roomdb.MembershipOf(read, user.UserNum, num)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if m.Membership == roomdb.Invite || m.Membership == roomdb.Join && !n.opt.MayLeave {
			return mxerr.CannotLeaveServerNoticeRoom("You can't leave the room in which the server sends you notices")
		}
		return nil
	})
}

// Text is the content of a notice for people.
func Text(text string) (json.RawMessage, error) {
	if len(text) > MaxText {
		return nil, mxerr.TooLarge("a notice has at most %d bytes", MaxText)
	}
	return json.Marshal(map[string]string{"msgtype": "m.text", "body": text})
}

// SendAll enqueues a notice to all active users.
func SendAll(ctx context.Context, s *store.Store, text string) error {
	content, err := Text(text)
	if err != nil {
		return err
	}
	c := store.NewChange()
	if err := reader.Enqueue(c, reader.Job{Kind: kindAll, Payload: content}); err != nil {
		return err
	}
	if _, err := s.Commit(ctx, c); err != nil {
		return fmt.Errorf("enqueue the notice: %w", err)
	}
	return nil
}

// Jobs are the kinds of jobs that this package handles.
func (n *Notices) Jobs() []reader.Kind {
	return []reader.Kind{{Name: kindAll, AtOnce: 1, Limit: time.Hour, Handle: n.sendAll}}
}

// progress is how far a notice to all users is. ID makes its transaction IDs.
type progress struct {
	After store.UserNum `json:"after"`
	ID    string        `json:"id"`
}

// sendAll sends a notice to one user after another. The transaction ID keeps a user from
// getting it twice if the job is interrupted.
func (n *Notices) sendAll(ctx context.Context, w *reader.Work) error {
	var at progress
	if w.Progress != nil {
		if err := json.Unmarshal(w.Progress, &at); err != nil {
			return fmt.Errorf("read the progress of a notice: %w", err)
		}
	} else {
		at.ID = rand.Text()
		if err := save(ctx, w, at); err != nil {
			return err
		}
	}
	for {
		var page []userdb.Person
		err := n.opt.Store.Read(ctx, func(read *store.Read) (err error) { page, err = userdb.People(read, at.After, usersPage); return err })
		if err != nil || len(page) == 0 {
			return err
		}
		for _, p := range page {
			user, err := id.ParseUserID(p.UserID)
			if err != nil {
				return err
			}
			if user.Localpart() != account.ServerUser {
				_, err := n.Send(ctx, user, "", nil, w.Payload, at.ID+"/"+user.String())
				if err != nil && !mxerr.Is(err, mxerr.CodeNotFound) { // deactivated meanwhile
					return fmt.Errorf("send a notice to %s: %w", user, err)
				}
			}
			at.After = p.User
		}
		if err := save(ctx, w, at); err != nil {
			return err
		}
	}
}

func save(ctx context.Context, w *reader.Work, at progress) error {
	text, err := json.Marshal(at)
	if err != nil {
		return err
	}
	return w.Save(ctx, text, nil)
}
