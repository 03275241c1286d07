package ops

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"stoa/internal/account"
	"stoa/internal/server"
	"stoa/internal/store"
	"stoa/matrix/mxerr"
)

type (
	newToken struct {
		Name    string        `json:"name"`
		Uses    int64         `json:"uses"`
		ValidNS time.Duration `json:"valid_ns"` // 0 = no end
	}
	madeToken struct {
		Token string `json:"token"`
	}
	shownToken struct {
		Name    string    `json:"name"`
		Allowed int64     `json:"allowed"`
		Used    int64     `json:"used"`
		Expires time.Time `json:"expires"`
	}
	tokens struct {
		Tokens []shownToken `json:"tokens"`
	}
	tokenName struct {
		Name string `json:"name"`
	}
	nothing struct{}
)

var (
	tokenCreate = action[newToken, madeToken]{"/registration-token/create", func(ctx context.Context, s *server.Services, in newToken) (madeToken, error) {
		t := account.RegistrationToken{Name: in.Name, UsesAllowed: in.Uses}
		if in.ValidNS > 0 {
			t.Expires = time.Now().Add(in.ValidNS)
		}
		token, err := s.Accounts.CreateRegistrationToken(ctx, t, "")
		return madeToken{token}, err
	}}
	tokenList = action[nothing, tokens]{"/registration-token/list", func(ctx context.Context, s *server.Services, _ nothing) (tokens, error) {
		all, err := s.Accounts.RegistrationTokens(ctx)
		out := tokens{Tokens: make([]shownToken, len(all))}
		for i, t := range all {
			out.Tokens[i] = shownToken{t.Name, t.UsesAllowed, t.Used, t.Expires}
		}
		return out, err
	}}
	tokenRevoke = action[tokenName, nothing]{"/registration-token/revoke", func(ctx context.Context, s *server.Services, in tokenName) (nothing, error) {
		err := s.Accounts.RevokeRegistrationToken(ctx, in.Name)
		if errors.Is(err, store.ErrNotFound) {
			return nothing{}, mxerr.NotFound("There is no registration token named %s; 'stoa registration-token list' shows all", in.Name)
		}
		return nothing{}, err
	}}
)

func (t *terminal) registrationTokenCommand() *cobra.Command {
	c := group(&cobra.Command{
		Use:     "registration-token",
		Short:   "Create, list and revoke registration tokens",
		Long:    "With a registration token, people can create an account when the setting registration is 'token'.",
		Example: "  stoa registration-token create --uses 10 summer-school",
	})
	c.AddCommand(t.tokenCreateCommand(), t.tokenListCommand(), t.tokenRevokeCommand())
	return c
}

func (t *terminal) tokenCreateCommand() *cobra.Command {
	var in newToken
	c := &cobra.Command{
		Use:     "create NAME",
		Short:   "Create a registration token; NAME identifies it in the list",
		Example: "  stoa registration-token create --uses 10 --valid 168h summer-school",
		Args:    oneArgument("a name for the token"),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			in.Name = args[0]
			made, err := tokenCreate.ask(c.Context(), cfg, in)
			if err != nil {
				return err
			}
			fmt.Fprintf(t.out, "Registration token, shown only now: %s\n", made.Token)
			return nil
		},
	}
	c.Flags().Int64Var(&in.Uses, "uses", 1, "number of accounts that it can create; 0 for no limit")
	c.Flags().DurationVar(&in.ValidNS, "valid", 0, "how long it is valid, such as 72h; 0 for no limit")
	return c
}

func (t *terminal) tokenListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the registration tokens",
		Example: "  stoa registration-token list",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			all, err := tokenList.ask(c.Context(), cfg, nothing{})
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tUSED\tEXPIRES")
			for _, k := range all.Tokens {
				allowed, expires := "any number", "never"
				if k.Allowed > 0 {
					allowed = strconv.FormatInt(k.Allowed, 10)
				}
				if !k.Expires.IsZero() {
					expires = k.Expires.Local().Format(time.DateTime)
				}
				fmt.Fprintf(w, "%s\t%d of %s\t%s\n", k.Name, k.Used, allowed, expires)
			}
			return w.Flush()
		},
	}
}

func (t *terminal) tokenRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "revoke NAME",
		Short:   "Revoke the registration token with this name",
		Example: "  stoa registration-token revoke summer-school",
		Args:    oneArgument("the name of the token"),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			if _, err := tokenRevoke.ask(c.Context(), cfg, tokenName{args[0]}); err != nil {
				return err
			}
			fmt.Fprintf(t.out, "Revoked %s\n", args[0])
			return nil
		},
	}
}
