package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"stoa/internal/cluster"
	"stoa/internal/server"
)

var clusterStatus = action[struct{}, cluster.Status]{"/cluster/status", func(ctx context.Context, s *server.Services, _ struct{}) (cluster.Status, error) {
	return cluster.ReadStatus(ctx, s.Store)
}}

func (t *terminal) clusterCommand() *cobra.Command {
	c := group(&cobra.Command{
		Use:     "cluster",
		Short:   "Look at the instances that share the database",
		Example: "  stoa cluster status",
	})
	c.AddCommand(t.clusterStatusCommand())
	return c
}

func (t *terminal) clusterStatusCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "List the instances: version, rooms, lag, who is stopping",
		Long: "Lists the live instances on the database: version, rooms in memory, how far each is\n" +
			"behind the stream, whether wake-ups reach it, who is stopping. Each tells this every\n" +
			"1.5 s. The same is on the admin listener as JSON: GET /cluster.",
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

func (t *terminal) printCluster(status cluster.Status) error {
	if !status.Shared {
		_, err := fmt.Fprintln(t.out, "The database is SQLite: there is one instance. Several need PostgreSQL (database)")
		return err
	}
	if len(status.Instances) == 0 {
		_, err := fmt.Fprintln(t.out, "No instance is running")
		return err
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "INSTANCE\tADDRESS\tVERSION\tSCHEMA\tSTARTED\tROOMS\tLAG\tWAKE-UPS\tSTATE") // errors come out of Flush
	for _, i := range status.Instances {
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
	return w.Flush()
}
