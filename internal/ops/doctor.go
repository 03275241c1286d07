package ops

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"stoa/internal/room"
	"stoa/internal/server"
	"stoa/internal/store"
	"stoa/internal/store/doctor"
)

// findingsShown bounds what one run of the doctor tells.
const findingsShown = 1000

type (
	storeCheck struct {
		Room string `json:"room"` // the only room to check; all of the store if empty
	}
	storeFindings struct {
		Findings []doctor.Finding `json:"findings"`
	}
)

var doctorStore = action[storeCheck, storeFindings]{"/doctor/store", func(ctx context.Context, s *server.Services, in storeCheck) (storeFindings, error) {
	found, err := doctor.Findings(ctx, s.Store, doctor.Options{Room: in.Room, Totals: room.CheckTotals}, findingsShown)
	return storeFindings{found}, err
}}

func (t *terminal) doctorCommand() *cobra.Command {
	c := group(&cobra.Command{
		Use:     "doctor",
		Short:   "Look for what is wrong",
		Example: "  stoa doctor store",
	})
	c.AddCommand(t.doctorStoreCommand())
	return c
}

func (t *terminal) doctorStoreCommand() *cobra.Command {
	var in storeCheck
	c := &cobra.Command{
		Use:   "store",
		Short: "Check every invariant of the store; changes nothing",
		Long: "Reads the whole store and names every invariant that it breaks. A running server\n" +
			"goes on meanwhile. The exit status is 1 if something was found.",
		Example: "  stoa doctor store\n  stoa doctor store --room '!abc:example.org'",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			all, err := doctorStore.ask(c.Context(), cfg, in)
			if errors.Is(err, store.ErrNotFound) {
				return fmt.Errorf("there is no room %s in the store", in.Room)
			}
			if err != nil {
				return err
			}
			for _, f := range all.Findings {
				fmt.Fprintln(t.out, f)
			}
			switch n := len(all.Findings); {
			case n == 0:
				fmt.Fprintln(t.out, "The store keeps all its invariants")
				return nil
			case n >= findingsShown:
				return fmt.Errorf("%d findings or more; the first are above. Keep a copy of the database before anything else", n)
			default:
				return fmt.Errorf("%d findings, above. Keep a copy of the database before anything else", n)
			}
		},
	}
	c.Flags().StringVar(&in.Room, "room", "", "check only the room of this ID")
	return c
}
