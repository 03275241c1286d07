package push

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"stoa/internal/account"
	"stoa/internal/reader"
	"stoa/internal/store"
	"stoa/internal/store/pushdb"
	"stoa/internal/store/roomdb"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/pushrule"
)

// Diagnosis says in words why a user's phones are silent.
type Diagnosis struct {
	UserID string `json:"user_id"`
	// Findings are reasons for silence, the gravest first; none if notifications should arrive.
	Findings []string `json:"findings"`
	// Pushers describe the user's pushers, one line each.
	Pushers []string `json:"pushers"`
}

const (
	// mutedShown bounds the muted rooms that a diagnosis names, and roomsDiagnosed the rooms that it looks at.
	mutedShown     = 20
	roomsDiagnosed = 5000
	// lagNoted is from when on a diagnosis says that the server is behind.
	lagNoted = 10 * time.Second
)

// diagnosing is one diagnosis in a snapshot.
type diagnosing struct {
	store *store.Store
	read  *store.Read
	user  who.User
	out   *Diagnosis
}

// Diagnose looks for reasons why a user's phones are silent. It returns store.ErrNotFound for an unknown user.
func Diagnose(ctx context.Context, s *store.Store, rules Rules, found account.Account) (Diagnosis, error) {
	out := Diagnosis{UserID: found.UserID.String(), Findings: []string{}, Pushers: []string{}}
	err := s.Read(ctx, func(read *store.Read) error {
		d := &diagnosing{store: s, read: read, user: who.User{UserID: found.UserID, UserNum: found.Num}, out: &out}
		d.account(found)
		if err := d.pushers(); err != nil {
			return err
		}
		return d.rules(rules)
	})
	if err != nil {
		return out, fmt.Errorf("diagnose the push of %s: %w", found.UserID, err)
	}
	return out, out.readers(ctx, s)
}

func (o *Diagnosis) find(format string, args ...any) {
	o.Findings = append(o.Findings, fmt.Sprintf(format, args...))
}

func (d *diagnosing) account(found account.Account) {
	switch {
	case found.Deactivated:
		d.out.find("The account is deactivated. Its pushers were deleted.")
	case found.Locked:
		d.out.find("The account is locked: apps are told to log in again.")
	}
}

// pushers describes the pushers.
func (d *diagnosing) pushers() error {
	list, err := pushdb.Pushers(d.read, d.user.UserNum)
	if err != nil {
		return err
	}
	works := 0
	for i := range list {
		line, ok, err := d.pusher(&list[i])
		if err != nil {
			return err
		}
		if ok {
			works++
		}
		d.out.Pushers = append(d.out.Pushers, line)
	}
	switch {
	case len(list) == 0:
		d.out.find("The user has no pusher: no app has asked this server for notifications since its last login. On the phone, allow notifications for the app, " +
			"switch them on in its settings, or log out and in again.")
	case works == 0:
		d.out.find("None of the user's pushers works; see below.")
	case works < len(list):
		d.out.find("%d of the user's %d pushers do not work; see below.", len(list)-works, len(list))
	}
	return nil
}

func when(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05 UTC") }

// pusher describes one pusher, and reports whether it works.
func (d *diagnosing) pusher(x *pushdb.Pusher) (line string, works bool, err error) {
	details, err := parseDetails(x.Details)
	if err != nil {
		return "", false, err
	}
	host := "a gateway that can't be read"
	if data, bad := parseData([]byte(x.Data)); bad == nil {
		if u, bad := url.Parse(data.url); bad == nil {
			host = u.Host
		}
	}
	waiting, since, err := pushdb.QueueLength(d.read, x.Num)
	if err != nil {
		return "", false, err
	}
	text := []string{fmt.Sprintf("%q on %q (%s, device %s), set %s, by way of %s", details.AppDisplayName, details.DeviceDisplayName, x.AppID, x.DeviceID, when(x.SetTS), host)}
	works = true
	if !x.Enabled {
		works = false
		text = append(text, "switched off by the user, from another device")
	}
	switch {
	case x.AsideTS != 0:
		works = false
		text = append(text, fmt.Sprintf("set aside since %s, because it failed from %s on; tried again after %s, or when the app registers. The last answer: %s",
			when(x.AsideTS), when(x.FailingTS), when(x.NextTS), x.Error))
	case x.Tries > 0:
		works = false
		text = append(text, fmt.Sprintf("failing since %s, %d times; tried again after %s. The last answer: %s", when(x.FailingTS), x.Tries, when(x.NextTS), x.Error))
	case works:
		text = append(text, "its gateway took the last notification")
	}
	if waiting > 0 {
		text = append(text, fmt.Sprintf("%d notifications wait, the first since %s", waiting, when(since)))
	}
	return strings.Join(text, "; "), works, nil
}

// rules finds rooms that the user's push rules silence.
func (d *diagnosing) rules(rules Rules) error {
	compiled, err := rules.Compiled(d.read, d.user)
	if err != nil {
		return err
	}
	switch compiled.In(id.RoomID{}).Mode() {
	case pushrule.ModeMute:
		d.out.find("The user's push rules silence everything, in all rooms that no rule names (perhaps .m.rule.master is on).")
	case pushrule.ModeMentions:
		d.out.find("The user's push rules notify of mentions and keywords only, in all rooms that no rule names.")
	}
	rooms, err := roomdb.JoinedRooms(d.read, d.user.UserNum)
	if err != nil {
		return err
	}
	base := compiled.In(id.RoomID{}).Mode()
	byMode := map[pushrule.Mode][]string{}
	for _, r := range rooms[:min(len(rooms), roomsDiagnosed)] {
		roomID, err := id.ParseRoomID(r.RoomID)
		if err != nil {
			return err
		}
		if mode := compiled.In(roomID).Mode(); mode != base {
			byMode[mode] = append(byMode[mode], r.RoomID)
		}
	}
	for mode, what := range map[pushrule.Mode]string{pushrule.ModeMute: "silence", pushrule.ModeMentions: "notify of mentions and keywords only in"} {
		if list := byMode[mode]; len(list) > 0 {
			named := strings.Join(list[:min(len(list), mutedShown)], " ")
			if len(list) > mutedShown {
				named += " …"
			}
			d.out.find("The user's push rules %s %d rooms: %s", what, len(list), named)
		}
	}
	if len(rooms) == 0 {
		d.out.find("The user has joined no room.")
	}
	return nil
}

// readers finds out whether the server itself is behind.
func (o *Diagnosis) readers(ctx context.Context, s *store.Store) error {
	status, err := reader.ReadStatus(ctx, s)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	for _, r := range status.Readers {
		if r.Name != readerName {
			continue
		}
		if lag := time.Duration(r.LagMS) * time.Millisecond; lag > lagNoted {
			o.find("The server is %s behind with notifications: no instance runs, or it is overloaded.", lag.Round(time.Second))
		}
		if r.Aside > 0 {
			o.find("The server could not process %d changes and set them aside; see 'stoa jobs list'.", r.Aside)
		}
	}
	return nil
}
