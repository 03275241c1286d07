package ops

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"stoa/internal/search"
	"stoa/internal/server"
)

var (
	searchRebuild = action[none, none]{"/search/rebuild", func(ctx context.Context, s *server.Services, _ none) (none, error) {
		return none{}, search.Rebuild(ctx, s.Store)
	}}
	searchProgress = action[none, search.Progress]{"/search/progress", func(ctx context.Context, s *server.Services, _ none) (search.Progress, error) {
		return search.ReadProgress(ctx, s.Store)
	}}
)

func searchCommand(t *terminal) *cobra.Command {
	c := group(&cobra.Command{
		Use:     "search",
		Short:   "Manage the index by which messages are found",
		Long:    "The server keeps an index of the words of all unencrypted messages, room names and topics.",
		Example: "  stoa search rebuild",
	})
	c.AddCommand(searchRebuildCommand(t))
	return c
}

func searchRebuildCommand(t *terminal) *cobra.Command {
	var detach bool
	c := &cobra.Command{
		Use:   "rebuild",
		Short: "Delete the index of messages and build it again",
		Long: "Deletes the index of messages and builds it again, and shows how far it is. The server\n" +
			"does the work; people can search meanwhile, but find less. If you stop this command,\n" +
			"the work continues. If no server runs, it begins with the next start.",
		Example: "  stoa search rebuild\n  stoa search rebuild --detach",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			if _, err := searchRebuild.ask(c.Context(), cfg, none{}); err != nil {
				return err
			}
			if detach {
				_, err := fmt.Fprintln(t.out, "The server rebuilds the index")
				return err
			}
			return t.followRebuild(c.Context(), func(ctx context.Context) (search.Progress, error) {
				return searchProgress.ask(ctx, cfg, none{})
			})
		},
	}
	c.Flags().BoolVar(&detach, "detach", false, "don't wait for the end")
	return c
}

// rebuildStarts is how long a rebuild may take to begin before the command says so.
const rebuildStarts = 10 * time.Second

// followRebuild prints the progress of a rebuild once a second until it ends.
func (t *terminal) followRebuild(ctx context.Context, progress func(context.Context) (search.Progress, error)) error {
	began, last := time.Now(), ""
	for {
		at, err := progress(ctx)
		if err != nil {
			return err
		}
		line := rebuildLine(at, time.Since(began))
		if line != last {
			if _, err := fmt.Fprintln(t.out, line); err != nil {
				return err
			}
			last = line
		}
		switch {
		case at.Ended:
			return nil
		case at.Done == 0 && !at.Began && time.Since(began) > rebuildStarts:
			_, err := fmt.Fprintln(t.out, "No server has begun yet. The index will be rebuilt when one runs.")
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func rebuildLine(at search.Progress, took time.Duration) string {
	switch {
	case at.Ended:
		return "The index is complete"
	case !at.Began:
		return "Waiting for the server"
	case at.Dropping:
		return "Deleting the old index"
	case at.Of == 0 || at.Done == 0:
		return "Indexing"
	}
	done := float64(at.Done) / float64(at.Of)
	left := time.Duration(float64(took) * (1 - done) / done).Round(time.Second)
	return fmt.Sprintf("Indexing: %.0f %%, about %s left", 100*done, left)
}
