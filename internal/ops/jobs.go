package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"stoa/internal/reader"
	"stoa/internal/server"
	"stoa/matrix/mxerr"
)

type (
	// setAside lists the rows and jobs that were set aside.
	setAside struct {
		Entries []reader.Aside `json:"entries"`
	}
	none struct{}
)

var (
	jobsList = action[none, setAside]{"/jobs/list", func(ctx context.Context, s *server.Services, _ none) (setAside, error) {
		list, err := reader.ListAside(ctx, s.Store)
		return setAside{list}, err
	}}
	jobsRetry = action[reader.Aside, none]{"/jobs/retry", func(ctx context.Context, s *server.Services, in reader.Aside) (none, error) {
		return none{}, adviseAside(reader.Retry(ctx, s.Store, in))
	}}
	jobsDiscard = action[reader.Aside, none]{"/jobs/discard", func(ctx context.Context, s *server.Services, in reader.Aside) (none, error) {
		return none{}, adviseAside(reader.Discard(ctx, s.Store, in))
	}}
)

func adviseAside(err error) error {
	if errors.Is(err, reader.ErrNotFound) {
		return mxerr.NotFound("No such entry was set aside; 'stoa jobs list' lists all entries")
	}
	return err
}

func (t *terminal) jobsCommand() *cobra.Command {
	c := group(&cobra.Command{
		Use:     "jobs",
		Short:   "Manage background work that failed too often",
		Long:    "The server retries background work that fails, and sets it aside after too many failures.\nThese commands list that work, retry it, or discard it. 'stoa cluster status' counts\nthe work that waits.",
		Example: "  stoa jobs list\n  stoa jobs retry --all",
	})
	c.AddCommand(t.jobsListCommand(),
		t.jobsResolveCommand("retry", "Retry work that was set aside", "Will be retried", jobsRetry),
		t.jobsResolveCommand("discard", "Discard work that was set aside; it is never done", "Discarded", jobsDiscard))
	return c
}

func (t *terminal) jobsListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the work that was set aside, with the last error",
		Example: "  stoa jobs list",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			all, err := jobsList.ask(c.Context(), cfg, none{})
			if err != nil {
				return err
			}
			if len(all.Entries) == 0 {
				_, err := fmt.Fprintln(t.out, "Nothing was set aside")
				return err
			}
			w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "WORK\tENTRY\tTRIES\tSINCE\tERROR") // Flush returns the errors
			for _, a := range all.Entries {
				work, entry := namesOf(a)
				text, _, _ := strings.Cut(a.Error, "\n")
				if a.Retry {
					text = "to be retried: " + text
				}
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", work, entry, a.Tries, a.Since.UTC().Format(time.RFC3339), text)
			}
			return w.Flush()
		},
	}
}

// namesOf returns the two words that name a row or job in commands: the kind and key of a
// job, or reader/shard and position.
func namesOf(a reader.Aside) (work, entry string) {
	if a.Kind != "" {
		return a.Kind, strconv.Quote(a.Key)
	}
	return a.Reader + "/" + strconv.Itoa(a.Shard), strconv.FormatInt(a.Pos, 10)
}

// asideNamed parses the two words.
func asideNamed(work, entry string) (reader.Aside, error) {
	name, shard, isRow := strings.Cut(work, "/")
	if !isRow {
		if key, err := strconv.Unquote(entry); err == nil {
			entry = key
		}
		return reader.Aside{Kind: work, Key: entry}, nil
	}
	n, err := strconv.Atoi(shard)
	pos, perr := strconv.ParseInt(entry, 10, 64)
	if errors.Join(err, perr) != nil {
		return reader.Aside{}, fmt.Errorf("there is no entry %s %s; 'stoa jobs list' shows the two words of each entry", work, entry)
	}
	return reader.Aside{Reader: name, Shard: n, Pos: pos}, nil
}

func (t *terminal) jobsResolveCommand(verb, short, done string, do action[reader.Aside, none]) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:     verb + " WORK ENTRY",
		Short:   short,
		Long:    short + ". WORK and ENTRY are the first two\ncolumns of 'stoa jobs list'; --all takes all entries of that list.",
		Example: "  stoa jobs " + verb + " room.profile @alice:example.org\n  stoa jobs " + verb + " --all",
		Args: func(c *cobra.Command, args []string) error {
			if all != (len(args) == 0) || len(args) != 0 && len(args) != 2 {
				return errors.New("give the first two columns of 'stoa jobs list', or --all")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			var list []reader.Aside
			if all {
				found, err := jobsList.ask(c.Context(), cfg, none{})
				if err != nil {
					return err
				}
				// Jobs that share a kind and key are one entry.
				list = slices.CompactFunc(found.Entries, func(a, b reader.Aside) bool { return a.Kind != "" && a.Kind == b.Kind && a.Key == b.Key })
			} else {
				one, err := asideNamed(args[0], args[1])
				if err != nil {
					return err
				}
				list = []reader.Aside{one}
			}
			for _, a := range list {
				work, entry := namesOf(a)
				if _, err := do.ask(c.Context(), cfg, a); err != nil && !(all && mxerr.Is(err, mxerr.CodeNotFound)) {
					return fmt.Errorf("%s %s: %w", work, entry, err)
				}
				fmt.Fprintf(t.out, "%s: %s %s\n", done, work, entry)
			}
			if len(list) == 0 {
				fmt.Fprintln(t.out, "Nothing was set aside")
			}
			return nil
		},
	}
	c.Flags().BoolVar(&all, "all", false, "all entries that were set aside")
	return c
}
