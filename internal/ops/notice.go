package ops

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"stoa/internal/notice"
	"stoa/internal/server"
)

// newNotice is a notice to a user, or to all if User is empty.
type newNotice struct {
	User string `json:"user"`
	Text string `json:"text"`
}

var noticeSend = action[newNotice, none]{"/notice/send", func(ctx context.Context, s *server.Services, in newNotice) (none, error) {
	if in.User == "" {
		return none{}, notice.SendAll(ctx, s.Store, in.Text)
	}
	to, err := named(ctx, s, in.User)
	if err != nil {
		return none{}, err
	}
	content, err := notice.Text(in.Text)
	if err != nil {
		return none{}, err
	}
	_, err = s.Notices.Send(ctx, to.UserID, "", nil, content, "")
	return none{}, err
}}

func noticeCommand(t *terminal) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "notice [USER] TEXT",
		Short: "Send a message of the server to a user, or to all",
		Long: "Sends a message to a user, or with --all to all users. It arrives in a room in which only the\n" +
			"server writes; those who don't have that room yet are invited to it. With --all, the running\n" +
			"server sends one message after another; 'stoa cluster status' shows the job notice.all until\n" +
			"all have it.",
		Example: "  stoa notice alice \"Your account expires on Friday.\"\n  stoa notice --all \"The server is down on Sunday from 6:00 to 6:30.\"",
		Args: func(c *cobra.Command, args []string) error {
			if all && len(args) != 1 || !all && len(args) != 2 {
				return errors.New("give a user and a text, or --all and a text")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			in := newNotice{Text: args[len(args)-1]}
			if !all {
				in.User = args[0]
			}
			if _, err := noticeSend.ask(c.Context(), cfg, in); err != nil {
				return err
			}
			done := "Sent"
			if all {
				done = "The server sends it to all users"
			}
			_, err = fmt.Fprintln(t.out, done)
			return err
		},
	}
	c.Flags().BoolVar(&all, "all", false, "send it to all users")
	return c
}
