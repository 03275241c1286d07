package ops

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"stoa/internal/media"
	"stoa/internal/server"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

type (
	// mediaSelection names media: an address, what a user has uploaded, or what a room
	// names. The other fields are empty.
	mediaSelection struct {
		URI  string `json:"uri,omitempty"`
		User string `json:"user,omitempty"`
		Room string `json:"room,omitempty"`
	}
	quarantineChange struct {
		mediaSelection
		Release bool `json:"release"`
	}
	quarantineChanged struct {
		Changed int `json:"changed"`
	}
	mediaPage struct {
		mediaSelection
		Quarantined bool     `json:"quarantined"`
		After       media.At `json:"after"`
		Limit       int      `json:"limit"`
	}
	mediaRow struct {
		URI         string    `json:"uri"`
		Type        string    `json:"type"`
		Name        string    `json:"name"`
		Size        int64     `json:"size"`
		Uploaded    time.Time `json:"uploaded"`
		Quarantined bool      `json:"quarantined"`
	}
	mediaRows struct {
		Media []mediaRow `json:"media"`
		Next  media.At   `json:"next"`
	}
)

// maxMediaPage bounds the media in one answer of the control socket.
const maxMediaPage = 500

var (
	mediaQuarantine = action[quarantineChange, quarantineChanged]{"/media/quarantine", func(ctx context.Context, s *server.Services, in quarantineChange) (out quarantineChanged, err error) {
		m, err := s.Media()
		if err != nil {
			return out, err
		}
		sel, err := in.parse(ctx, s)
		if err != nil {
			return out, err
		}
		out.Changed, err = m.Quarantine(ctx, sel, !in.Release)
		return out, err
	}}
	mediaList = action[mediaPage, mediaRows]{"/media/list", func(ctx context.Context, s *server.Services, in mediaPage) (out mediaRows, err error) {
		m, err := s.Media()
		if err != nil {
			return out, err
		}
		sel := media.Selection{Quarantined: true}
		if !in.Quarantined {
			if sel, err = in.parse(ctx, s); err != nil {
				return out, err
			}
		}
		list, next, err := m.List(ctx, sel, in.After, min(max(in.Limit, 1), maxMediaPage))
		out.Next = next
		for _, l := range list {
			out.Media = append(out.Media, mediaRow{l.URI.String(), l.Type, l.Name, l.Size, l.Uploaded, l.Quarantined})
		}
		return out, err
	}}
)

// parse turns the words of a command into a selection.
func (m mediaSelection) parse(ctx context.Context, s *server.Services) (sel media.Selection, err error) {
	switch {
	case m.User != "":
		a, err := named(ctx, s, m.User)
		return media.Selection{User: a.UserID}, err
	case m.Room != "":
		sel.Room, err = id.ParseRoomID(m.Room)
		if err != nil {
			err = mxerr.InvalidParam("%q is not a room ID", m.Room)
		}
		return sel, err
	}
	rest, isURI := strings.CutPrefix(m.URI, "mxc://")
	origin, mediaID, hasBoth := strings.Cut(rest, "/")
	if !isURI || !hasBoth {
		return sel, mxerr.InvalidParam("%q is not an address like mxc://example.org/abc", m.URI)
	}
	sel.URI, err = media.ParseURI(origin, mediaID)
	return sel, err
}

func (t *terminal) mediaCommand() *cobra.Command {
	c := group(&cobra.Command{
		Use:     "media",
		Short:   "List uploads, and quarantine them",
		Example: "  stoa media list --user alice\n  stoa media quarantine mxc://example.org/abc",
	})
	c.AddCommand(t.mediaListCommand(),
		t.quarantineCommand("quarantine", "Stop serving uploads, and keep them", "Quarantined",
			"Stops serving uploads: everybody gets 404, also for other uploads of the same content.\nThe content is kept until it is released, and nothing else deletes it.", false),
		t.quarantineCommand("release", "Serve uploads again that were quarantined", "Released",
			"Serves uploads again that were quarantined.", true))
	return c
}

// selectionFlags adds the flags that select media to a command.
func selectionFlags(c *cobra.Command, s *mediaSelection) {
	c.Flags().StringVar(&s.User, "user", "", "everything that this user has uploaded")
	c.Flags().StringVar(&s.Room, "room", "", "everything of this server that unencrypted events of this room name (room ID)")
}

func (t *terminal) quarantineCommand(verb, short, done, long string, release bool) *cobra.Command {
	var s mediaSelection
	c := &cobra.Command{
		Use:     verb + " [MXC...]",
		Short:   short,
		Long:    long,
		Example: "  stoa media " + verb + " mxc://example.org/abc\n  stoa media " + verb + " --user alice\n  stoa media " + verb + " --room '!abc:example.org'",
		Args: func(_ *cobra.Command, args []string) error {
			if n := given(s.User, s.Room); n > 1 || (n == 1) == (len(args) > 0) {
				return errors.New("give addresses, --user or --room")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			all := []mediaSelection{s}
			if len(args) > 0 {
				all = nil
				for _, uri := range args {
					all = append(all, mediaSelection{URI: uri})
				}
			}
			changed := 0
			for _, one := range all {
				out, err := mediaQuarantine.ask(c.Context(), cfg, quarantineChange{one, release})
				if err != nil {
					return err
				}
				changed += out.Changed
			}
			_, err = fmt.Fprintf(t.out, "%s %d files\n", done, changed)
			return err
		},
	}
	selectionFlags(c, &s)
	return c
}

// given counts the texts that are not empty.
func given(texts ...string) (n int) {
	for _, s := range texts {
		if s != "" {
			n++
		}
	}
	return n
}

func (t *terminal) mediaListCommand() *cobra.Command {
	var p mediaPage
	c := &cobra.Command{
		Use:     "list",
		Short:   "List uploads of a user or a room, or those in quarantine, newest first",
		Example: "  stoa media list --user alice\n  stoa media list --room '!abc:example.org'\n  stoa media list --quarantined",
		Args: func(_ *cobra.Command, args []string) error {
			if n := given(p.User, p.Room); len(args) > 0 || n > 1 || (n == 1) == p.Quarantined {
				return errors.New("give one of --user, --room and --quarantined")
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := t.settings()
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
			left, rows := p.Limit, 0
			for left > 0 {
				p.Limit = min(left, maxMediaPage)
				page, err := mediaList.ask(c.Context(), cfg, p)
				if err != nil {
					return err
				}
				for _, m := range page.Media {
					if rows == 0 {
						fmt.Fprintln(w, "ADDRESS\tSIZE\tUPLOADED\tTYPE\tNAME\tSTATE") // Flush returns the errors
					}
					state := ""
					if m.Quarantined {
						state = "quarantined"
					}
					rows++
					fmt.Fprintf(w, "%s\t%d\t%s\t%q\t%q\t%s\n", m.URI, m.Size, m.Uploaded.UTC().Format(time.RFC3339), m.Type, m.Name, state)
				}
				left -= p.Limit
				if p.After = page.Next; p.After == (media.At{}) {
					break
				}
			}
			if rows == 0 {
				fmt.Fprintln(w, "There are none")
			}
			if left <= 0 && p.After != (media.At{}) {
				fmt.Fprintln(w, "There are more; --limit shows them")
			}
			return w.Flush()
		},
	}
	selectionFlags(c, &p.mediaSelection)
	c.Flags().BoolVar(&p.Quarantined, "quarantined", false, "everything in quarantine")
	c.Flags().IntVar(&p.Limit, "limit", 100, "at most so many")
	return c
}
