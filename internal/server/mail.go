package server

import (
	"stoa/internal/mail"
)

// newMailer builds what sends mail; without a mail server in the settings, it sends none.
func newMailer(s *Services, opt Options) (*mail.Mailer, error) {
	cfg := opt.Config
	return mail.New(mail.Options{
		Store: s.Store,
		Server: mail.Server{
			Host: cfg.MailSMTP.Host, Port: cfg.MailSMTP.Port, ImplicitTLS: cfg.MailSMTP.ImplicitTLS, OptionalTLS: cfg.MailSMTP.OptionalTLS,
			User: cfg.MailSMTP.User, Password: cfg.MailSMTP.Password.Reveal(),
		},
		From: string(cfg.MailFrom), ServerName: cfg.ServerName, PublicURL: cfg.PublicURL, SecretKey: cfg.SecretKey.Reveal(),
		BudgetCount: cfg.MailBudget.Count, BudgetPer: cfg.MailBudget.Per, Clock: opt.Clock, Log: opt.Log,
	})
}
