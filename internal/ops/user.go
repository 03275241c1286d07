package ops

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"stoa/internal/account"
	"stoa/internal/server"
	"stoa/internal/store"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

type (
	newUser struct {
		Name     string `json:"name"`
		Password string `json:"password"`
		Admin    bool   `json:"admin"`
	}
	userPage struct {
		After int64 `json:"after"`
	}
	shownUser struct {
		Num         int64     `json:"num"`
		UserID      string    `json:"user_id"`
		Created     time.Time `json:"created"`
		Admin       bool      `json:"admin"`
		Deactivated bool      `json:"deactivated"`
		Locked      bool      `json:"locked"`
	}
	users struct {
		Users []shownUser `json:"users"`
	}
	passwordChange struct {
		Name     string `json:"name"`
		Password string `json:"password"`
		Logout   bool   `json:"logout"`
	}
	adminChange struct {
		Name  string `json:"name"`
		Admin bool   `json:"admin"`
	}
	userEnd struct {
		Name  string `json:"name"`
		Erase bool   `json:"erase"`
	}
	// whom names the affected user, and the address for users to log in.
	whom struct {
		UserID    string `json:"user_id"`
		PublicURL string `json:"public_url"`
	}
)

var (
	userCreate = action[newUser, whom]{"/user/create", func(ctx context.Context, s *server.Services, in newUser) (whom, error) {
		user, err := s.Accounts.UserID(in.Name)
		if err != nil {
			return whom{}, err
		}
		user, err = s.Accounts.Register(ctx, account.Registration{Username: user.Localpart(), Password: in.Password, Admin: in.Admin})
		return whomIn(s, user), err
	}}
	userList = action[userPage, users]{"/user/list", func(ctx context.Context, s *server.Services, in userPage) (users, error) {
		page, err := s.Accounts.List(ctx, store.UserNum(in.After), 1000)
		out := users{Users: make([]shownUser, len(page))}
		for i, a := range page {
			out.Users[i] = shownUser{int64(a.Num), a.UserID.String(), a.Created, a.Admin, a.Deactivated, a.Locked}
		}
		return out, err
	}}
	userPassword = action[passwordChange, whom]{"/user/password", func(ctx context.Context, s *server.Services, in passwordChange) (whom, error) {
		a, err := active(ctx, s, in.Name)
		if err != nil {
			return whom{}, err
		}
		return whomIn(s, a.UserID), s.Accounts.SetPassword(ctx, account.PasswordChange{User: a.Num, Password: in.Password, Logout: in.Logout})
	}}
	userAdmin = action[adminChange, whom]{"/user/admin", func(ctx context.Context, s *server.Services, in adminChange) (whom, error) {
		a, err := active(ctx, s, in.Name)
		if err != nil {
			return whom{}, err
		}
		return whomIn(s, a.UserID), s.Accounts.SetAdmin(ctx, a.Num, in.Admin)
	}}
	userDeactivate = action[userEnd, whom]{"/user/deactivate", func(ctx context.Context, s *server.Services, in userEnd) (whom, error) {
		a, err := named(ctx, s, in.Name)
		if err != nil {
			return whom{}, err
		}
		return whomIn(s, a.UserID), s.Accounts.Deactivate(ctx, a.UserID, in.Erase, nil)
	}}
)

func whomIn(s *server.Services, user id.UserID) whom { return whom{user.String(), s.Config.PublicURL} }

// named finds an account by localpart or user ID.
func named(ctx context.Context, s *server.Services, name string) (account.Account, error) {
	a, err := s.Accounts.Named(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return a, mxerr.NotFound("There is no user %s; 'stoa user list' lists all users", name)
	}
	return a, err
}

// active finds an account that is not deactivated.
func active(ctx context.Context, s *server.Services, name string) (account.Account, error) {
	a, err := named(ctx, s, name)
	if err == nil && a.Deactivated {
		return a, mxerr.New(http.StatusConflict, mxerr.CodeUserDeactivated, "%s is deactivated for good; nothing of the account can be changed", a.UserID)
	}
	return a, err
}

func (t *terminal) userCommand() *cobra.Command {
	c := group(&cobra.Command{
		Use:     "user",
		Short:   "Create, list and change users",
		Example: "  stoa user create --admin alice\n  stoa user list",
	})
	c.AddCommand(t.userCreateCommand(), t.userListCommand(), t.userPasswordCommand(), t.userAdminCommand(), t.userDeactivateCommand())
	return c
}

func (t *terminal) userCreateCommand() *cobra.Command {
	var in newUser
	var fromStdin bool
	c := &cobra.Command{
		Use:     "create NAME",
		Short:   "Create a user, with a random password unless you give one",
		Long:    "Creates a user. NAME is the part of the user ID before the colon. The password is random\nand shown once, unless you give one with --password-stdin.",
		Example: "  stoa user create --admin alice",
		Args:    oneArgument("the name of the user"),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			in.Name = args[0]
			if in.Password, err = t.newPassword(fromStdin); err != nil {
				return err
			}
			made, err := userCreate.ask(c.Context(), cfg, in)
			if err != nil {
				return err
			}
			kind := "user"
			if in.Admin {
				kind = "administrator"
			}
			fmt.Fprintf(t.out, "Created the %s %s\n", kind, made.UserID)
			t.showPassword(fromStdin, in.Password)
			fmt.Fprintf(t.out, "Log in with any Matrix client on the homeserver %s\n", made.PublicURL)
			return nil
		},
	}
	c.Flags().BoolVar(&in.Admin, "admin", false, "make the user an administrator")
	c.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input, one line")
	return c
}

