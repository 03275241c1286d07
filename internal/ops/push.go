package ops

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"stoa/internal/push"
	"stoa/internal/server"
	"stoa/internal/store"
	"stoa/matrix/mxerr"
)

type pushQuery struct {
	User string `json:"user"`
}

var doctorPush = action[pushQuery, push.Diagnosis]{"/doctor/push", func(ctx context.Context, s *server.Services, in pushQuery) (push.Diagnosis, error) {
	found, err := s.Accounts.Named(ctx, in.User)
	if errors.Is(err, store.ErrNotFound) {
		return push.Diagnosis{}, mxerr.NotFound("There is no user %s", in.User)
	}
	if err != nil {
		return push.Diagnosis{}, err
	}
	return push.Diagnose(ctx, s.Store, s.Rules, found)
}}

func (t *terminal) doctorPushCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "push USER",
		Short: "Say why a user's phones get no notifications",
		Long: "Lists the user's pushers with the last answers of their gateways, and the reasons why\n" +
			"notifications don't arrive: no pusher, a gateway that fails, push rules that silence\n" +
			"rooms. It shows no content and no pushkeys. The exit status is 1 if there are reasons.",
		Example: "  stoa doctor push @alice:example.org",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			d, err := doctorPush.ask(c.Context(), cfg, pushQuery{args[0]})
			if err != nil {
				return err
			}
			for _, line := range d.Pushers {
				if _, err := fmt.Fprintf(t.out, "Pusher: %s\n", line); err != nil {
					return err
				}
			}
			for _, line := range d.Findings {
				if _, err := fmt.Fprintf(t.out, "%s\n", line); err != nil {
					return err
				}
			}
			if len(d.Findings) > 0 {
				return fmt.Errorf("%s has %d reasons for silence", d.UserID, len(d.Findings))
			}
			_, err = fmt.Fprintln(t.out, "Nothing is wrong: notifications should arrive.")
			return err
		},
	}
}
