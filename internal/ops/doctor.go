package ops

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"stoa/internal/room"
	"stoa/internal/server"
	"stoa/internal/store"
	"stoa/internal/store/doctor"
	"stoa/matrix/mxerr"
)

// findingsShown bounds the findings that one run of the doctor prints.
const findingsShown = 1000

type (
	storeCheck struct {
		Room string `json:"room"` // the only room to check; empty = the whole store
	}
	storeFindings struct {
		Findings []doctor.Finding `json:"findings"`
	}
)

var doctorStore = action[storeCheck, storeFindings]{"/doctor/store", func(ctx context.Context, s *server.Services, in storeCheck) (storeFindings, error) {
	found, err := doctor.Findings(ctx, s.Store, doctor.Options{Room: in.Room, Totals: room.CheckTotals}, findingsShown)
	if errors.Is(err, store.ErrNotFound) {
		return storeFindings{}, mxerr.NotFound("There is no room %s in the store", in.Room)
	}
	return storeFindings{found}, err
}}

type eventQuery struct {
	RoomID  string `json:"room_id"`
	EventID string `json:"event_id"`
}

var doctorEvent = action[eventQuery, doctor.EventReport]{"/doctor/event", func(ctx context.Context, s *server.Services, in eventQuery) (doctor.EventReport, error) {
	report, err := doctor.Event(ctx, s.Store, in.RoomID, in.EventID)
	if errors.Is(err, store.ErrNotFound) {
		return report, mxerr.NotFound("The store has no event %s in room %s", in.EventID, in.RoomID)
	}
	return report, err
}}

func (t *terminal) doctorCommand() *cobra.Command {
	c := group(&cobra.Command{
		Use:     "doctor",
		Short:   "Find out what is wrong",
		Example: "  stoa doctor store\n  stoa doctor event '!abc:example.org' '$def'",
	})
	c.AddCommand(t.doctorStoreCommand(), t.doctorEventCommand(), t.doctorMailCommand(), t.doctorPushCommand())
	return c
}

func (t *terminal) doctorStoreCommand() *cobra.Command {
	var in storeCheck
	c := &cobra.Command{
		Use:   "store",
		Short: "Check every invariant of the database, without changing it",
		Long: "Reads the whole database and reports every broken invariant. A running server keeps\n" +
			"serving. The exit status is 1 if there are findings.",
		Example: "  stoa doctor store\n  stoa doctor store --room '!abc:example.org'",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			all, err := doctorStore.ask(c.Context(), cfg, in)
			if err != nil {
				return err
			}
			for _, f := range all.Findings {
				fmt.Fprintln(t.out, f)
			}
			switch n := len(all.Findings); {
			case n == 0:
				fmt.Fprintln(t.out, "No invariant of the database is broken")
				return nil
			case n >= findingsShown:
				return fmt.Errorf("at least %d findings; the first ones are above. Make a copy of the database before you do anything else", n)
			default:
				return fmt.Errorf("%d findings, listed above. Make a copy of the database before you do anything else", n)
			}
		},
	}
	c.Flags().StringVar(&in.Room, "room", "", "check only the room with this ID")
	return c
}

func (t *terminal) doctorEventCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "event ROOM EVENT",
		Short: "Say why an event was accepted, rejected or soft-failed",
		Long: "Prints the room version, the verdict on an event, and the authorisation rule that\n" +
			"decided, numbered as in the specification of the room version. It shows no\n" +
			"content. ROOM and EVENT are IDs. Quote them: the shell interprets ! and $.",
		Example: "  stoa doctor event '!abc:example.org' '$def'",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			report, err := doctorEvent.ask(c.Context(), cfg, eventQuery{args[0], args[1]})
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
			for _, line := range reportLines(report) {
				fmt.Fprintf(w, "%s:\t%s\n", line[0], line[1]) // Flush returns the errors
			}
			return w.Flush()
		},
	}
}

// reportLines are the lines of a report on an event: name and value.
func reportLines(r doctor.EventReport) [][2]string {
	lines := [][2]string{
		{"Event", r.EventID},
		{"Room", r.RoomID},
		{"Room version", r.RoomVersion},
		{"Type", strconv.Quote(r.Type)},
	}
	add := func(name, value string) {
		if value != "" {
			lines = append(lines, [2]string{name, value})
		}
	}
	if r.StateKey != nil {
		add("State key", strconv.Quote(*r.StateKey))
	}
	add("Sender", r.Sender)
	add("Received", time.UnixMilli(r.ReceivedTS).UTC().Format(time.RFC3339))
	verdict := r.Verdict
	if r.Outlier {
		verdict += " (outlier: judged by its auth events alone, not in the timeline)"
	}
	add("Verdict", verdict)
	add("Rule", r.Rule)
	add("Reason", r.Reason)
	add("Redacted by", r.RedactedBy)
	if r.Replaced {
		add("Content", "replaced by the redacted form")
	}
	return lines
}