// newPassword reads a password, or generates one of 80 random bits.
func (t *terminal) newPassword(fromStdin bool) (string, error) {
	if !fromStdin {
		text := strings.ToLower(rand.Text()[:16])
		return text[:4] + "-" + text[4:8] + "-" + text[8:12] + "-" + text[12:], nil
	}
	line, err := bufio.NewReader(io.LimitReader(t.in, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password from standard input: %w", err)
	}
	password := strings.TrimRight(line, "\r\n")
	if password == "" {
		return "", errors.New("standard input is empty; give the password as one line, or omit --password-stdin")
	}
	return password, nil
}

func (t *terminal) showPassword(given bool, password string) {
	if !given {
		fmt.Fprintf(t.out, "Password, shown only now: %s\n", password)
	}
}

func (t *terminal) userListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List all users",
		Example: "  stoa user list",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "USER\tCREATED\tSTANDING")
			for after := int64(0); ; {
				page, err := userList.ask(c.Context(), cfg, userPage{After: after})
				if err != nil {
					return err
				}
				if len(page.Users) == 0 {
					break
				}
				for _, u := range page.Users {
					fmt.Fprintf(w, "%s\t%s\t%s\n", u.UserID, u.Created.Local().Format(time.DateTime), standing(u))
					after = u.Num
				}
			}
			return w.Flush()
		},
	}
}

func standing(u shownUser) string {
	var words []string
	if u.Admin {
		words = append(words, "administrator")
	}
	if u.Locked {
		words = append(words, "locked")
	}
	if u.Deactivated {
		words = append(words, "deactivated")
	}
	return strings.Join(words, ", ")
}

func (t *terminal) userPasswordCommand() *cobra.Command {
	var in passwordChange
	var fromStdin, keep bool
	c := &cobra.Command{
		Use:     "password NAME",
		Short:   "Set a new password for a user and log out all their devices",
		Example: "  stoa user password alice",
		Args:    oneArgument("the name of the user"),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			in.Name, in.Logout = args[0], !keep
			if in.Password, err = t.newPassword(fromStdin); err != nil {
				return err
			}
			done, err := userPassword.ask(c.Context(), cfg, in)
			if err != nil {
				return err
			}
			fmt.Fprintf(t.out, "Changed the password of %s\n", done.UserID)
			t.showPassword(fromStdin, in.Password)
			return nil
		},
	}
	c.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input, one line")
	c.Flags().BoolVar(&keep, "keep-devices", false, "leave the user's devices logged in")
	return c
}

func (t *terminal) userAdminCommand() *cobra.Command {
	var revoke bool
	c := &cobra.Command{
		Use:     "admin NAME",
		Short:   "Make a user an administrator, or revoke that",
		Example: "  stoa user admin alice\n  stoa user admin --revoke alice",
		Args:    oneArgument("the name of the user"),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			done, err := userAdmin.ask(c.Context(), cfg, adminChange{Name: args[0], Admin: !revoke})
			if err != nil {
				return err
			}
			if revoke {
				fmt.Fprintf(t.out, "%s is no longer an administrator\n", done.UserID)
			} else {
				fmt.Fprintf(t.out, "%s is an administrator\n", done.UserID)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&revoke, "revoke", false, "revoke the right")
	return c
}

func (t *terminal) userDeactivateCommand() *cobra.Command {
	var erase, sure bool
	c := &cobra.Command{
		Use:   "deactivate NAME",
		Short: "Deactivate a user's account for good",
		Long: "Deactivates an account for good: logs it out everywhere and makes it leave its rooms, as\n" +
			"soon as a server runs. Nobody can use the user ID again. With --erase, users who have\n" +
			"not seen the account's messages can't see them any more. This can't be undone, so --yes\n" +
			"is required.",
		Example: "  stoa user deactivate --yes mallory",
		Args:    oneArgument("the name of the user"),
		RunE: func(c *cobra.Command, args []string) error {
			if !sure {
				return fmt.Errorf("deactivating %s can't be undone; add --yes to confirm", args[0])
			}
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			done, err := userDeactivate.ask(c.Context(), cfg, userEnd{Name: args[0], Erase: erase})
			if err != nil {
				return err
			}
			fmt.Fprintf(t.out, "Deactivated %s\n", done.UserID)
			return nil
		},
	}
	c.Flags().BoolVar(&erase, "erase", false, "hide the user's messages from users who have not seen them")
	c.Flags().BoolVar(&sure, "yes", false, "confirm")
	return c
}
