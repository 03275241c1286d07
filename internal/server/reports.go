package server

import (
	"time"

	"stoa/internal/email"
	"stoa/internal/mail"
	"stoa/internal/report"
	"stoa/internal/store"
)

// reportLifetime is how long the mail about a report may wait for the mail server.
const reportLifetime = 7 * 24 * time.Hour

// newReports builds the queue of reports, which tells the addresses of the settings.
func (srv *Server) newReports() *report.Reports {
	s, to := srv.services, srv.opt.Config.ReportMail
	opt := report.Options{Store: s.Store, History: s.History}
	if len(to) > 0 {
		opt.Alert = func(c *store.Change, what, reporter, reason, reportID string) error {
			for _, text := range to {
				address, err := email.Parse(text)
				if err != nil {
					return err
				}
				values := map[string]string{"User": reporter, "What": what, "Reason": reason, "ID": reportID}
				if err := s.Mail.Enqueue(c, address, mail.TextReport, "", values, reportLifetime); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return report.New(opt)
}
