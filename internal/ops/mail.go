package ops

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"stoa/internal/email"
	"stoa/internal/mail"
	"stoa/internal/server"
	"stoa/matrix/mxerr"
)

// bouncesShown bounds the list of addresses whose mails came back.
const bouncesShown = 1000

type (
	mailTo struct {
		Address  string `json:"address"`
		Language string `json:"language"`
	}
	mailServer struct {
		Server string `json:"server"`
		From   string `json:"from"`
	}
	bounce struct {
		Address string    `json:"address"`
		Reason  string    `json:"reason"`
		Bounces int64     `json:"bounces"`
		Last    time.Time `json:"last"`
	}
	bounceList struct {
		Bounces []bounce `json:"bounces"`
	}
	mailHealth struct {
		mailServer
		TLS           string `json:"tls"`
		Authenticated bool   `json:"authenticated"`
		Error         string `json:"error"` // of the connection; empty = it worked
		Down          string `json:"down"`  // why mails wait, as the server sees it
		Left          int64  `json:"left"`  // -1: there is no budget
		Budget        int64  `json:"budget"`
		Bounces       int64  `json:"bounces"`
		Waiting       int64  `json:"waiting"`
		Aside         int64  `json:"aside"`
	}
)

var (
	mailTest = action[mailTo, mailServer]{"/mail/test", func(ctx context.Context, s *server.Services, in mailTo) (mailServer, error) {
		to, err := email.Parse(in.Address)
		if err != nil {
			return mailServer{}, mxerr.InvalidParam("%q is no email address: %s", in.Address, err)
		}
		if err := s.Mail.SendTest(ctx, to, in.Language); err != nil {
			return mailServer{}, adviseMail(err)
		}
		return mailServerOf(s), nil
	}}
	mailBounces = action[none, bounceList]{"/mail/bounces", func(ctx context.Context, s *server.Services, _ none) (out bounceList, err error) {
		list, err := s.Mail.Bounces(ctx, bouncesShown)
		for _, b := range list {
			out.Bounces = append(out.Bounces, bounce{b.Address, b.Reason, b.Bounces, time.UnixMilli(b.LastTS)})
		}
		return out, err
	}}
	doctorMail = action[none, mailHealth]{"/doctor/mail", func(ctx context.Context, s *server.Services, _ none) (out mailHealth, err error) {
		found, err := s.Mail.Check(ctx)
		if errors.Is(err, mail.ErrOff) {
			return out, adviseMail(err)
		}
		out.mailServer, out.TLS, out.Authenticated = mailServerOf(s), found.TLS, found.Authenticated
		if err != nil {
			out.Error = adviseMail(err).Error()
		}
		status, err := s.Mail.Status(ctx)
		if err != nil {
			return out, err
		}
		out.Down, out.Left, out.Budget, out.Bounces = status.Down, status.Left, status.Budget, status.Bounces
		out.Waiting, out.Aside = status.Waiting, status.Aside
		return out, nil
	}}
)

func mailServerOf(s *server.Services) mailServer {
	return mailServer{s.Config.MailSMTP.String(), string(s.Config.MailFrom)}
}

// adviseMail adds to an error of the mail server what to do.
func adviseMail(err error) error {
	if errors.Is(err, mail.ErrOff) {
		return mxerr.New(http.StatusConflict, mxerr.CodeUnknown, "This server sends no mail. Set STOA_MAIL_SMTP=smtp://user:password@host:587 and STOA_MAIL_FROM, and restart it")
	}
	text := err.Error()
	for _, hint := range []struct{ part, advice string }{
		{"no such host", "The name of the mail server is unknown: check the host in mail_smtp"},
		{"connection refused", "Nothing listens there: check host and port in mail_smtp (587 for smtp://, 465 for smtps://), and the firewall"},
		{"i/o timeout", "The mail server does not answer: many networks block port 25; use 587 or 465"},
		{"deadline exceeded", "The mail server does not answer: many networks block port 25; use 587 or 465"},
		{"does not support STARTTLS", "The connection would not be encrypted. Use smtps:// with the port for TLS, or add ?tls=optional to mail_smtp in a network that you trust"},
		{"first record does not look like a TLS handshake", "The port speaks no TLS from the first byte: use smtp:// instead of smtps://"},
		{"certificate", "The certificate of the mail server is not trusted, or for another name: use the name in it, or add its authority to those of the system"},
		{"does not support SMTP AUTH", "The mail server wants no user and password: leave them out of mail_smtp"},
		{"SMTP AUTH failed", "The mail server refuses user or password: check them in mail_smtp; special characters are written as %XX"},
		{"MAIL FROM", "The mail server refuses the sender: check mail_from, which most servers allow only for addresses of the user"},
	} {
		if strings.Contains(text, hint.part) {
			return mxerr.New(http.StatusBadGateway, mxerr.CodeUnknown, "%s\n%s", text, hint.advice)
		}
	}
	return mxerr.New(http.StatusBadGateway, mxerr.CodeUnknown, "%s", text)
}

