package ops

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"stoa/internal/report"
	"stoa/internal/server"
	"stoa/internal/store"
	"stoa/internal/store/reportdb"
	"stoa/matrix/mxerr"
)

type (
	whichReports struct {
		Closed bool `json:"closed"`
	}
	reportsList struct {
		Reports []reportdb.Report `json:"reports"`
	}
	reportID struct {
		ID string `json:"id"`
	}
)

var (
	reportList = action[whichReports, reportsList]{"/report/list", func(ctx context.Context, s *server.Services, in whichReports) (reportsList, error) {
		list, err := report.List(ctx, s.Store, in.Closed)
		return reportsList{list}, err
	}}
	reportShow = action[reportID, reportdb.Report]{"/report/show", func(ctx context.Context, s *server.Services, in reportID) (reportdb.Report, error) {
		r, err := report.Show(ctx, s.Store, in.ID)
		return r, adviseReport(err, in.ID)
	}}
	reportHandle = action[report.Handling, none]{"/report/handle", func(ctx context.Context, s *server.Services, in report.Handling) (none, error) {
		return none{}, adviseReport(report.Handle(ctx, s.Store, in), in.ID)
	}}
)

func adviseReport(err error, id string) error {
	if errors.Is(err, store.ErrNotFound) {
		return mxerr.NotFound("There is no open report %s; 'stoa report list' shows all", id)
	}
	return err
}

func reportCommand(t *terminal) *cobra.Command {
	c := group(&cobra.Command{
		Use:     "report",
		Short:   "Handle what users report: events, rooms and users",
		Long:    "Users report messages, rooms and other users to the administrators of their server.\nThese commands list and close the reports. The setting report_mail sends them by mail.",
		Example: "  stoa report list\n  stoa report close K3V7Q2MDTA --note \"spam, account locked\"",
	})
	c.AddCommand(
		reportListCommand(t),
		reportShowCommand(t),
		reportHandleCommand(t, "assign", "Note who handles a report", false),
		reportHandleCommand(t, "close", "Close a report", true),
	)
	return c
}

func reportListCommand(t *terminal) *cobra.Command {
	var closed bool
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the open reports, oldest first",
		Example: "  stoa report list\n  stoa report list --closed",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			all, err := reportList.ask(c.Context(), cfg, whichReports{closed})
			if err != nil {
				return err
			}
			if len(all.Reports) == 0 {
				_, err := fmt.Fprintln(t.out, "There are no such reports")
				return err
			}
			w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tTIME\tBY\tREPORTED\tASSIGNED\tREASON") // Flush returns the errors
			for _, r := range all.Reports {
				reason, _, _ := strings.Cut(r.Reason, "\n")
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%.60s\n", r.ID, timeOf(r.CreatedTS), r.ReporterID, reportedThing(r), r.Assignee, reason)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			if len(all.Reports) == report.Shown {
				_, err = fmt.Fprintf(t.out, "There may be more; these are the first %d.\n", report.Shown)
			}
			return err
		},
	}
	c.Flags().BoolVar(&closed, "closed", false, "list the closed reports, last closed first")
	return c
}

func timeOf(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// reportedThing names what was reported: an event, a room or a user.
func reportedThing(r reportdb.Report) string {
	switch {
	case r.EventID != "":
		return "event of " + r.Reported
	case r.RoomID != "":
		return r.RoomID
	}
	return r.Reported
}

func reportShowCommand(t *terminal) *cobra.Command {
	return &cobra.Command{
		Use:     "show ID",
		Short:   "Show a report, with the event as its reporter saw it",
		Example: "  stoa report show K3V7Q2MDTA",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			r, err := reportShow.ask(c.Context(), cfg, reportID{args[0]})
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
			for _, line := range [][2]string{
				{"Report", r.ID}, {"Time", timeOf(r.CreatedTS)}, {"By", r.ReporterID}, {"Room", r.RoomID}, {"Event ID", r.EventID},
				{"Reported user", r.Reported}, {"Reason", r.Reason}, {"Assigned to", r.Assignee}, {"Note", r.Note}, {"Event", string(r.Event)},
			} {
				if line[1] != "" {
					fmt.Fprintf(w, "%s:\t%s\n", line[0], line[1]) // Flush returns the errors
				}
			}
			if r.ClosedTS > 0 {
				fmt.Fprintf(w, "Closed:\t%s\n", timeOf(r.ClosedTS))
			}
			return w.Flush()
		},
	}
}

func reportHandleCommand(t *terminal, verb, short string, closes bool) *cobra.Command {
	var in report.Handling
	c := &cobra.Command{
		Use:     verb + " ID",
		Short:   short,
		Example: "  stoa report " + verb + " K3V7Q2MDTA --to anna",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if in.ID, in.Close = args[0], closes; !closes && in.Assignee == "" && in.Note == "" {
				return errors.New("give --to or --note")
			}
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			_, err = reportHandle.ask(c.Context(), cfg, in)
			return err
		},
	}
	c.Flags().StringVar(&in.Assignee, "to", "", "who handles the report")
	c.Flags().StringVar(&in.Note, "note", "", "a note for other administrators")
	return c
}
