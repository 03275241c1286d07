package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"stoa/internal/server"
)

var clusterStatus = action[struct{}, server.Status]{"/cluster/status", func(ctx context.Context, s *server.Services, _ struct{}) (server.Status, error) {
	return s.Status(ctx)
}}

func (t *terminal) clusterCommand() *cobra.Command {
	c := group(&cobra.Command{
		Use:     "cluster",
		Short:   "Show the instances that share the database",
		Example: "  stoa cluster status",
	})
	c.AddCommand(t.clusterStatusCommand())
	return c
}

func (t *terminal) clusterStatusCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "List the instances: version, rooms, lag, state",
		Long: "Lists the live instances on the database: version, rooms in memory, how far each is\n" +
			"behind the stream, whether wake-ups reach it, and whether it is stopping. Instances\n" +
			"report this every 1.5 s. Then lists the readers of the stream with the owners of\n" +
			"their shards, and the waiting jobs; 'stoa jobs list' lists jobs that were set aside.\n" +
			"The admin listener has the same as JSON: GET /cluster.",
		Example: "  stoa cluster status\n  stoa cluster status --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			status, err := clusterStatus.ask(c.Context(), cfg, struct{}{})
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(t.out)
				e.SetIndent("", "  ")
				return e.Encode(status)
			}
			return t.printCluster(status)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (t *terminal) printCluster(status server.Status) error {
	names := map[int64]string{} // by lease
	switch {
	case !status.Shared:
		fmt.Fprintln(t.out, "The database is SQLite, so there is only one instance. Several instances need PostgreSQL (setting database)")
	case len(status.Instances) == 0:
		fmt.Fprintln(t.out, "No instance is running")
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	if len(status.Instances) > 0 {
		fmt.Fprintln(w, "INSTANCE\tADDRESS\tVERSION\tSCHEMA\tSTARTED\tROOMS\tLAG\tWAKE-UPS\tSTATE") // Flush returns the errors
	}
	for _, i := range status.Instances {
		names[i.Lease] = i.Name
		state, bus := "serving", "arrive"
		if i.Draining {
			state = "stopping"
		}
		if !i.Bus {
			bus = "fail"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%d\t%d ms\t%s\t%s\n", i.Name, i.Address, i.Version, i.Schema,
			time.UnixMilli(i.StartedTS).UTC().Format(time.RFC3339), i.Rooms, i.LagMS, bus, state)
	}
	if len(status.Readers) > 0 {
		fmt.Fprintln(w, "\nREADER\tSHARDS\tOWNERS\tLAG\tSET ASIDE")
	}
	for _, r := range status.Readers {
		fmt.Fprintf(w, "%s\t%d\t%s\t%d ms\t%d\n", r.Name, r.Shards, owners(r.Owners, names), r.LagMS, r.Aside)
	}
	if len(status.Jobs) > 0 {
		fmt.Fprintln(w, "\nJOB\tWAITING\tRUNNING\tLATE\tSET ASIDE")
	}
	for _, j := range status.Jobs {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d ms\t%d\n", j.Kind, j.Waiting, j.Running, j.LateMS, j.Aside)
	}
	return w.Flush()
}

// owners lists how many shards each instance has. Shards of dead instances belong to
// nobody.
func owners(shards map[int64]int, names map[int64]string) string {
	counts := map[string]int{}
	for lease, n := range shards {
		name := names[lease]
		switch {
		case name == "" && lease < 0:
			name = "this instance" // on SQLite
		case name == "":
			name = "nobody"
		}
		counts[name] += n
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, fmt.Sprintf("%s: %d", name, counts[name]))
	}
	return strings.Join(list, ", ")
}