func (t *terminal) mailCommand() *cobra.Command {
	c := group(&cobra.Command{
		Use:     "mail",
		Short:   "Try out mail, and see what came back",
		Example: "  stoa mail test alice@example.org\n  stoa mail bounces",
	})
	c.AddCommand(t.mailTestCommand(), t.mailBouncesCommand())
	return c
}

func (t *terminal) mailTestCommand() *cobra.Command {
	var in mailTo
	c := &cobra.Command{
		Use:     "test ADDRESS",
		Short:   "Send a test mail",
		Long:    "Sends a test mail at once, through the mail server of the settings. It does not count\nagainst the budget. If it can't be sent, the error says why and what to do.",
		Example: "  stoa mail test alice@example.org",
		Args:    oneArgument("the address to send to"),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			in.Address = args[0]
			sent, err := mailTest.ask(c.Context(), cfg, in)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(t.out, "%s has accepted a test mail from %s to %s\nIf it does not arrive, look into the spam folder, and at the SPF and DKIM records of the sender's domain.\n",
				sent.Server, sent.From, in.Address)
			return err
		},
	}
	c.Flags().StringVar(&in.Language, "language", mail.Languages[0], "language of the mail: "+strings.Join(mail.Languages, ", "))
	return c
}

func (t *terminal) mailBouncesCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "bounces",
		Short:   "List the addresses whose mails came back",
		Long:    "Lists the addresses that the mail server refused, or that were reported to\n/_stoa/mail/bounces, in the last 90 days. They get no notifications until their owner\nconfirms them again.",
		Example: "  stoa mail bounces",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			all, err := mailBounces.ask(c.Context(), cfg, none{})
			if err != nil {
				return err
			}
			if len(all.Bounces) == 0 {
				_, err := fmt.Fprintln(t.out, "No mail came back")
				return err
			}
			w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ADDRESS\tMAILS\tLAST\tREASON") // Flush returns the errors
			for _, b := range all.Bounces {
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", b.Address, b.Bounces, b.Last.UTC().Format(time.RFC3339), b.Reason)
			}
			return w.Flush()
		},
	}
}

func (t *terminal) doctorMailCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "mail",
		Short:   "Check the mail server and the outbox, without sending anything",
		Long:    "Connects to the mail server, encrypts the connection and logs in, as for a mail, and\nsays how many mails wait and how many may still be sent. The exit status is 1 if no\nmail could be sent.",
		Example: "  stoa doctor mail",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			h, err := doctorMail.ask(c.Context(), cfg, none{})
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
			for _, line := range h.lines() {
				fmt.Fprintf(w, "%s:\t%s\n", line[0], line[1]) // Flush returns the errors
			}
			if err := w.Flush(); err != nil {
				return err
			}
			if h.Error != "" {
				return fmt.Errorf("the mail server can't be used: %s", h.Error)
			}
			return nil
		},
	}
}

// lines are the lines of the report: name and value.
func (h mailHealth) lines() [][2]string {
	connection := "failed, see below"
	if h.Error == "" {
		connection = "not encrypted"
		if h.TLS != "" {
			connection = "encrypted with " + h.TLS
		}
		if h.Authenticated {
			connection += ", user and password accepted"
		}
	}
	budget := "no limit (mail_budget is off)"
	switch {
	case h.Left == 0:
		budget = fmt.Sprintf("all %d mails are sent; the next ones wait, or raise mail_budget", h.Budget)
	case h.Left > 0:
		budget = fmt.Sprintf("%d of %d mails left", h.Left, h.Budget)
	}
	waiting := fmt.Sprintf("%d mails wait", h.Waiting)
	if h.Aside > 0 {
		waiting += fmt.Sprintf(", %d were set aside ('stoa jobs list')", h.Aside)
	}
	if h.Down != "" {
		waiting += ", since the last attempt to send failed"
	}
	return [][2]string{
		{"Mail server", h.Server}, {"Sender", h.From}, {"Connection", connection}, {"Budget", budget}, {"Outbox", waiting},
		{"Came back", fmt.Sprintf("mails to %d addresses in 90 days ('stoa mail bounces')", h.Bounces)},
	}
}
